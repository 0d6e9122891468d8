"""Latencies of several bundles, interleaved row by row in one fresh process after the other."""

from __future__ import annotations

import math
import re
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from pipeline.measure import drift, fresh, machine, statistics
from pipeline.measure.measurements import CANDIDATE, Latency
from pipeline.terms.errors import EvidenceError
from pipeline.terms.progress import Progress, silent

LOOKS, GROWTH = 4, 1.75
"""Looks at growing data: after 5, 9, 16 and 27 processes."""
SHARE = 30
"""A process times for this part of the whole, when its models are loaded and warm."""
QUIET = 0.2


def measure(
    bundles: Mapping[str, Path],
    texts: Sequence[str],
    pairs: Sequence[str] | None = None,
    *,
    provider: str = "cpu",
    threads: int = 1,
    processes: int = 5,
    seconds: float = 60.0,
    seed: int = 0,
    lengths: Sequence[int] = (),
    clear: Callable[[Latency], bool] | None = None,
    progress: Progress = silent,
) -> Latency:
    """Time each bundle on the same rows, next to each other, in random order.

    ``bundles``: name -> directory. Fresh processes, one after the other, each load them all, are
    tied to ``threads`` quiet cores, warm up until steady, and time row by row. There are at least
    ``processes`` of them. Without ``clear`` no more; with it, sampling goes on until ``clear`` says
    of what was found that it is enough, or ``seconds`` are over. ``lengths``: tokens, of which each
    process times some calls too. The baseline (the first bundle that is not the candidate) is
    loaded and timed twice: the interval of its median against itself is the session's noise floor.

    Raises ProviderError where the provider is not active, EvidenceError where a process dies.
    """
    if not texts:
        raise EvidenceError("latency needs at least one row to time")
    twice = next((name for name in bundles if name != CANDIDATE), next(iter(bundles)))
    request = {
        "bundles": {name: str(path.resolve()) for name, path in bundles.items()},
        "twice": twice,
        "texts": list(texts),
        "pairs": None if pairs is None else list(pairs),
        "provider": provider,
        "threads": threads,
        "seconds": seconds / SHARE,
        "lengths": list(lengths),
    }
    schedule = _schedule(processes) if clear else [processes]
    answers: list[dict[str, Any]] = []
    started = time.monotonic()
    while True:
        number = len(answers)
        note = f"timing on {provider}, process {number + 1}"

        def tick(note: str = note) -> None:
            progress(min(time.monotonic() - started, seconds), seconds, note)

        answers.append(
            fresh.call(
                "pipeline.measure.latency_worker",
                request | {"seed": [seed, number], "cores": _cores(threads, number)},
                what=f"latency on {provider}: process {number + 1}",
                timeout=600 + 10 * seconds,
                threads=threads,
                tick=tick,
            )
        )
        count, spent = len(answers), time.monotonic() - started
        over = count >= processes and spent * (count + 1) / count > seconds
        if count not in schedule and not over:
            continue
        found = _gather(answers, list(bundles), twice, provider, threads, len(schedule))
        found.seconds = spent
        if clear is not None and clear(found):
            found.stopped = "every budget on it was clear"
        elif clear is None or count == schedule[-1]:
            found.stopped = f"{count} processes were asked for"
        elif over:
            found.stopped = f"the {seconds:g} s were over"
        if found.stopped:
            progress(seconds, seconds, f"timed on {provider}")
            return found


def _schedule(first: int) -> list[int]:
    """Return the numbers of processes after which to look."""
    return [math.ceil(first * GROWTH**look) for look in range(LOOKS)]


def _cores(threads: int, number: int) -> list[int]:
    """Return quiet cores for a process: another start for each, so that no core is in them all."""
    cores = machine.quiet_cores(QUIET) if threads < len(machine.cores()) else machine.cores()
    if len(cores) < threads:
        cores = machine.cores()
    start = (len(cores) - threads * (number + 1)) % len(cores)
    return [cores[(start + offset) % len(cores)] for offset in range(min(threads, len(cores)))]


def _gathered(said: list[list[str]]) -> list[str]:
    """Return each thing that processes said once, with how many said it and its worst number."""
    alike: dict[str, list[str]] = {}
    for sentence in (sentence for one in said for sentence in one):
        alike.setdefault(re.sub(r"[\d.]+", "#", sentence), []).append(sentence)
    return [
        f"{len(found)} of {len(said)} processes: {max(found, key=_first_number)}"
        for found in alike.values()
    ]


def _first_number(sentence: str) -> float:
    found = re.search(r"\d+(?:\.\d+)?", sentence)
    return float(found[0]) if found else 0.0


def _gather(
    answers: list[dict[str, Any]],
    names: list[str],
    twice: str,
    provider: str,
    threads: int,
    looks: int,
) -> Latency:
    def by_model(key: str) -> dict[str, list[list[float]]]:
        return {name: [answer[key][name] for answer in answers] for name in names}

    samples = by_model("wall")
    again = [answer["again"] for answer in answers]
    noise = statistics.percentile_ratio(samples[twice], again, 50, looks=looks)
    busy = _gathered([answer["busy"] for answer in answers])
    physical = len(machine.cores())
    if threads > physical:
        busy.append(f"{threads} threads shared {physical} cores")
    return Latency(
        samples=samples,
        cpu=by_model("cpu"),
        tokenizer=by_model("tokenizer"),
        device=by_model("device") if provider != "cpu" else {},
        fixed={
            length: {name: [answer["fixed"][length][name] for answer in answers] for name in names}
            for length in answers[0]["fixed"]
        },
        tokens=[length for answer in answers for length in answer["tokens"]],
        noise=(noise.low, noise.high),
        busy=busy,
        throttled=drift.found(samples[twice], [answer["rows"] for answer in answers]),
        looks=looks,
        provider=provider,
        threads=threads,
    )
