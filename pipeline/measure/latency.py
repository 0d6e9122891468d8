"""Latencies of several bundles, interleaved row by row in several processes."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from pipeline.errors import EvidenceError
from pipeline.measure import fresh, machine, statistics
from pipeline.measure.measurements import CANDIDATE, Latency

Progress = Callable[[float, float, str], None]


def measure(
    bundles: Mapping[str, Path],
    texts: Sequence[str],
    pairs: Sequence[str] | None = None,
    *,
    provider: str = "cpu",
    threads: int = 1,
    processes: int = 3,
    seconds: float = 45.0,
    seed: int = 0,
    lengths: Sequence[int] = (),
    clear: Callable[[Latency], bool] | None = None,
    progress: Progress = lambda done, total, note: None,
) -> Latency:
    """Time each bundle on the same rows, next to each other, in random order.

    ``bundles``: name -> directory. Each of ``processes`` fresh processes, one after the other,
    loads them all, is tied to ``threads`` cores, warms up until steady, and spends its part of
    ``seconds`` (start included; it may go over for the least number of calls that count). The
    baseline (the first bundle that is not the candidate) is loaded and timed twice: the interval
    of the ratio of its medians against itself is the session's noise floor.

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
        "seconds": seconds / processes,
    }
    started, answers = time.monotonic(), []
    for number in range(processes):
        note = f"timing on {provider}, process {number + 1} of {processes}"

        def tick(number: int = number, note: str = note) -> None:
            most = seconds * (number + 1) / processes
            progress(min(time.monotonic() - started, most), seconds, note)

        answers.append(
            fresh.call(
                "pipeline.measure.latency_worker",
                request | {"seed": [seed, number], "cores": _cores(threads, number)},
                what=f"latency on {provider}: process {number + 1} of {processes}",
                timeout=600 + 10 * seconds,
                threads=threads,
                tick=tick,
            )
        )
    progress(seconds, seconds, f"timed on {provider}")
    return _gather(answers, list(bundles), twice, provider, threads, seed)


def _cores(threads: int, number: int) -> list[int]:
    """Return the cores for a process: another start for each, so that no core is in them all."""
    cores = machine.cores()
    start = (len(cores) - threads * (number + 1)) % len(cores)
    return [cores[(start + offset) % len(cores)] for offset in range(min(threads, len(cores)))]


def _gather(
    answers: list[dict[str, Any]],
    names: list[str],
    twice: str,
    provider: str,
    threads: int,
    seed: int,
) -> Latency:
    samples = {name: [answer["wall"][name] for answer in answers] for name in names}
    again = [answer["again"] for answer in answers]
    noise = statistics.percentile_ratio(samples[twice], again, 50, seed)
    busy: list[str] = []
    for number, answer in enumerate(answers, 1):
        busy += [f"process {number}: {sentence}" for sentence in answer["busy"]]
    physical = len(machine.cores())
    if threads > physical:
        busy.append(f"{threads} threads shared {physical} cores")
    return Latency(
        samples=samples,
        cpu={name: [answer["cpu"][name] for answer in answers] for name in names},
        tokenizer={name: [answer["tokenizer"][name] for answer in answers] for name in names},
        tokens=[length for answer in answers for length in answer["tokens"]],
        noise=(noise.low, noise.high),
        busy=busy,
        provider=provider,
        threads=threads,
    )
