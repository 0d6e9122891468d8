from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from rarefy.pipeline.sweep import file as sweep_file
from rarefy.pipeline.sweep.file import Question
from rarefy.pipeline.terms.errors import RecipeError
from tests.pipeline.sweep import factory


def test_a_sweep_has_its_recipe_and_asks_three_questions(tmp_path: Path) -> None:
    sweep = factory.load(tmp_path)

    assert sweep.file.combinations == 4
    assert [question.name for question in sweep.file.ask] == [
        *("fastest-within-1-point", "smallest-within-1-point", "most-accurate"),
    ]


def test_limits_are_read_with_their_units() -> None:
    asked = Question.model_validate({"maximize": "accuracy", "under": {"latency": "2 ms"}})

    assert asked.limits == {"latency": 2.0}
    assert asked.words() == "the most accurate under 2 ms"


def test_its_digest_is_of_values_not_of_questions(tmp_path: Path) -> None:
    first = factory.load(tmp_path)
    asked = factory.load(tmp_path, ask=[{"maximize": "accuracy"}])
    other = factory.load(tmp_path, vary={"distill.keep_layers": [1, 2, 3]})

    assert first.digest == asked.digest != other.digest
    turned = dict(reversed(factory.VARY.items()))  # its branches would have other names
    assert factory.load(tmp_path, vary=turned).digest != first.digest


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"vary": {}}, "sweep.yaml:.*vary: .*at least 1"),
        ({"vary": {"distill.keep_layers": []}}, "at least 1 item"),
        ({"vary": {"nothing.here": [0]}}, r"sweep.yaml:\d+: vary.nothing.here: no step"),
        (
            {"vary": {"distill.alpha": {"low": 0, "high": 1}}},
            r"sweep.yaml:\d+: vary.distill.alpha: a range needs 'search'",
        ),
        (
            {"vary": {"distill.alpha": {"low": 1, "high": 0}}, "search": {"trials": 2}},
            "low must be below high",
        ),
        (
            {
                "vary": {"distill.learning_rate": {"low": 0, "high": 1, "log": True}},
                "search": {"trials": 2},
            },
            "above 0",
        ),
        ({"vary": {"seed": list(range(1001))}}, "the limit is 1000"),
        (
            {"stop": [{"after": "destill", "points": 5}]},
            "no step of branches with a score, did you mean 'distill'",
        ),
        ({"stop": [{"after": "validate", "points": 5}]}, "no step of branches with a score"),
        ({"stop": [{"after": "more", "points": 5}]}, "'more' is no step of branches with"),
        ({"stop": [{"after": "distill", "min_accuracy": 70}]}, "less than or equal to 1"),
        (
            {"stop": [{"after": "distill", "points": "5 ms"}]},
            "'5 ms' is not a number of percentage points",
        ),
        (
            {"ask": [{"maximize": "accuracy", "under": {"latency": "10 MB"}}]},
            "is a size; expected a time",
        ),
        (
            {"ask": [{"maximize": "accuracy", "under": {"latenzy": "1 ms"}}]},
            "did you mean 'latency'",
        ),
        (
            {"vary": {"distill.keep_layers": 2}},
            r"sweep.yaml:\d+: .*vary.distill.keep_layers: give a list",
        ),
        ({"vary": {"seed": {"lo": 1, "high": 2}}}, "vary.seed.lo: unknown key"),
        ({"vary": {"validate.seconds": [10, 20]}}, "branches do not run 'validate'"),
        ({"stop": [{"after": "distill"}]}, "either points or min_accuracy"),
        ({"ask": [{"maximize": "accuracy", "within": "1 point"}]}, "'within' needs 'minimize'"),
        ({"serch": {"trials": 3}}, "did you mean 'search'"),
        ({"recipe": "missing.yaml"}, "no such recipe"),
    ],
)
def test_a_wrong_sweep_is_one_line_that_says_where(
    tmp_path: Path, given: dict[str, Any], says: str
) -> None:
    with pytest.raises(RecipeError, match=says) as caught:
        factory.load(tmp_path, **given)

    assert "\n" not in str(caught.value)


def test_rows_without_right_answers_choose_nothing(tmp_path: Path) -> None:
    path = factory.write(tmp_path)
    recipe = tmp_path / "base.yaml"
    recipe.write_text(
        recipe.read_text()
        .replace("eval: rows/eval.jsonl", "eval: rows/eval.jsonl, label: null")
        .replace("model: ", "task: sentence-embeddings\nmodel: ")
        .replace("accuracy, max_drop: 3 points", "size, max: 1 GB")
        .replace(", against: finetune", "")
    )

    with pytest.raises(RecipeError, match="no development rows"):
        sweep_file.load(path)


def test_the_schema_in_the_repository_is_that_of_the_code() -> None:
    kept = json.loads((Path(__file__).parents[3] / "schema" / "sweep.schema.json").read_text())

    assert kept == sweep_file.json_schema()


def test_a_list_is_no_sweep(tmp_path: Path) -> None:
    (tmp_path / "sweep.yaml").write_text("- 1\n")

    with pytest.raises(RecipeError, match=r"sweep.yaml:1: .*valid dictionary"):
        sweep_file.load(tmp_path / "sweep.yaml")


def test_a_search_among_documents_has_no_rows_to_choose_by(tmp_path: Path) -> None:
    path = factory.write(tmp_path)
    recipe = tmp_path / "base.yaml"
    recipe.write_text(
        recipe.read_text().replace("eval: rows", "corpus: rows/docs.jsonl, eval: rows")
    )

    with pytest.raises(RecipeError, match=r"sweep.yaml:\d+: recipe: .*no development rows"):
        sweep_file.load(path)
