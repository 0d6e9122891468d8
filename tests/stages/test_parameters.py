"""What all training stages share: bounded parameters, and a fingerprint that includes the CPU."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from pipeline.stage import Asked, Stage
from stages import parameters
from stages.adapt import Adapt
from stages.inject import Inject
from stages.label import Label
from stages.parameters import Trained, Training
from stages.static import Static


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
        found.append(Training().environment(Asked()))
    assert found[0] != found[1]


@pytest.mark.parametrize(
    "stage",
    [
        Adapt(),
        Inject(facts="facts.tsv"),
        Inject(facts="facts.tsv", shuffled=True),
        Label(),
        Static(),
    ],
)
def test_a_stage_with_an_environment_of_its_own_notes_the_cpu_too(stage: Stage) -> None:
    assert "cpu_bf16" in stage.environment(Asked())


def test_the_loss_of_a_training_is_a_metric_of_its_split() -> None:
    metric = Trained(loss=0.12345678, steps=3, resumed_from=0).metric()
    assert (metric.name, metric.split) == ("train_loss", "train")
    assert metric.value == pytest.approx(0.12345678, abs=1e-6)
