"""What a model's family or depth rules out is refused at plan, with the stage's file and line."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from rarefy.pipeline.run.plan import check_chain
from rarefy.pipeline.run.plan.plan import MODEL
from rarefy.pipeline.terms.errors import RecipeError
from tests.conftest import Workshop
from tests.models import configure, write_model


@pytest.fixture
def workshop(empty_workshop: Workshop) -> Workshop:
    """Its model is replaced by one of another family."""
    return empty_workshop


@pytest.fixture
def undescribed(workshop) -> Path:
    """A workshop whose model is an ALBERT, which transformers knows and no table describes."""
    shutil.rmtree(workshop.folder / "model")
    write_model(workshop.folder / "model", "albert")
    return workshop.folder


NOT_DESCRIBED = r"the parts of a model of type 'albert' are not described; described are: bert, .*"


@pytest.mark.parametrize(
    ("stage", "message"),
    [
        ({"prune": {"remove_heads": 0.5}}, f"{NOT_DESCRIBED}; only 'vocabulary' can be pruned"),
        ({"prune": {"remove_neurons": 0.5}}, NOT_DESCRIBED),
        ({"prune": {"remove_layers": [0]}}, NOT_DESCRIBED),
        ({"factorize": {}}, NOT_DESCRIBED),
        (
            {"distill": {"keep_layers": 1}},
            rf"distill\.keep_layers: {NOT_DESCRIBED}; give a 'student'",
        ),
        ({"adapt": {"modules": "attention"}}, rf"adapt\.modules: {NOT_DESCRIBED}; write 'all-l"),
    ],
)
def test_what_needs_parts_is_refused_by_name(workshop, undescribed, stage, message):
    with pytest.raises(RecipeError, match=message) as caught:
        workshop.open("finetune", stage).plan.steps()
    name = next(iter(stage))
    assert f"trial.yaml:8: stages[1].{name}: " in str(caught.value)
    assert caught.value.exit_code == 2
    assert workshop.store.digests() == []


@pytest.mark.parametrize("kind", ["qwen3", "albert"])
def test_facts_are_learned_by_any_family(workshop, kind):
    configure(workshop.folder / "model", model_type=kind)
    workshop.write_rows("facts.jsonl", [{"term": w, "text": f"a {w}"} for w in ("cat", "dog")])
    assert len(workshop.open({"inject": {"facts": "facts.jsonl"}}).plan.steps()) == 2


def test_what_needs_no_parts_is_planned_for_any_family(workshop, undescribed):
    stages = [
        "finetune",
        {"distill": {"student": "model"}},
        {"prune": {"vocabulary": True}},
        "adapt",
        "merge",
        "quantize",
        "export",
    ]
    assert len(workshop.open(*stages).plan.steps()) == 8


@pytest.mark.parametrize(
    ("stages", "message"),
    [
        ([{"prune": {"remove_layers": [5]}}], "no layer 5; the model has layers 0 to 1"),
        ([{"prune": {"remove_layers": [0, 1]}}], "would remove all 2 layers"),
        ([{"distill": {"keep_layers": 3}}], "cannot keep 3 layers, the model has 2"),
        ([{"distill": {"keep_layers": [1, 0]}}], "in rising order"),
        (
            [{"distill": {"keep_layers": 1}}, {"prune": {"remove_layers": [1]}}],
            "no layer 1; .* layers 0 to 0",
        ),
        (
            [{"prune": {"remove_layers": 0.5}}, {"distill": {"keep_layers": 2}}],
            "keep 2 layers, .* has 1",
        ),
    ],
)
def test_layers_that_the_model_will_not_have(workshop, stages, message):
    with pytest.raises(RecipeError, match=message) as caught:
        workshop.open("finetune", *stages).plan.steps()
    assert "trial.yaml:" in str(caught.value)


@pytest.mark.parametrize(
    ("kind", "stage", "message"),
    [
        (
            "deberta",
            {"prune": {"remove_heads": 0.2}},
            "in deberta, talking heads read each other's",
        ),
        ("modernbert", {"prune": {"remove_layers": [0]}}, "in modernbert, .* layer 0 must be kept"),
        ("modernbert", {"distill": {"keep_layers": [1]}}, "in modernbert, .* layer 0 must be kept"),
    ],
)
def test_parts_that_must_stay(workshop, kind, stage, message):
    more = {"max_position_embeddings": 130, "talking_head": True}
    configure(workshop.folder / "model", model_type=kind, **more)
    with pytest.raises(RecipeError, match=message):
        workshop.open("finetune", stage).plan.steps()


def test_the_family_after_a_distillation_is_that_of_the_student(workshop):
    shutil.copytree(workshop.folder / "model", workshop.folder / "student")
    changes = {"num_hidden_layers": 1, "max_position_embeddings": 130}
    configure(workshop.folder / "student", model_type="mpnet", **changes)
    stages = ["finetune", {"distill": {"student": "student"}}, {"prune": {"remove_neurons": 0.5}}]
    loaded = workshop.open(*stages).plan.loaded
    found = check_chain.follow_configs(
        loaded, {MODEL: {"model_type": "bert", "num_hidden_layers": 2}}
    )
    assert found["finetune"]["num_hidden_layers"] == 2
    assert found["distill"]["model_type"] == found["prune"]["model_type"] == "mpnet"
    assert found["distill"]["num_hidden_layers"] == 1
    with pytest.raises(RecipeError, match="cannot keep 5 layers, the model has 1"):
        workshop.open(*stages[:2], {"distill": {"keep_layers": 5}}).plan.steps()
