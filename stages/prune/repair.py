"""Repair what pruning broke, layer by layer: the layers that read the remaining units are solved.

In the order of the forward pass, the matrix and the bias with which a layer reads its remaining
heads or neurons are chosen so that the residual stream comes as close as possible to the unpruned
model's: least squares over calibration tokens, with a ridge towards the weights that were there
(ZipLM, Kurtic et al. 2023, arXiv 2302.04089; K-prune, Park et al. 2024, arXiv 2308.03449; OSSCAR,
Meng et al. 2024, arXiv 2403.12983). One factor for each unit (Kwon et al. 2022, arXiv 2204.09656,
§4.3), which this replaced, is the same problem with far fewer unknowns.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any

import torch
from torch import Tensor, nn

from rarefy.pipeline.tasks.task import inputs_of
from rarefy.stages.surgery.units import Part, bias_of, replace_reader, weight_of

Batch = dict[str, Tensor]

HELD_OUT = 4
"""Every fourth row is held out to choose the ridge."""
RIDGES = (1e-4, 1e-3, 1e-2, 1e-1, 1.0)
"""Weights of the ridge, as shares of the mean square of a unit's column."""


class _Enough(Exception):  # noqa: N818
    """Stops a forward pass once it has reached the part that is repaired."""


def repair(
    model: Any,
    parts: list[Part],
    whole: Any,
    whole_parts: list[Part],
    batches: list[Batch],
    progress: Callable[[int, int], None],
) -> int:
    """Solve the reading layers of all parts in turn; return how many stay as they are.

    One stays if no solution is better than it on rows that are held out. Only sums over tokens are
    kept between batches, so memory does not grow with the number of rows. The cost is that the
    unpruned model runs as often as the pruned one.

    Args:
        model: the pruned model.
        parts: its parts in the order of the forward pass.
        whole: the model before pruning.
        whole_parts: its parts, in the same order.
        batches: calibration rows, unpadded.
        progress: called with the number of parts done and the total.
    """
    unsolved = 0
    for index, (part, original) in enumerate(zip(parts, whole_parts, strict=True)):
        reader = reader_of(part)
        fitted, held_out = equations(model, part, whole, original, batches)
        solution = solve(reader, fitted, held_out, factor_of(part))
        if solution is None:
            unsolved += 1
        else:
            replace_reader(part, *_parted(part, solution))
        progress(index + 1, len(parts))
    return unsolved


class NormalEquations:
    """The sums XᵀX and XᵀY over tokens of a least-squares problem X·W = Y.

    Args:
        inputs: columns of X.
        outputs: columns of Y.
        constant: whether the last column of X is 1, so that the last row of W is a bias.
        device: where the sums are.
    """

    def __init__(
        self, inputs: int, outputs: int, *, constant: bool = False, device: Any = None
    ) -> None:
        self.constant = constant
        self.moment = torch.zeros(inputs, inputs, dtype=torch.double, device=device)
        self.cross = torch.zeros(inputs, outputs, dtype=torch.double, device=device)

    def add(self, inputs: Tensor, target: Tensor) -> None:
        """Add tokens; ``inputs``: (tokens, inputs), ``target``: (tokens, outputs)."""
        inputs, target = inputs.double(), target.double()
        self.moment.addmm_(inputs.T, inputs)
        self.cross.addmm_(inputs.T, target)

    def __add__(self, other: NormalEquations) -> NormalEquations:
        device = self.cross.device
        total = NormalEquations(*self.cross.shape, constant=self.constant, device=device)
        total.moment = self.moment + other.moment
        total.cross = self.cross + other.cross
        return total

    def error(self, weight: Tensor) -> float:
        """Return ‖X·W − Y‖² less ‖Y‖², for W (inputs, outputs)."""
        return float((weight * (self.moment @ weight - 2 * self.cross)).sum())

    def nearest(self, weight: Tensor, ridge: float) -> Tensor | None:
        """Return argmin ‖X·W − Y‖² + λ‖W − weight‖², or None if that is singular.

        Args:
            weight: (inputs, outputs), to which the ridge pulls.
            ridge: λ, as a share of the mean diagonal of XᵀX.
        """
        diagonal = self.moment.diagonal()
        penalty = ridge * diagonal.mean()
        identity = torch.eye(len(diagonal)).to(self.moment)
        factor, failed = torch.linalg.cholesky_ex(self.moment + penalty * identity)
        if failed:
            return None
        residual = self.cross - self.moment @ weight
        return weight + torch.cholesky_solve(residual, factor)

    def within(self, weight: Tensor, factor: Tensor) -> Tensor:
        """Return what a factorized layer can express of a solution, with a bias that fits it.

        Args:
            weight: (inputs, outputs); the last row is the bias, if there is one.
            factor: (outputs, rank), the layer's second factor.
        """
        columns = len(weight) - self.constant
        coefficients = torch.linalg.lstsq(factor, weight[:columns].T).solution
        expressed = (factor @ coefficients).T
        if not self.constant:
            return expressed
        sums, tokens = self.moment[-1, :columns], self.moment[-1, -1]
        bias = (self.cross[-1] - sums @ expressed) / tokens
        return torch.cat([expressed, bias[None]])


