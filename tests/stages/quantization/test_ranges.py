"""Calibration: which range of its inputs a static layer tells apart."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from rarefy.pipeline.model import checkpoint
from rarefy.pipeline.model.quantization.plan import Calibration
from rarefy.stages.quantization import ranges
from rarefy.stages.quantization.ranges import BINS, Histogram, Range
from rarefy.stages.training.rows import Rows
from tests.stages.classifiers import classifier


class Layer(torch.nn.Module):
    """A model whose one linear layer reads its input as it is."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = torch.nn.Linear(4, 4)

    def forward(self, input_ids: torch.Tensor) -> torch.Tensor:
        return self.linear(input_ids.float()[..., None].expand(-1, -1, 4))


def how(method: str) -> Calibration:
    return Calibration(method=method, rows=1)


def seen(values: np.ndarray) -> Histogram:
    ends = Range(min(values.min(), 0), max(values.max(), 0))
    return Histogram(ends, np.histogram(values, BINS, ends)[0].astype(float))


def error(values: np.ndarray, limits: Range) -> float:
    """The mean squared error of torch's own rounding."""
    scale = (limits.high - limits.low) / 255
    given = torch.from_numpy(values).float()
    zero = round(-limits.low / scale)
    rounded = torch.fake_quantize_per_tensor_affine(given, scale, zero, 0, 255)
    return float(((rounded - given) ** 2).mean())


@pytest.mark.parametrize("chunk", [7, 1000])
def test_rows_are_spread_over_the_split_and_lie_on_disk(chunk, tuned, make_context, monkeypatch):
    monkeypatch.setattr(ranges, "CHUNK", chunk)
    context, tokenizer = make_context(rows=64), checkpoint.load_tokenizer(tuned.directory)
    found = ranges.rows(context, tokenizer, "train", 20)
    assert isinstance(found, Rows)
    split = context.split("train")
    assert list(found) == context.task.encoder.examples(tokenizer, split, split.evenly(20))
    assert len(ranges.rows(context, tokenizer, "train", 1000)) == 64


def test_ends_are_the_smallest_and_largest_input_and_zero():
    rows = [{"input_ids": [5, 3]}, {"input_ids": [-2, 7, 1]}, {"input_ids": [4]}]
    assert ranges.measure(Layer(), ["linear"], rows, how("min-max")) == {"linear": (-2, 7)}
    positive = [{"input_ids": [5, 3]}]
    assert ranges.measure(Layer(), ["linear"], positive, how("min-max")) == {"linear": (0, 5)}


def test_every_input_is_counted_whatever_the_batches_are():
    rows = [{"input_ids": [n % 50] * (1 + n % 3)} for n in range(200)]
    model, ends = Layer(), {"linear": Range(0.0, 49.0)}
    found = ranges._histograms(model, ends, rows, lambda *_: None)["linear"]
    assert found.counts.sum() == 4 * sum(len(row["input_ids"]) for row in rows)
    assert found.counts[0] == 4 * sum(len(r["input_ids"]) for r in rows if r["input_ids"][0] == 0)


@pytest.mark.parametrize("given", [Range(-1.0, 3.0), Range(-5.0, 3.0), Range(0.0, 2.0)])
def test_a_widened_range_is_the_least_whose_zero_is_in_the_middle_of_the_steps(given):
    low, high = ranges.widened(given)
    step = (high - low) / 255
    assert -low / step == pytest.approx(128)
    assert low <= given.low
    assert high >= given.high
    assert low == pytest.approx(given.low) or high == pytest.approx(given.high)
    assert ranges.widened(Range(low, high)) == pytest.approx((low, high))


@pytest.mark.slow
def test_the_least_error_is_found():
    """One input of 10,000 is a hundred times the others: no grid of ranges is much better."""
    values = np.random.default_rng(0).normal(size=100_000)
    values[::10_000] *= 100
    limits = ranges.choose(seen(values), how("mse"))
    best = min(
        error(values, Range(low, high))
        for low in np.linspace(values.min(), -0.5, 60)
        for high in np.linspace(0.5, values.max(), 60)
    )
    assert error(values, limits) <= 1.1 * best
    assert error(values, limits) < error(values, Range(values.min(), values.max()))


@pytest.mark.parametrize("method", ["min-max", "mse"])
def test_inputs_that_are_all_zero_have_a_range_without_width(method):
    rows = [{"input_ids": [0, 0]}]
    low, high = ranges.measure(Layer(), ["linear"], rows, how(method))["linear"]
    assert low == high == 0


def test_a_table_of_positions_is_no_input_of_the_layers_that_it_shares(tmp_path):
    """The layers of queries and keys are called twice."""
    network = classifier("deberta-v3", "eager", share_att_key=True, pos_att_type=["c2p", "p2c"])
    names = [
        name for name, _ in network.named_modules() if name.endswith(("query_proj", "value_proj"))
    ]
    rows = Rows(tmp_path)
    rows.extend({"input_ids": [5] * 7, "attention_mask": [1] * 7} for _ in range(3))
    shapes = dict[str, list[tuple[int, ...]]]()
    ranges.watch(
        network, names, rows, lambda name, values: shapes.setdefault(name, []).append(values.shape)
    )
    assert shapes.keys() == set(names)
    assert all(
        sum(len(shape) == 3 and shape[0] * shape[1] for shape in each) == 21
        for each in shapes.values()
    )
    assert {shape[-2] for each in shapes.values() for shape in each} == {7}


@pytest.mark.parametrize("name", ["query_proj", "value_proj"])
def test_only_the_first_call_of_each_pass_is_one_of_text(name):
    network = classifier("deberta-v3", "eager", share_att_key=True, pos_att_type=["c2p", "p2c"])
    layer = next(module for path, module in network.named_modules() if path.endswith(name))
    found: list[tuple[bool, tuple[int, ...]]] = []
    with ranges.calls_with_text(network) as reads_text:
        hook = layer.register_forward_pre_hook(
            lambda _, inputs: found.append((reads_text("it"), tuple(inputs[0].shape[:2])))
        )
        for rows in (2, 3):
            network(input_ids=torch.full((rows, 7), 5))
        hook.remove()
    texts = [shape for of_text, shape in found if of_text]
    assert texts == [(2, 7), (3, 7)]
    assert (len(found) > len(texts)) is (name == "query_proj")
    assert not network._forward_pre_hooks


def test_all_calls_of_a_model_that_is_not_described_are_of_text():
    """Layers may share weights there, and each call counts."""
    network = nn.Sequential(nn.Linear(2, 2))
    with ranges.calls_with_text(network) as reads_text:
        assert [reads_text("it"), reads_text("it")] == [True, True]
