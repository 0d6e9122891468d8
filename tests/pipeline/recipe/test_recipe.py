"""An invalid recipe raises an error with file, line, key, and what was expected."""

from __future__ import annotations

import sys
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from rarefy.pipeline.recipe import recipe as recipes
from rarefy.pipeline.recipe import schema as recipe_schema
from rarefy.pipeline.stage import discovery
from rarefy.pipeline.terms.errors import RecipeError

GOOD = """\
name: good
model: model
data:
  train: train.jsonl
  eval: eval.jsonl
stages:
  - finetune:
      learning_rate: 1e-4
      epochs: 2
  - finetune: {epochs: 1}
    as: again
    from: finetune
budgets:
  - metric: accuracy
    max_drop: 1 point
    against: finetune
"""


@pytest.fixture
def check(tmp_path: Path):
    def do(text: str):
        path = tmp_path / "r.yaml"
        path.write_text(text)
        return recipes.load(path)

    return do


@pytest.mark.parametrize("read", [recipes.load, recipes.check_form])
def test_a_sweep_is_said_to_be_one(read, tmp_path: Path) -> None:
    path = tmp_path / "many.yaml"
    path.write_text("name: many\nrecipe: one.yaml\nvary: {distill.keep_layers: [2, 3]}\n")
    with pytest.raises(RecipeError, match=f"this is a sweep.*`rarefy sweep --dry-run {path}` che"):
        read(path)


@pytest.fixture
def refused(check):
    """Return the message for GOOD with one passage replaced."""

    def do(old: str, new: str) -> str:
        assert old in GOOD
        with pytest.raises(RecipeError) as caught:
            check(GOOD.replace(old, new, 1))
        assert caught.value.exit_code == 2
        message = str(caught.value)
        assert "\n" not in message
        return message.partition("r.yaml:")[2]

    return do


def test_a_good_recipe_is_its_steps_with_defaults(check):
    loaded = check(GOOD)
    assert [(step.id, step.input) for step in loaded.steps] == [
        ("finetune", "model"),
        ("again", "finetune"),
    ]
    assert loaded.steps[0].stage.learning_rate == 1e-4
    assert loaded.recipe.budgets[0].limit == pytest.approx(0.01)
    assert loaded.recipe.targets[0].provider == "cpu"


def test_a_stage_that_stands_twice_gets_a_number(check):
    text = GOOD.replace("    as: again\n    from: finetune\n", "  - finetune\n")
    steps = check(text).steps
    assert [step.id for step in steps] == ["finetune", "finetune-2", "finetune-3"]
    assert [step.input for step in steps] == ["model", "finetune", "finetune-2"]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("name: good", "nam: good", "1: nam: unknown key, did you mean 'name'?"),
        ("  eval:", "  evel:", "5: data.evel: unknown key, did you mean 'eval'?"),
        (
            "    max_drop:",
            "    max_dorp:",
            "15: budgets[0].max_dorp: unknown key, did you mean 'max_drop'?",
        ),
        (
            "      learning_rate:",
            "      learning_rat:",
            "8: stages[0].finetune.learning_rat: unknown key, did you mean 'learning_rate'?",
        ),
        ("- finetune:", "- finetun:", "7: stages[0].finetun: unknown stage 'finetun', did you"),
        (
            "from: finetune",
            "from: fintune",
            "12: stages[1].from: 'fintune' is not an earlier stage, d",
        ),
        (
            "against: finetune",
            "against: finetun",
            "16: budgets[0].against: 'finetun' is not a stage",
        ),
        ("model: model\n", "", "1: model: this key is required"),
        ("epochs: 2", "epochs: many", "9: stages[0].finetune.epochs: Input should be a valid int"),
        ("epochs: 2", "epochs: 0", "9: stages[0].finetune.epochs: Input should be greater than"),
        ("1e-4", "1e999", "8: stages[0].finetune.learning_rate: Input should be"),
        ("as: again", "as: ../up", "11: stages[1].as: '../up' is not a valid name"),
        ("as: again", "as: finetune", "11: stages[1].as: the id 'finetune' is already taken"),
        ("as: again", "as: model", "11: stages[1].as: the id 'model' is already taken"),
        ("as: again", "as: linear", "11: stages[1].as: the id 'linear' is reserved for the linear"),
        (
            "as: again",
            "as: candidate",
            "11: stages[1].as: the id 'candidate' is reserved for the m",
        ),
        ("as: again", "as: openvino", "11: stages[1].as: the id 'openvino' is reserved for the fi"),
        ("name: good", "name: Good Name", "1: name: String should match pattern"),
        (
            "max_drop: 1 point",
            "max_drop: little",
            "15: budgets[0].max_drop: 'little' is not a number of percentage points",
        ),
        ("    max_drop: 1 point\n", "", "14: budgets[0]: give exactly one of max, min"),
        ("    against: finetune\n", "", "14: budgets[0]: 'max_drop' is a comparison; set"),
        ("max_drop: 1 point", "min: 0.9", "14: budgets[0]: 'min' is an absolute bound"),
        (
            "    against:",
            "    target: gpu\n    against:",
            "16: budgets[0].target: 'gpu' is not a targ",
        ),
        (
            "as: again",
            "prune: {}",
            "10: stages[1]: expected one stage, optionally with 'as', 'from', 'seed'; found",
        ),
        ("{epochs: 1}", "3", "10: stages[1].finetune: the parameters must be a mapping, found 3"),
        (
            "  train: train.jsonl",
            "  text: [a, b, c]\n  train: x",
            "4: data.text: Tuple should have",
        ),
        (
            "as: again",
            "seed: -1",
            "11: stages[1].seed: expected a whole number from 0 to 4294967295, found -1",
        ),
        ("as: again", "seed: yes", "11: stages[1].seed: expected a whole number from 0 to"),
        ("stages:", "seed: -1\nstages:", "6: seed: Input should be greater than or equal to 0"),
        ("stages:", "targets: []\nstages:", "6: targets: give at least one target"),
    ],
)
def test_what_is_wrong_is_named_with_its_line(refused, old, new, message):
    assert refused(old, new).startswith(message)


