"""Measure the cold start: the time from the start of a fresh process to its first answer."""

from __future__ import annotations

import itertools
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from rarefy.pipeline.measure import engines, fresh_process
from rarefy.pipeline.measure.row_lengths import character_lengths, select_rows
from rarefy.pipeline.model.batches import order_by_length
from rarefy.pipeline.terms.errors import EvidenceError
from rarefy.pipeline.terms.interval import Interval
from rarefy.pipeline.terms.progress import Progress, silent


class ColdStart(NamedTuple):
    """The time of one start in ms: the total and its consecutive parts.

    ``imports``: the interpreter, onnxruntime or openvino, tokenizers and numpy. ``load``: the
    session and the tokenizer. ``answer``: the first row, from text to probabilities.
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
    """Start each bundle ``runs`` times in fresh processes, each bundle once per round.

    ``bundles``: name -> directory. The order within a round is random; entry i of every model
    comes from the same round. The row is the one of median length. The first start of each bundle
    is not counted: it loads the files into the page cache, where they stay. A machine that has
    just booted is therefore slower than the result. The monotonic clock is shared by all
    processes of a machine.

    Raises ProviderError and EvidenceError as ``fresh_process.call`` does, and EvidenceError if
    there are no texts.
    """
    if not texts:
        raise EvidenceError("a cold start needs at least one row to answer")
    characters = character_lengths(texts, pairs)
    middle = order_by_length(characters)[len(texts) // 2]
    text, pair = select_rows(texts, pairs, [middle])
    request: dict[str, Any] = {"texts": text, "pairs": pair, "threads": threads}
    ran_by = engines.providers(bundles, provider)
    generator = np.random.default_rng(seed)
    names = list(bundles)
    starts: dict[str, list[ColdStart]] = {name: [] for name in names}
    total = (runs + 1) * len(names)
    done = 0
    for number in range(runs + 1):
        for index in generator.permutation(len(names)).tolist():
            name = names[index]
            progress(done, total, f"cold starts on {provider}: {done + 1} of {total}")
            request["directory"] = str(bundles[name].resolve())
            request["provider"] = ran_by[name]
            start = _start(request, name)
            if number:
                starts[name].append(start)
            done += 1
    return starts


def _start(request: dict[str, Any], name: str) -> ColdStart:
    began = time.monotonic_ns()
    answer = fresh_process.call(
        "rarefy.pipeline.measure.memory.cold_start_worker",
        request,
        what=f"cold start of {name}",
        timeout=600,
        threads=request["threads"],
    )
    moments = [began, answer["imported"], answer["loaded"], answer["answered"]]
    parts = []
    for before, after in itertools.pairwise(moments):
        parts.append((after - before) / 1e6)
    return ColdStart(sum(parts), *parts)


def median(values: Sequence[float]) -> Interval:
    """Return the median of independent values with its distribution-free 95% interval.

    The bounds are order statistics. With 6 values they are the smallest and the largest, which
    include the median with probability 1 − 2/2⁶ = 96.9%.

    Raises ValueError if there are fewer than 6 values, for which no such interval exists.
    """
    from scipy.stats import binom

    ascending = sorted(values)
    n = len(ascending)
    outside = int(binom.ppf(0.025, n, 0.5))
    if not outside:
        raise ValueError(f"{n} values are too few for a 95% interval of the median")
    middle = float(np.median(ascending))
    return Interval(middle, ascending[outside - 1], ascending[n - outside])


def ratio(numerator: Sequence[float], denominator: Sequence[float]) -> Interval:
    """Return the median of two models' per-round ratios, with the interval of ``median``.

    The interval inverts a sign test (Thompson 1936): it only assumes that rounds are independent.
    Load that slows a whole round slows both models and cancels out of the ratio.
    """
    ratios = [over / under for over, under in zip(numerator, denominator, strict=True)]
    return median(ratios)
