"""SmoothQuant's factors."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from rarefy.pipeline.model import checkpoint
from rarefy.pipeline.model.quantization.plan import LinearPlan
from rarefy.stages.quantization import ranges, sensitivity, smoothing

NAMES = [f"bert.encoder.layer.0.attention.self.{part}" for part in ("query", "key", "value")]
UP = "bert.encoder.layer.0.intermediate.dense"


@pytest.fixture
def network(tuned):
    return checkpoint.load(tuned.directory)


@pytest.fixture
def rows(tuned, make_context):
    tokenizer = checkpoint.load_tokenizer(tuned.directory)
    return ranges.rows(make_context(), tokenizer, "train", 32)


def test_layers_that_read_the_same_value_are_a_group(network, rows):
    found = smoothing.groups(network, sensitivity.linear_layers(network), rows[0])
    assert NAMES in found
    assert [UP] in found
    assert sum(map(len, found)) == len(sensitivity.linear_layers(network))


def enlarge(network):
    """Make one channel of a normalization 100 times larger, and what reads it as much smaller."""
    layer = network.bert.encoder.layer[0]
    with torch.no_grad():
        layer.attention.output.LayerNorm.weight[0] *= 100
        layer.attention.output.LayerNorm.bias[0] *= 100
        layer.intermediate.dense.weight[:, 0] /= 100


def test_a_factor_is_the_papers_up_to_a_common_one(network, rows, monkeypatch):
    monkeypatch.setattr(smoothing, "STRENGTHS", (0.5,))
    enlarge(network)
    seen = []
    network.get_submodule(UP).register_forward_hook(lambda m, x, y: seen.append(x[0]))
    with torch.no_grad():
        for row in rows:
            network(input_ids=torch.tensor([row["input_ids"]]))
    inputs = torch.cat([each.flatten(0, -2) for each in seen]).abs().amax(dim=0)
    weights = network.get_submodule(UP).weight.detach().abs().amax(dim=0)
    found = torch.tensor(smoothing.factors(network, [[UP]], rows, "avx2")[UP])
    ratio = found / (inputs / weights).sqrt()
    torch.testing.assert_close(ratio, ratio.mean().expand_as(ratio), rtol=2e-3, atol=0)


def test_what_smoothing_would_not_help_has_no_factors(network, rows):
    """All channels are alike, and each strength would make them differ."""
    layer = network.bert.encoder.layer[0]
    with torch.no_grad():
        layer.attention.output.LayerNorm.weight.fill_(1)
        layer.attention.output.LayerNorm.bias.fill_(0)
    assert smoothing.factors(network, [[UP]], rows, "avx2") == {}


@pytest.mark.slow
def test_the_strength_of_least_error_is_taken(network, rows, monkeypatch):
    enlarge(network)
    found = smoothing.factors(network, [[UP]], rows, "avx2")[UP]
    measured = {}
    for strength in smoothing.STRENGTHS:
        monkeypatch.setattr(smoothing, "STRENGTHS", (strength,))
        factors = smoothing.factors(network, [[UP]], rows, "avx2")[UP]
        plan = {UP: LinearPlan(precision="int8", factors=factors)}
        exact, rounded = (outputs(network, rows, each) for each in ({}, plan))
        measured[factors] = float((exact - rounded).square().sum())
    assert found == min(measured, key=measured.__getitem__)


def outputs(network, rows, plan):
    """Return what a layer gives for each token, rounded as a plan says, from exact inputs."""
    seen = []
    hook = network.get_submodule(UP).register_forward_hook(lambda m, x, y: seen.append(y))
    with torch.no_grad(), sensitivity.quantized(network, plan, "avx2"):
        for row in rows:
            network(input_ids=torch.tensor([row["input_ids"]]))
    hook.remove()
    return torch.cat([each.flatten(0, -2) for each in seen])


def test_smoothing_takes_away_the_damage_of_large_channels(network, rows, make_context):
    enlarge(network)
    factors = smoothing.factors(network, [[UP]], rows, "avx2")[UP]
    measured = sensitivity.Sensitivity(make_context().task, network, rows, "avx2")
    plain = measured.damage({UP: LinearPlan(precision="int8")})
    smooth = measured.damage({UP: LinearPlan(precision="int8", factors=factors)})
    assert smooth < plain / 4


class Behind(nn.Module):
    """A linear layer behind a ReLU; each token is a row of its inputs."""

    def __init__(self, inputs):
        super().__init__()
        self.inputs, self.layer = inputs, nn.Linear(inputs.shape[1], 16)

    def forward(self, input_ids, **_):
        return self.layer(self.inputs[input_ids].relu())


@pytest.mark.parametrize("idle", [0.0, 1e-6])
def test_a_channel_that_calibration_left_idle_does_not_take_the_range_of_a_later_row(idle):
    torch.manual_seed(0)
    inputs = torch.randn(80, 32) + 0.5
    inputs[:, 0] *= 100
    inputs[:64, 1] = idle
    inputs[64:, 1] = 0.5
    network = Behind(inputs).eval()
    rows = [{"input_ids": list(range(at, at + 8))} for at in range(0, 80, 8)]
    errors = []
    with torch.no_grad():
        factors = smoothing.factors(network, [["layer"]], rows[:8], "avx2")["layer"]
        plan = {"layer": LinearPlan(precision="int8", factors=factors)}
        for row in rows:
            given = torch.tensor([row["input_ids"]])
            exact = network(given)
            with sensitivity.quantized(network, plan, "avx2"):
                errors.append(float((network(given) - exact).norm()))
    assert max(errors[8:]) <= max(errors[:8])
