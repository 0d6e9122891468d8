"""Latencies of several bundles, interleaved row by row in one fresh process after the other."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from pipeline.measure import drift, fresh, machine, statistics
from pipeline.measure.measurements import CANDIDATE, Latency
from pipeline.measure.stopping import Rule
from pipeline.terms.errors import EvidenceError
from pipeline.terms.progress import Progress, silent

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
    rule = Rule(processes, seconds, clear)
    started = time.monotonic()

    def spent() -> float:
        return time.monotonic() - started

    def told(note: str) -> None:
        progress(min(spent(), seconds), seconds, note)

    answers: list[dict[str, Any]] = []
    while True:
        answers.append(_sample(request, seed, len(answers), 600 + 10 * seconds, told))
        count, elapsed = len(answers), spent()
        if count not in rule.looks and not rule.over(count, elapsed):
            continue
        timed = gather(answers, list(bundles), twice, provider, threads, len(rule.looks))
        timed.seconds, timed.stopped = elapsed, rule.stopped(timed, count, elapsed)
        if timed.stopped:
            progress(seconds, seconds, f"timed on {provider}")
            return timed


def _sample(
    request: dict[str, Any], seed: int, number: int, timeout: float, told: Callable[[str], None]
) -> dict[str, Any]:
    """Return what one fresh process timed; ``told`` hears of it while it works."""
    provider, threads = request["provider"], request["threads"]
    return fresh.call(
        "pipeline.measure.latency_worker",
        request | {"seed": [seed, number], "cores": _cores(threads, number)},
        what=f"latency on {provider}: process {number + 1}",
        timeout=timeout,
        threads=threads,
        tick=lambda: told(f"timing on {provider}, process {number + 1}"),
    )


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
        f"{len(sentences)} of {len(said)} processes: {max(sentences, key=_first_number)}"
        for sentences in alike.values()
    ]


def _first_number(sentence: str) -> float:
    number = re.search(r"\d+(?:\.\d+)?", sentence)
    return float(number[0]) if number else 0.0


def gather(
    answers: Sequence[Mapping[str, Any]],
    names: Sequence[str],
    twice: str,
    provider: str,
    threads: int,
    looks: int,
) -> Latency:
    """Put together what the processes answered of the models ``names``.

    ``twice``: the model that each process timed twice, ``looks``: how often sampling may stop.
    """

    def by_model(calls: Sequence[Mapping[str, Any]]) -> dict[str, list[list[float]]]:
        return {name: [process[name] for process in calls] for name in names}

    def each(key: str) -> list[Any]:
        return [answer[key] for answer in answers]

    samples = by_model(each("wall"))
    noise = statistics.percentile_ratio(samples[twice], each("again"), 50, looks=looks)
    busy = _gathered(each("busy"))
    physical = len(machine.cores())
    if threads > physical:
        busy.append(f"{threads} threads shared {physical} cores")
    return Latency(
        samples=samples,
        cpu=by_model(each("cpu")),
        tokenizer=by_model(each("tokenizer")),
        device=by_model(each("device")) if provider != "cpu" else {},
        fixed={
            length: by_model([fixed[length] for fixed in each("fixed")])
            for length in answers[0]["fixed"]
        },
        tokens=[length for lengths in each("tokens") for length in lengths],
        noise=(noise.low, noise.high),
        busy=busy,
        throttled=drift.found(samples[twice], each("rows")),
        looks=looks,
        provider=provider,
        threads=threads,
    )
