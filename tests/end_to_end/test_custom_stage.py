"""A user's stage in one file outside the project works like rarefy's own stages."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from rarefy.pipeline.model import checkpoint
from rarefy.pipeline.recipe import recipe as recipes
from rarefy.pipeline.recipe import writing
from rarefy.pipeline.report import html
from rarefy.pipeline.run import outcome
from rarefy.pipeline.terms.errors import RarefyError, RecipeError

EXAMPLE = Path(__file__).parents[2] / "examples" / "custom_stage"
STAGE = "round_weights:RoundWeights"


@pytest.fixture
def workshop(workshop):
    shutil.copyfile(EXAMPLE / "round_weights.py", workshop.folder / "round_weights.py")
    return workshop


def test_the_example_recipe_is_valid():
    loaded = recipes.load(EXAMPLE / "recipe.yaml")
    assert [step.id for step in loaded.steps] == ["finetune", "rounded", "export", "validate"]


def test_it_changes_the_model_is_scored_and_is_found_again(workshop):
    import torch

    run = workshop.open("quick:Head", {STAGE: {"precision": "bfloat16"}})
    run.plan.steps()
    for identifier in ("model", "head", "round_weights"):
        run.execute(identifier)
    before = checkpoint.load(run.finished["head"].artifact.directory).state_dict()
    artifact = run.finished["round_weights"].artifact
    after = checkpoint.load(artifact.directory).state_dict()
    moved = 0
    for name, weight in before.items():
        assert torch.equal(after[name], weight.bfloat16().float())
        moved += int((after[name] != weight).sum())
    assert moved > 0
    (change,) = artifact.manifest.metrics
    assert 0 < change.value <= 1 / 256
    row = run.ledger()[-1]
    assert (row.id, row.stage, row.metric) == ("round_weights", "round_weights", "accuracy")
    assert row.parameters == sum(
        p.numel() for p in checkpoint.load(artifact.directory).parameters()
    )
    page = html.render(outcome.conclude(run, "rarefy run trial.yaml").data)
    assert page.count("round_weights") >= 2, "in the ledger and in the lineage"
    again = workshop.run("quick:Head", {STAGE: {"precision": "bfloat16"}})
    assert all(step.cached for step in again.values())


def test_an_edit_of_its_file_runs_it_again_and_nothing_before_it(workshop):
    workshop.run("quick:Head", STAGE)
    file = workshop.folder / "round_weights.py"
    file.write_text(file.read_text().replace('"rounding"', '"Rounding"'))
    finished = workshop.run("quick:Head", STAGE)
    assert [step.cached for step in finished.values()] == [True, True, False]


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"precison": "bfloat16"}, "unknown key, did you mean 'precision'"),
        ({"precision": "int3"}, "Input should be 'bfloat16' or 'float16'"),
    ],
)
def test_its_parameters_are_checked_with_line_and_suggestion(workshop, parameters, message):
    with pytest.raises(RecipeError, match=message) as caught:
        workshop.open("quick:Head", {STAGE: parameters})
    assert "trial.yaml:" in str(caught.value)


BODY = """
import numpy
from rarefy import Context, Draft, Metric, Stage


class Mine(Stage):
    name = "mine"
    reads = frozenset()

{methods}
"""
RUN = """
    def run(self, context, model):
        (context.output / "file").write_text("")
        {ends}
"""


@pytest.mark.parametrize(
    ("ends", "message"),
    [
        ("pass", "mine: run returned NoneType, not a Draft"),
        (
            "return Draft(model={'loss': numpy.float32(1)})",
            "mine: PydanticSerializationError: Unab",
        ),
        ("return Draft(metrics=Metric(name='a', value=1))", "mine: the metrics of the Draft are n"),
    ],
)
def test_what_is_no_draft_names_the_step(workshop, ends, message):
    (workshop.folder / "mine.py").write_text(BODY.format(methods=RUN.format(ends=ends)))
    with pytest.raises(RarefyError, match=f"^{message}"):
        workshop.run("quick:Head", "mine:Mine")


@pytest.mark.parametrize(
    ("methods", "message"),
    [
        (
            "    def references(self):\n        return self.nope",
            r"trial\.yaml:\d+: stages\[1\]\.mine:Mine: references: AttributeError: 'Mine' object",
        ),
        (
            "    def follow_model(self, *given):\n        raise KeyError('depth')",
            r"trial\.yaml:\d+: stages\[1\]\.mine: follow_model: KeyError: 'depth'",
        ),
        ("    import sys\n    sys.exit(3)", r"stage mine:Mine cannot be loaded: SystemExit: 3"),
        ("    factor = 2", r"stage mine:Mine cannot be loaded: PydanticUserError: [^\n]*$"),
    ],
)
def test_an_error_of_its_own_code_is_one_of_its_place(workshop, methods, message):
    run = RUN.format(ends="return Draft()")
    (workshop.folder / "mine.py").write_text(BODY.format(methods=methods + run))
    with pytest.raises(RecipeError, match=message):
        workshop.open("quick:Head", "mine:Mine").plan.steps()


def test_the_recipe_that_is_shown_can_be_read_by_another_process():
    loaded = recipes.load(EXAMPLE / "recipe.yaml")
    shown = writing.as_yaml(loaded)
    assert f"- {STAGE}:" in shown
