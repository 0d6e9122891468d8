"""Calibration: the range of each layer's input, which static quantization maps to 256 integers.

A wide range rounds all inputs coarsely, a narrow one cuts the largest. Wu et al. 2020 (arXiv
2004.09602, section 3.3) compare the methods. Rows are on disk and read twice; in memory, only their
lengths and targets grow with their number.

DeBERTa calls the layers of queries and keys twice: then with its table of positions, which is no
input of an exported layer. So in a family that is described, the first call of a pass counts.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from rarefy.pipeline.model.architectures.families import ARCHITECTURES
from rarefy.pipeline.model.quantization.plan import Calibration
from rarefy.pipeline.stage import Context
from rarefy.pipeline.tasks.task import Row, inputs_of
from rarefy.pipeline.terms.progress import Progress, silent
from rarefy.stages.training import calibration_rows
from rarefy.stages.training.rows import Rows
from rarefy.stages.training.run import CHUNK

BINS = 2048
STEPS = 255
"""Steps of an unsigned 8-bit integer."""
SHARES = np.geomspace(1, 1 / 32, 31)
"""The shares of each side of the largest range that are tried."""
Floats = NDArray[np.float64]
Factors = Mapping[str, Sequence[float]]
"""What the inputs of a layer are divided by before they are rounded, one for each channel."""
NONE: Factors = {}


class Range(NamedTuple):
    """The smallest and the largest input that are told apart; zero lies between them."""

    low: float
    high: float


@dataclass
class Histogram:
    """How often a layer's inputs fall into equal parts of their largest range."""

    ends: Range
    counts: Floats

    @property
    def width(self) -> float:
        return (self.ends.high - self.ends.low) / BINS

    @property
    def middles(self) -> Floats:
        """Return the middle of each part."""
        return self.ends.low + self.width * (np.arange(BINS) + 0.5)


def rows(context: Context, tokenizer: Any, name: str, count: int) -> Rows:
    """Return tokenized rows spread evenly over a split, in a file in ``context.work``."""
    split = context.split(name)
    tokenized = Rows(context.work)
    chosen = split.evenly(count)
    for start in range(0, len(chosen), CHUNK):
        part = chosen[start : start + CHUNK]
        tokenized.extend(context.task.encoder.examples(tokenizer, split, part))
    return tokenized


@contextlib.contextmanager
def calls_with_text(model: Any) -> Iterator[Callable[[str], bool]]:
    """Yield ``reads_text(name)``, which says once for each call of a layer if it reads the text."""
    config = getattr(model, "config", None)
    first_only = getattr(config, "model_type", None) in ARCHITECTURES
    called = set[str]()

    def reads_text(name: str) -> bool:
        first = name not in called
        if first_only:
            called.add(name)
        return first

    hook = model.register_forward_pre_hook(lambda *_: called.clear())
    try:
        yield reads_text
    finally:
        hook.remove()


@torch.no_grad()
def measure(
    model: nn.Module,
    names: Sequence[str],
    rows: Sequence[Row],
    how: Calibration,
    progress: Progress = silent,
    factors: Factors = NONE,
) -> dict[str, Range]:
    """Return the range of the input of each module over rows.

    Args:
        model: in eval mode.
        names: paths of modules.
        rows: tokenized rows.
        how: the method of calibration.
        progress: called with rows that are done.
        factors: (inputs,) for some modules, by which their inputs are divided.
    """
    ends = _ends(model, names, rows, progress, factors)
    if how.method == "min-max":
        return ends
    counted = _histograms(model, ends, rows, progress, factors)
    return {name: choose(histogram, how) for name, histogram in counted.items()}


@torch.no_grad()
def histograms(
    model: nn.Module,
    names: Sequence[str],
    rows: Sequence[Row],
    progress: Progress = silent,
    factors: Factors = NONE,
) -> dict[str, Histogram]:
    """Return how the inputs of each module, over its factors, are distributed in ``rows``."""
    ends = _ends(model, names, rows, progress, factors)
    return _histograms(model, ends, rows, progress, factors)