def test_a_recipe_that_is_no_mapping(check):
    with pytest.raises(RecipeError, match=r"r\.yaml:1: a recipe must be a mapping"):
        check("- finetune\n")


def test_a_reference_to_a_later_stage_is_refused(check):
    text = GOOD.replace("  - finetune: {epochs: 1}", "  - adapt: {teacher: later}")
    with pytest.raises(RecipeError, match="'later' is not an earlier stage; known: finetune"):
        check(text)


@pytest.fixture
def plug_ins(monkeypatch):
    """Pretend that these entry points are installed in addition to rarefy's own."""

    def add(**values: str) -> None:
        points = {
            name: EntryPoint(name, value, discovery.ENTRY_POINTS) for name, value in values.items()
        }
        known = discovery.installed() | points
        monkeypatch.setattr(discovery, "installed", lambda: known)

    return add


def test_a_broken_plug_in_names_itself_and_breaks_nothing_else(check, plug_ins, tmp_path):
    (tmp_path / "brokenplugin.py").write_text("import does_not_exist\n")
    sys.path.append(str(tmp_path))
    plug_ins(broken="brokenplugin:Stage", notastage="json:loads")
    try:
        assert len(check(GOOD).steps) == 2
        schema = recipe_schema.json_schema()
        with pytest.raises(RecipeError) as caught:
            check(GOOD.replace("- finetune:\n", "- broken:\n"))
    finally:
        sys.path.remove(str(tmp_path))
    assert "stage broken (brokenplugin:Stage) cannot be loaded" in str(caught.value)
    assert "does_not_exist" in str(caught.value)
    entries = schema["properties"]["stages"]["items"]["anyOf"][1]["properties"]
    assert "finetune" in entries
    assert "broken" not in entries
    with pytest.raises(RecipeError, match="is not a subclass of"):
        check(GOOD.replace("- finetune:\n", "- notastage:\n"))


@pytest.mark.parametrize(
    ("task", "data", "main"),
    [
        ("text-classification", {}, "accuracy"),
        ("token-classification", {}, "entity_f1"),
        ("multi-label-classification", {"label": ["a", "b"]}, "micro_f1"),
        ("regression", {}, "spearman"),
        ("regression", {"text": ["q", "p"], "group": "q"}, "ndcg_10"),
        ("sentence-embeddings", {"text": ["a", "b"]}, "spearman"),
        ("no-such-task", {}, "accuracy"),
    ],
)
def test_the_short_budget_asks_for_the_task_s_own_main_score(task, data, main):
    recipe = recipes.Recipe.model_validate(
        {
            "name": "short",
            "model": "model",
            "task": task,
            "data": {"train": "train.jsonl", "eval": "eval.jsonl"} | data,
            "stages": ["finetune"],
            "budgets": {"max_regression": "5 %", "against": "production", "level": "warn"},
        }
    )
    assert [budget.metric for budget in recipe.budgets] == [main, "latency_p50", "size"]
    assert {(b.max_regression, b.level) for b in recipe.budgets} == {(0.05, "warn")}


def test_of_rows_without_labels_the_short_budget_asks_for_agreement():
    recipe = recipes.Recipe(
        name="short",
        model="model",
        data={"train": "train.jsonl", "eval": "eval.jsonl", "label": None},
        stages=("finetune",),
        budgets={"max_regression": "5 %", "against": "production"},
    )
    first, *others = recipe.budgets
    assert (first.metric, first.max_drop, first.max_regression) == ("agreement", 0.05, None)
    assert [budget.max_regression for budget in others] == [0.05, 0.05]