def solve(
    weight: Tensor,
    fitted: NormalEquations,
    held_out: NormalEquations,
    factor: Tensor | None = None,
) -> Tensor | None:
    """Return the solution over all tokens with the ridge that is best on those held out.

    Returns None if none is better there than ``weight``.

    Args:
        weight: (inputs, outputs), from which solutions depart.
        fitted: the equations of the tokens that are fitted.
        held_out: those of the others.
        factor: (outputs, rank) of a factorized layer, which expresses no more than that.
    """

    def solution_of(equations: NormalEquations, ridge: float) -> Tensor | None:
        nearest = equations.nearest(weight, ridge)
        if nearest is None or factor is None:
            return nearest
        return equations.within(nearest, factor)

    least, best = held_out.error(weight), None
    for ridge in RIDGES:
        solution = solution_of(fitted, ridge)
        if solution is None:
            continue
        error = held_out.error(solution)
        if error < least:
            least, best = error, ridge
    if best is None:
        return None
    return solution_of(fitted + held_out, best)


def factor_of(part: Part) -> Tensor | None:
    """Return the second factor (outputs, rank) of what reads a part's units, if it has two."""
    if not hasattr(part.sink, "up"):
        return None
    factor: Tensor = part.sink.up.weight.detach().double()
    return factor


def reader_of(part: Part) -> Tensor:
    """Return what reads a part's units, (columns, outputs), with its bias as the last row."""
    weight, bias = weight_of(part.sink).detach().T, bias_of(part.sink)
    if bias is not None:
        weight = torch.cat([weight, bias.detach()[None]])
    return weight.double()


def _parted(part: Part, solution: Tensor) -> tuple[Tensor, Tensor | None]:
    """Return the (outputs, columns) matrix and the bias of a solution like ``reader_of``."""
    if bias_of(part.sink) is None:
        return solution.T, None
    return solution[:-1].T, solution[-1]


def equations(
    model: Any, part: Part, whole: Any, original: Part, batches: list[Batch]
) -> tuple[NormalEquations, NormalEquations]:
    """Accumulate a part's equations, of the rows to fit and of those held out.

    The target is what the units must add to the pruned model's residual stream to make it that of
    the unpruned one.
    """
    reader = reader_of(part)
    constant = bias_of(part.sink) is not None
    sums = [
        NormalEquations(*reader.shape, constant=constant, device=reader.device) for _ in range(2)
    ]
    fitted, held_out = sums
    first = 0
    for batch in batches:
        residual, units = _reach(model, part, batch)
        target = _stream_after(whole, original, batch) - residual
        if constant:
            units = torch.cat([units, torch.ones_like(units[:, :1])], 1)
        rows = len(batch["input_ids"])
        tokens = len(units) // rows
        numbers = torch.arange(first, first + rows, device=units.device)
        last = numbers % HELD_OUT == HELD_OUT - 1
        held = last.repeat_interleave(tokens)
        fitted.add(units[~held], target[~held])
        held_out.add(units[held], target[held])
        first += rows
    return fitted, held_out


def _reach(model: Any, part: Part, batch: Batch) -> tuple[Tensor, Tensor]:
    """Return the residual stream before a part (tokens, hidden) and its units (tokens, columns)."""
    seen: list[Tensor] = []

    def enter(_: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        seen.append(inputs[0].flatten(0, 1))

    def reach(_: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        seen.append(inputs[0].flatten(0, 1))
        raise _Enough

    _run(
        model,
        batch,
        part.entry.register_forward_pre_hook(enter),
        part.sink.register_forward_pre_hook(reach),
    )
    residual, units = seen
    return residual, units


def _stream_after(model: Any, part: Part, batch: Batch) -> Tensor:
    """Return the residual stream after a part: (tokens, hidden)."""
    seen: list[Tensor] = []

    def enter(_: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        seen.append(inputs[0].flatten(0, 1))

    def leave(_: nn.Module, __: Any, output: Tensor) -> None:
        seen.append(output.flatten(0, 1))
        raise _Enough

    _run(
        model,
        batch,
        part.entry.register_forward_pre_hook(enter),
        part.sink.register_forward_hook(leave),
    )
    residual, output = seen
    return residual + output


def _run(model: Any, batch: Batch, *handles: Any) -> None:
    try:
        with torch.no_grad(), suppress(_Enough):
            model(**inputs_of(batch))
    finally:
        for handle in handles:
            handle.remove()