def choose(histogram: Histogram, how: Calibration) -> Range:
    """Return the range that a method chooses.

    ``min-max``: the largest. ``mse``: the one whose rounded inputs have the least mean squared
    error. A share of the inputs, and the least KL divergence of their distribution (Migacz 2017,
    "8-bit inference with TensorRT"), were farther from fp32 than the largest range.
    """
    if how.method == "min-max" or histogram.ends.low == histogram.ends.high:
        return histogram.ends
    low, high = histogram.ends
    candidates = [Range(low, high)]
    if low < 0:
        candidates += [Range(low * share, high) for share in SHARES[1:]]
    best = min(candidates, key=lambda limits: squared_error(histogram, limits))
    candidates = [best]
    if high > 0:
        candidates += [Range(best.low, high * share) for share in SHARES[1:]]
    return min(candidates, key=lambda limits: squared_error(histogram, limits))


def widened(limits: Range) -> Range:
    """Return the least range around this one whose steps are those of int8 with zero at zero.

    int8 reaches from −128 to 127, so the range does, too, in its steps.
    """
    step = max(-limits.low / 128, limits.high / 127)
    return Range(-128 * step, 127 * step)


def squared_error(histogram: Histogram, limits: Range) -> float:
    """Return the mean squared error of inputs that are rounded within ``limits``."""
    rounded = _rounded(histogram.middles, limits)
    errors = (histogram.middles - rounded) ** 2
    total = (histogram.counts * errors).sum()
    return float(total / histogram.counts.sum())


def _rounded(values: Floats, limits: Range) -> Floats:
    scale = max((limits.high - limits.low) / STEPS, 1e-12)
    zero = np.rint(-limits.low / scale)
    codes = np.clip(np.rint(values / scale) + zero, 0, STEPS)
    return (codes - zero) * scale


def _ends(
    model: nn.Module,
    names: Sequence[str],
    rows: Sequence[Row],
    progress: Progress,
    factors: Factors,
) -> dict[str, Range]:
    """Return the smallest and the largest input of each module, and zero."""
    ends = dict.fromkeys(names, Range(0.0, 0.0))

    def see(name: str, values: torch.Tensor) -> None:
        divided = _divided(values, factors.get(name))
        low, high = torch.aminmax(divided)
        before = ends[name]
        least, most = min(before.low, float(low)), max(before.high, float(high))
        ends[name] = Range(least, most)

    watch(model, names, rows, see, progress, "recording input ranges")
    return ends


def _histograms(
    model: nn.Module,
    ends: Mapping[str, Range],
    rows: Sequence[Row],
    progress: Progress,
    factors: Factors = NONE,
) -> dict[str, Histogram]:
    distributions = {name: Histogram(limits, np.zeros(BINS)) for name, limits in ends.items()}

    def see(name: str, values: torch.Tensor) -> None:
        low, high = ends[name]
        histogram = distributions[name]
        if low < high:
            divided = _divided(values, factors.get(name))
            counts = torch.histc(divided.float(), BINS, low, high)
            histogram.counts += counts.double().numpy()
        else:
            histogram.counts[0] += values.numel()

    watch(model, list(ends), rows, see, progress, "counting inputs")
    return distributions


def _divided(values: torch.Tensor, factors: Sequence[float] | None) -> torch.Tensor:
    if factors is None:
        return values
    return values / torch.tensor(factors)


@torch.no_grad()
def watch(
    model: nn.Module,
    names: Sequence[str],
    rows: Sequence[Row],
    see: Callable[[str, torch.Tensor], None],
    progress: Progress = silent,
    note: str = "",
) -> None:
    """Run rows through a model, and show ``see`` the inputs of modules.

    Args:
        model: in eval mode.
        names: paths of modules.
        rows: tokenized rows.
        see: called with a module's path and its input (rows, …, inputs), for each batch.
        progress: called with rows that are done.
        note: what is being done.
    """
    done = 0
    with calls_with_text(model) as reads_text, contextlib.ExitStack() as hooks:
        for name in names:

            def show(_: Any, inputs: tuple[torch.Tensor, ...], name: str = name) -> None:
                if reads_text(name):
                    see(name, inputs[0].detach())

            module = model.get_submodule(name)
            hook = module.register_forward_pre_hook(show)
            hooks.callback(hook.remove)
        for batch in calibration_rows.batches(rows, "cpu"):
            progress(done, len(rows), note)
            model(**inputs_of(batch))
            done += len(next(iter(batch.values())))
