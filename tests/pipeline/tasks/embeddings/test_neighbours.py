"""Texts alone: the truth is which texts are nearest by the recipe's own model."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from scipy.spatial import distance

from rarefy.pipeline.data.split import Split
from rarefy.pipeline.measure.predictions import files as answers
from rarefy.pipeline.measure.predictions import floor
from rarefy.pipeline.measure.statistics import scores
from rarefy.pipeline.release import compare as comparing
from rarefy.pipeline.release.bundles import find
from rarefy.pipeline.report import html
from rarefy.pipeline.run import outcome
from rarefy.pipeline.store.home import Home
from rarefy.pipeline.tasks import unlabelled
from rarefy.pipeline.tasks.embeddings.task import SENTENCE_EMBEDDINGS
from rarefy.pipeline.terms.errors import DataError, RecipeError
from rarefy.pipeline.terms.recipe_parts import Data
from tests.conftest import QUICK, execute
from tests.models import write_encoder, write_model
from tests.searches import TEXTS, write_texts

BARE = unlabelled.without_labels(SENTENCE_EMBEDDINGS)
TASK = BARE.bind((), 8, ("text",))
VALUES: dict[str, Any] = {"task": "sentence-embeddings", "data": TEXTS}
FILES = {"train": "t.jsonl", "eval": "e.jsonl", "label": None}


def split(count: int, labels: Any = None) -> Split:
    return Split("eval", "e.jsonl", "0", [f"text {at}" for at in range(count)], None, labels)


def test_one_text_column_alone_is_a_form_of_its_own() -> None:
    assert SENTENCE_EMBEDDINGS.reader.lacks_labels(Data(**FILES, text="a"))
    assert not SENTENCE_EMBEDDINGS.reader.lacks_labels(
        Data(**FILES, text=("a", "b"), corpus="c.jsonl")
    )
    assert not SENTENCE_EMBEDDINGS.reader.lacks_labels(
        Data(**FILES | {"label": "s"}, text=("a", "b"))
    )
    assert unlabelled.for_data(SENTENCE_EMBEDDINGS, Data(**FILES, text="a")) == BARE


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"corpus": "c.jsonl"}, r"^data.corpus: not used by single texts; a search needs two"),
        ({"negatives": "n"}, r"^data.negatives: not used by single texts"),
        ({"label": "s"}, r"^data.text: .* takes two columns.*; texts alone need label: null"),
        ({"text": ("a", "b")}, r"^data.corpus is missing: .*; for texts alone, name one column"),
    ],
)
def test_what_texts_alone_cannot_have_is_refused(changes, message) -> None:
    with pytest.raises(DataError, match=message):
        SENTENCE_EMBEDDINGS.reader.target_columns(Data(**(FILES | {"text": "a"} | changes)))


def nearest(vectors: Any) -> list[list[int]]:
    """Return the ten nearest other rows by scipy's cosine distance."""
    apart = distance.cdist(vectors, vectors, "cosine")
    np.fill_diagonal(apart, np.inf)
    return [list(np.argsort(row)[: min(10, len(vectors) - 1)]) for row in apart]


@pytest.mark.parametrize("count", [4, 40])
def test_the_truth_is_the_ten_nearest_other_texts(count: int) -> None:
    vectors = np.random.default_rng(3).normal(size=(count, 6))
    kept = TASK.scorer.retained(vectors, split(count))
    assert kept.shape == (count, 10)
    targets = TASK.objective.targets(kept, split(count))
    assert targets == nearest(vectors)
    assert json.loads(json.dumps(targets)) == targets
    truth = TASK.scorer.truth(split(count, targets))
    assert BARE.scorer.correct(kept, truth).all()
    assert scores.alone(BARE, "agreement", kept, truth).value == 1
    assert (
        list(BARE.scorer.formulas(truth))
        == ["agreement"]
        == list(BARE.scorer.score_names(Data(**FILES)))
    )
    assert BARE.scorer.block_name(truth) == "text"


