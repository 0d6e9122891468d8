"""What is skipped would have given the same."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from pipeline.model.quantization import LinearPlan
from pipeline.terms.progress import silent
from stages import sensitivity
from stages.replay import Replay, layers_of
from tests.breadth import broad
from tests.families import FAMILIES, write_family

ROWS = [{"input_ids": [2, *range(5, 5 + length), 3]} for length in (3, 3, 9, 1)]
CLASSIFIER = "AutoModelForSequenceClassification"


def calls(model: nn.Module) -> list[int]:
    """Return a list that grows with every linear layer that is computed."""
    found: list[int] = []
    for module in model.modules():
        if isinstance(module, nn.Linear):
            module.register_forward_hook(lambda *_: found.append(1))
    return found


@pytest.mark.parametrize("family", broad(FAMILIES, "bert", "llama"))
def test_layers_do_the_same_damage_as_in_whole_passes(family, tmp_path, make_context):
    model = write_family(tmp_path, family, CLASSIFIER)
    measured = sensitivity.Sensitivity(make_context().task, model, ROWS, "vnni")
    plan = {
        name: LinearPlan(precision="int8") for name in reversed(sensitivity.linear_layers(model))
    }
    seen = calls(model)
    whole = {name: measured.damage({name: layer}) for name, layer in plan.items()}
    computed = len(seen)
    for order in (list(plan), list(reversed(plan))):
        seen.clear()
        found = measured.damages({name: plan[name] for name in order}, silent)
        assert found == whole
    assert max(whole.values()) > 0
    if layers_of(model):
        assert len(seen) < 0.9 * computed
    assert torch.equal(measured._answers(), measured.exact)


def test_a_model_runs_whole_outside_and_after_an_error(tmp_path):
    model = write_family(tmp_path, "bert", CLASSIFIER)
    seen = calls(model)

    def run() -> None:
        with torch.no_grad():
            model(input_ids=torch.tensor([ROWS[0]["input_ids"]]))

    run()
    whole = len(seen)
    replay = Replay(model)
    replay.before(model.bert.encoder.layer[2].output.dense, run)
    with pytest.raises(RuntimeError, match="stop"), replay.skipping():
        raise RuntimeError("stop")
    seen.clear()
    run()
    assert len(seen) == whole
    seen.clear()
    with replay.skipping():
        run()
    assert len(seen) == whole - 2 * 6


@pytest.mark.parametrize("family", ["albert", "llama"])
def test_nothing_is_skipped_in_families_that_are_not_described(family, tmp_path):
    assert layers_of(write_family(tmp_path, family, CLASSIFIER)) == []
