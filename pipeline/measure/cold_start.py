"""Cold start: from the start of a fresh process to its first answer, models in turn."""

from __future__ import annotations

import itertools
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from pipeline.measure import fresh
from pipeline.terms.errors import EvidenceError
from pipeline.terms.interval import Interval
from pipeline.terms.progress import Progress, silent


class ColdStart(NamedTuple):
    """One start, in ms: all of it, and its parts one after the other.

    ``imports``: the interpreter, onnxruntime, tokenizers and numpy; ``load``: the session and the
    tokenizer; ``answer``: the first row, text to probabilities.
    """

    total: float
    imports: float
    load: float
    answer: float


def measure(
    bundles: Mapping[str, Path],
    texts: Sequence[str],
    pairs: Sequence[str] | None = None,
    *,
    provider: str = "cpu",
    threads: int = 1,
    runs: int = 6,
    seed: int = 0,
    progress: Progress = silent,
) -> dict[str, list[ColdStart]]:
    """Start each bundle ``runs`` times in fresh processes, all of them once a round.

    ``bundles``: name -> directory. The order within a round is random; position i of every model
    is the same round. The row is the one of median length. A first start of each is not counted: it
    brings files into the page cache, and there they stay, so a machine that has just booted is
    slower than this. The monotonic clock is the same for all processes of a machine.

    Raises ProviderError and EvidenceError as ``fresh.call`` does.
    """
    if not texts:
        raise EvidenceError("a cold start needs a row to answer")
    row = sorted(range(len(texts)), key=lambda at: len(texts[at]))[len(texts) // 2]
    request = {
        "text": texts[row],
        "pair": None if pairs is None else [pairs[row]],
        "provider": provider,
        "threads": threads,
    }
    generator = np.random.default_rng(seed)
    names = list(bundles)
    found: dict[str, list[ColdStart]] = {name: [] for name in names}
    for number in range(runs + 1):
        for place, index in enumerate(generator.permutation(len(names)).tolist()):
            name = names[index]
            done, total = number * len(names) + place, (runs + 1) * len(names)
            progress(done, total, f"cold starts on {provider}: {done + 1} of {total}")
            start = _start(request | {"directory": str(bundles[name].resolve())}, name)
            if number:
                found[name].append(start)
    return found


def _start(request: dict[str, Any], name: str) -> ColdStart:
    began = time.monotonic_ns()
    answer = fresh.call(
        "pipeline.measure.cold_start_worker",
        request,
        what=f"cold start of {name}",
        timeout=600,
        threads=request["threads"],
    )
    moments = [began, answer["imported"], answer["loaded"], answer["answered"]]
    parts = [(b - a) / 1e6 for a, b in itertools.pairwise(moments)]
    return ColdStart(sum(parts), *parts)


def median(values: Sequence[float]) -> Interval:
    """Return the median of independent values with its distribution-free 95 % interval.

    The bounds are order statistics: of 6 values the smallest and the largest, which hold the median
    with 1 − 2/2⁶ = 96.9 %. With fewer than 6 there is no such interval.

    Raises ValueError where there are fewer.
    """
    from scipy.stats import binom

    ascending = sorted(values)
    n = len(ascending)
    outside = int(binom.ppf(0.025, n, 0.5))
    if not outside:
        raise ValueError(f"{n} values carry no 95 % interval of a median")
    return Interval(float(np.median(ascending)), ascending[outside - 1], ascending[n - outside])


def ratio(numerator: Sequence[float], denominator: Sequence[float]) -> Interval:
    """Return the median of two models' ratios in the same rounds, with the interval of ``median``.

    A sign test turned round (Thompson 1936): it asks of the noise only that rounds are
    independent. What slows a whole round, as a neighbour does, is in both and leaves the ratio.
    """
    return median([over / under for over, under in zip(numerator, denominator, strict=True)])