def test_half_of_the_neighbours_is_enough_and_less_is_not() -> None:
    truth = [list(range(1, 11)), list(range(1, 11)), [1, 2, 3]]
    found = np.array(
        [[1, 2, 3, 4, 5, *range(20, 25)], [1, 2, 3, 4, *range(30, 36)], [9, 2, 1, *[-1] * 7]],
        dtype=float,
    )
    assert BARE.scorer.correct(found, truth).tolist() == [True, False, True]
    assert not BARE.scorer.correct(np.full((3, 10), np.nan), truth).any()
    assert BARE.scorer.agreement(found, found[[1, 0, 2]]).tolist() == [False, False, True]


def test_equal_texts_are_each_other_s_neighbours_the_earlier_first() -> None:
    rows = Split("eval", "e", "0", ["a", "b", "a", "c", "a"], None, None)
    assert TASK.encoder.requests(rows)[0] == ["a", "b", "c"]
    kept = TASK.scorer.retained(np.array([[1.0, 0.0], [0.0, 1.0], [0.6, 0.8]]), rows)
    found = TASK.objective.targets(kept, rows)
    assert found == [[2, 4, 3, 1], [3, 0, 2, 4], [0, 4, 3, 1], [1, 0, 2, 4], [0, 2, 3, 1]]


def test_many_texts_are_compared_in_chunks(monkeypatch) -> None:
    from rarefy.pipeline.tasks.embeddings import search

    vectors = np.random.default_rng(1).normal(size=(50, 5))
    whole = TASK.scorer.retained(vectors, split(50))
    monkeypatch.setattr(search, "HELD", 150)
    assert (TASK.scorer.retained(vectors, split(50)) == whole).all()


def test_one_embedding_that_is_not_finite_may_be_anyone_s_neighbour() -> None:
    vectors = np.ones((4, 2))
    vectors[2, 0] = np.nan
    kept = TASK.scorer.retained(vectors, split(4))
    assert np.isnan(kept).all()
    assert TASK.presenter.describe_prediction(kept, split(4)) == ["not a number"] * 4


def test_the_report_shows_the_nearest_texts() -> None:
    rows = split(5, [[1, 2, 3, 4], [0], [0], [0], [0]])
    kept = np.array([[4, 3, 2, 1, *[-1] * 6]] * 5, dtype=float)
    assert TASK.presenter.describe_prediction(kept, rows)[0] == "text 4 | text 3 | text 2"
    assert TASK.presenter.describe_target(rows)[:2] == ["text 1 | text 2 | text 3", "text 0"]


def test_neighbours_drawn_at_random_are_the_floor() -> None:
    draw = np.random.default_rng(0)
    truth = [[at for at in range(11) if at != row][:10] for row in range(25)]
    hits = [
        len(set(draw.choice(24, 10, replace=False)) & set(draw.choice(24, 10, replace=False))) >= 5
        for _ in range(4000)
    ]
    assert BARE.scorer.floor(truth) == pytest.approx(np.mean(hits), abs=0.03)
    assert BARE.scorer.floor([[1, 2], [0, 2], [0, 1]]) == 1, "all others are neighbours"
    kept = TASK.scorer.retained(np.random.default_rng(3).normal(size=(9, 4)), split(9))
    said = floor.learned_nothing(BARE, kept, TASK.objective.targets(kept, split(9)))
    assert said is not None
    assert "not significantly above the 100.0% of neighbours drawn at random" in said


# Through the engine


@pytest.fixture
def bare(workshop):
    """A workshop with texts alone."""
    write_texts(workshop.write_rows)
    write_model(workshop.folder / "model", "bert")
    return workshop


def test_only_the_neighbours_of_eval_are_computed(bare) -> None:
    run = bare.open("export", **VALUES)
    run.plan.steps()
    run.execute("model")
    splits = run.plan.splits
    assert splits["train"].labels is splits["dev"].labels is None
    assert [len(places) for places in splits["eval"].labels] == [10] * 60
    assert [score.value for score in run.finished["model"].scores] == [1]


