"""What all training stages share: bounded parameters, and a fingerprint that includes the CPU."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from rarefy.pipeline import tasks
from rarefy.pipeline.stage import Requirements, Stage, StageCheck, discovery
from rarefy.pipeline.terms.errors import RecipeError
from rarefy.stages.adapt import Adapt
from rarefy.stages.adapt.merge import Merge
from rarefy.stages.bag_of_tokens import BagOfTokens
from rarefy.stages.distill import Distill
from rarefy.stages.factorize import Factorize
from rarefy.stages.inject import Inject
from rarefy.stages.label import Label
from rarefy.stages.prune import Prune
from rarefy.stages.quantize import Quantize
from rarefy.stages.training import parameters
from rarefy.stages.training.parameters import Trained, Training


@pytest.mark.parametrize(
    "knob", [{"epochs": 0}, {"learning_rate": 0}, {"warmup": 1}, {"schedule": "stairs"}]
)
def test_a_knob_out_of_bounds_is_refused_with_the_recipe(knob: dict[str, object]) -> None:
    with pytest.raises(ValidationError, match=next(iter(knob))):
        Training(**knob)


def test_a_cpu_with_bfloat16_trains_another_model(monkeypatch: pytest.MonkeyPatch) -> None:
    found = []
    for has in (True, False):
        monkeypatch.setattr(parameters, "cpu_has_bf16", lambda has=has: has)
        found.append(Training().environment(Requirements()))
    assert found[0] != found[1]


@pytest.mark.parametrize(
    "stage",
    [
        Adapt(),
        Inject(facts="facts.tsv"),
        Inject(facts="facts.tsv", shuffled=True),
        Label(),
        BagOfTokens(),
    ],
)
def test_a_stage_with_an_environment_of_its_own_notes_the_cpu_too(stage: Stage) -> None:
    assert "cpu_bf16" in stage.environment(Requirements())


RECORDED: list[Stage] = [
    *(
        discovery.find(name)()
        for name in (
            "augment",
            "export",
            "finetune",
            "label",
            "profile",
            "bag_of_tokens",
            "validate",
        )
    ),
    Adapt(),
    Distill(student="another", vocabulary=True, keep="best"),
    Distill(keep_layers=[0, 2], alpha=1.0),
    Factorize(keep_weights=0.7),
    Inject(facts="facts.tsv"),
    Label(transfer="augment"),
    Merge(),
    Merge(models=("one", "two"), method="soup"),
    Prune(remove_heads=0.5),
    Prune(remove_layers="50 %", rounds=3, recover_epochs=1),
    Prune(speedup=2, table="profile"),
    Prune(vocabulary=True),
    Quantize(),
    Quantize(mode="search"),
    Quantize(mode="dynamic"),
    Quantize(precision="fp16"),
    Quantize(sensitivity=False),
    Quantize(weights="int4", embeddings="int4"),
]


@pytest.mark.parametrize("stage", RECORDED, ids=lambda stage: stage.name)
def test_a_stage_is_read_again_from_its_record(stage: Stage) -> None:
    """A record has all fields: what a stage takes is foretold from the records of earlier ones."""
    assert type(stage).model_validate(stage.model_dump(mode="json")) == stage


def test_every_stage_has_its_record_tested() -> None:
    assert {stage.name for stage in RECORDED} == set(discovery.installed())


def test_the_loss_of_a_training_is_a_metric_of_its_split() -> None:
    metric = Trained(loss=0.12345678, steps=3, resumed_from=0).metric()
    assert (metric.name, metric.split) == ("train_loss", "train")
    assert metric.value == pytest.approx(0.12345678, abs=1e-6)


@pytest.mark.parametrize(
    ("task", "given"),
    [
        ("regression", {"temperature": 4}),
        ("sentence-embeddings", {"temperature": 4}),
        ("sentence-embeddings", {"alpha": 0}),
    ],
)
def test_what_a_task_does_not_read_of_a_teacher_s_answers_is_refused(task, given) -> None:
    made = Distill(teacher="model", **given)
    (key,) = given
    with pytest.raises(RecipeError, match=f"^{key}: .*{task}.*; remove it$"):
        made.check(StageCheck(tasks.find(task), 128))
    made.check(StageCheck(tasks.find("text-classification"), 128))
    made.check(StageCheck(tasks.find("token-classification"), 128))
    defaults = Distill(teacher="model", temperature=2.0, alpha=0.9)
    defaults.check(StageCheck(tasks.find(task), 128))
