"""GPTQ against what it is an efficient form of, and against rounding to the nearest step."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from rarefy.pipeline.model.quantization import four_bits
from rarefy.pipeline.model.quantization.four_bits import BLOCK
from rarefy.stages.quantize import gptq


def correlated(columns: int, tokens: int = 400) -> torch.Tensor:
    """Return inputs that are mixtures of a few, tokens × columns."""
    draw = torch.Generator().manual_seed(0)
    few = torch.randn(tokens, max(2, columns // 8), generator=draw, dtype=torch.float64)
    mixed = few @ torch.randn(few.shape[1], columns, generator=draw, dtype=torch.float64)
    return mixed + 0.1 * torch.randn(tokens, columns, generator=draw, dtype=torch.float64)


def weight(columns: int, outputs: int = 5) -> torch.Tensor:
    return torch.randn(outputs, columns, generator=torch.Generator().manual_seed(1))


def one_by_one(weight: np.ndarray, moment: np.ndarray) -> np.ndarray:
    """Return a rounded weight by the formula of Optimal Brain Surgeon (Frantar & Alistarh 2022).

    After each column is rounded, those that are left take up its error, by the inverse of the
    second moments of what is left, which is computed anew. Steps are of the first block only.
    """
    left, columns = weight.astype(np.float64), weight.shape[1]
    damped = moment + gptq.DAMPING * np.diag(moment).mean() * np.eye(columns)
    scale, zero = (each[:, None] for each in four_bits.steps(weight))
    for at in range(columns):
        column = left[:, at : at + 1]
        rounded = (np.clip(np.rint(column / scale) + zero, 0, 15) - zero.astype(float)) * scale
        inverse = np.linalg.inv(damped[at:, at:])
        left[:, at:] -= (column - rounded) / inverse[0, 0] * inverse[:1]
        left[:, at : at + 1] = rounded
    return left


def test_it_rounds_as_the_formula_that_computes_every_inverse():
    inputs, given = correlated(BLOCK), weight(BLOCK)
    moment = inputs.T @ inputs
    found = gptq.rounded(given, moment).values()
    np.testing.assert_allclose(found, one_by_one(given.numpy(), moment.numpy()), atol=1e-5)


def test_inputs_that_are_independent_leave_each_number_its_nearest_step():
    given = weight(3 * BLOCK)
    found = gptq.rounded(given, torch.eye(3 * BLOCK, dtype=torch.float64))
    nearest = four_bits.blocks(given.numpy())
    assert (found.codes == nearest.codes).all()
    np.testing.assert_array_equal(found.scales, nearest.scales)


@pytest.mark.parametrize("columns", [BLOCK // 2, 2 * BLOCK, 2 * BLOCK + 7])
def test_outputs_move_less_than_with_the_nearest_steps(columns: int):
    inputs, given = correlated(columns), weight(columns)
    exact = inputs @ given.T.double()

    def error(made: four_bits.Blocks) -> float:
        return float((inputs @ torch.from_numpy(made.values()).double().T - exact).norm())

    assert error(gptq.rounded(given, inputs.T @ inputs)) < 0.7 * error(
        four_bits.blocks(given.numpy())
    )


def test_an_input_that_is_never_there_does_no_harm():
    inputs, given = correlated(BLOCK), weight(BLOCK)
    inputs[:, 3] = 0
    found = gptq.rounded(given, inputs.T @ inputs).values()
    assert np.isfinite(found).all()
    silent = gptq.rounded(given, torch.zeros(BLOCK, BLOCK, dtype=torch.float64))
    assert (silent.codes == four_bits.blocks(given.numpy()).codes).all()


def test_layers_are_measured_in_as_many_passes_as_memory_asks_for(monkeypatch):
    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second, self.odd = nn.Linear(8, 6), nn.Linear(6, 4), nn.Linear(4, 3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            passes.append(1)
            return self.odd(self.second(self.first(x)))

    passes: list[int] = []
    model, rows = Two(), [{"x": [float(at == column) for at in range(8)]} for column in range(8)]
    names = ["first", "second", "odd"]
    whole = gptq.rounded_layers(model, names, rows)
    assert list(whole) == ["first", "second"]  # two outputs share a byte
    once = len(passes)
    monkeypatch.setattr(gptq, "HELD", 1)
    apart = gptq.rounded_layers(model, names, rows)
    assert len(passes) == 3 * once
    for name in whole:
        assert (whole[name].codes == apart[name].codes).all()