@pytest.mark.parametrize(
    ("stage", "message"),
    [
        ("finetune", "the model would only learn its own predictions; begin with distill"),
        ("adapt", "teacher is missing: without it, sentence-embeddings cannot be trained on texts"),
    ],
)
def test_training_without_a_teacher_is_refused(bare, stage, message) -> None:
    with pytest.raises(RecipeError, match=rf"trial\.yaml:\d+: .*{message}"):
        bare.open(stage, **VALUES).plan.steps()


def test_a_single_text_is_refused_in_one_line_with_exit_code_2(bare, rarefy) -> None:
    bare.write_rows("eval.jsonl", [{"text": "a warm film"}])
    said = rarefy("plan", bare.recipe("export", **VALUES), "--home", bare.folder / "home")
    assert said.code == 2
    words = " ".join(said.err.split())
    assert "eval.jsonl: eval has 1 row; sentence-embeddings of such rows needs at least 2" in words


def test_a_score_of_a_search_is_refused_in_one_line_with_exit_code_2(bare, rarefy) -> None:
    budgets = [{"metric": "ndcg_10", "min": 0.5}]
    recipe = bare.recipe("export", {"validate": QUICK}, **VALUES, budgets=budgets)
    said = rarefy("plan", recipe, "--home", bare.folder / "home")
    assert said.code == 2
    assert "ndcg_10 needs labels, but data.label is null" in " ".join(said.err.split())


@pytest.mark.slow
def test_texts_alone_go_through_every_stage_to_a_verdict(bare, known_times) -> None:
    run = bare.open(
        {"distill": {"keep_layers": 1, "epochs": 8, "learning_rate": 1e-2}},
        {"prune": {"remove_neurons": "10 %", "vocabulary": True, "calibration_rows": 16}},
        {"adapt": {"teacher": "model", "epochs": 2}},
        {"quantize": {"calibration_rows": 16}},
        "merge",
        "export",
        {"validate": {"models": ["model"], **QUICK}},
        **VALUES,
        budgets=[
            {"metric": "agreement", "min": "5 %"},
            {"metric": "size", "min_shrink": "1.01x", "against": "model"},
        ],
    )
    finished = execute(run)
    score = finished["export"].scores[0]
    assert (score.name, score.n) == ("agreement", 60)
    measured = answers.load(finished["validate"].artifact.directory)
    assert measured.score("agreement", "model").value == 1, "the same neighbours in ONNX"
    assert measured.score("agreement", "candidate").value == score.value
    ended = outcome.conclude(run, "rarefy run trial.yaml")
    assert "with the recipe's model" in ended.data.verdict.budgets[0].reason
    assert "agreement with the model" in html.render(ended.data)


@pytest.mark.slow
def test_bundles_are_compared_by_the_baseline_s_neighbours(bare, known_times) -> None:
    write_encoder(bare.folder / "other", layers=1, hidden=16)
    both = {
        name: bare.run("export", **VALUES, model=name)["export"].artifact.directory
        for name in ("model", "other")
    }
    home = Home(bare.folder)
    table = Data(**TEXTS)
    found = {}
    for name, directory in both.items():
        bundle = find(str(directory), home)
        task, rows = comparing.read_rows(bundle, table, bare.folder, [])
        effort = comparing.Effort(rows=4, processes=2, seconds=1)
        compared = comparing.compare(bundle, str(both["model"]), task, rows, home, effort=effort)
        found[name] = compared.as_json()["accuracy"]
    assert {numbers["metric"] for numbers in found.values()} == {"agreement"}
    assert {numbers["baseline"]["value"] for numbers in found.values()} == {1.0}
    assert found["model"]["candidate"]["value"] == 1
    other = found["other"]
    assert other["candidate"]["value"] == other["agreement"]["value"] < 1
    assert (other["block"], other["losses"]) == ("text", other["flips"])
