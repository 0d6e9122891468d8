"""Measure latency: bundles take turns in short blocks of calls, in successive fresh processes."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from rarefy.pipeline.measure import fresh_process
from rarefy.pipeline.measure.latency import drift
from rarefy.pipeline.measure.latency.stopping import Rule
from rarefy.pipeline.measure.machine import fingerprint
from rarefy.pipeline.measure.measurements import CANDIDATE, Latency
from rarefy.pipeline.measure.statistics import intervals
from rarefy.pipeline.model.runtime.bundle_model import DEVICES
from rarefy.pipeline.terms.digests import value_sha256
from rarefy.pipeline.terms.errors import EvidenceError
from rarefy.pipeline.terms.progress import Progress, silent

SHARE = 30
"""A process times calls for 1/SHARE of the session, once its models are loaded and warm."""
TIMES = 3
"""How often bundles are timed until nothing disturbs it, at most."""
QUIET = 0.2


def measure(
    bundles: Mapping[str, Path],
    texts: Sequence[str],
    pairs: Sequence[str] | None = None,
    *,
    provider: str = "cpu",
    alike: bool = False,
    threads: int = 1,
    processes: int = 5,
    seconds: float = 60.0,
    seed: int = 0,
    lengths: Sequence[int] = (),
    cold: int | None = 0,
    clear: Callable[[Latency], bool] | None = None,
    progress: Progress = silent,
) -> Latency:
    """Time each bundle on the same rows, in short blocks that take turns in random order.

    ``bundles``: name -> directory; ``provider`` runs the candidate, and the others as
    ``engines.providers`` says, or with ``alike`` all of them. Fresh processes run one after the
    other. Each loads all bundles, is pinned to ``threads`` quiet cores, warms up until its times
    are steady, and times blocks of calls. Without ``clear``, exactly ``processes`` of them run.
    With it, they are the minimum: sampling goes on until ``clear`` returns True for the latencies
    so far, ``seconds`` are over, or the last look of ``stopping.Rule`` is reached. ``lengths``:
    each process also times some calls at these numbers of tokens. The first ``cold`` processes
    (None: all) also time calls that each find emptied caches, those of a CPU. The baseline (the
    first bundle that is not the candidate) is loaded and timed twice: the interval of its median
    against itself is the session's noise floor.

    Raises ProviderError if the provider is not active, EvidenceError if a process dies or there
    are no texts.
    """
    if not texts:
        raise EvidenceError("a latency measurement needs at least one row to time")
    twice = next((name for name in bundles if name != CANDIDATE), next(iter(bundles)))
    request = {
        "bundles": {name: str(path.resolve()) for name, path in bundles.items()},
        "twice": twice,
        "texts": list(texts),
        "pairs": None if pairs is None else list(pairs),
        "provider": provider,
        "alike": alike,
        "threads": threads,
        "seconds": seconds / SHARE,
        "lengths": list(lengths),
    }
    sample = value_sha256([request["texts"], request["pairs"]])[:16]
    rule = Rule(processes, seconds, clear)
    started = time.monotonic()

    def spent() -> float:
        return time.monotonic() - started

    def report(note: str) -> None:
        progress(min(spent(), seconds), seconds, note)

    answers: list[dict[str, Any]] = []
    while True:
        emptied = DEVICES[provider] == "cpu" and (cold is None or len(answers) < cold)
        also = request | {"cold": emptied}
        answers.append(_sample(also, seed, len(answers), 600 + 10 * seconds, report))
        count, elapsed = len(answers), spent()
        if count not in rule.looks and not rule.over(count, elapsed):
            continue
        timed = gather(answers, list(bundles), twice, provider, threads, len(rule.looks))
        timed.seconds, timed.stopped = elapsed, rule.stopped(timed, count, elapsed)
        timed.rows, timed.seed, timed.sample = len(texts), seed, sample
        if timed.stopped:
            progress(seconds, seconds, f"timed on {provider}")
            return timed


def undisturbed(measure: Callable[[], Latency]) -> Latency:
    """Measure, and again while something else slowed the machine down; at most ``TIMES`` times."""
    for _ in range(TIMES):
        timed = measure()
        if not timed.throttled:
            break
    return timed


def _sample(
    request: dict[str, Any], seed: int, number: int, timeout: float, report: Callable[[str], None]
) -> dict[str, Any]:
    """Return the timings of one fresh process; ``report`` gets a progress note while it runs."""
    provider, threads = request["provider"], request["threads"]
    return fresh_process.call(
        "rarefy.pipeline.measure.latency.worker",
        request | {"seed": [seed, number], "cores": _cores(threads, number)},
        what=f"latency on {provider}: process {number + 1}",
        timeout=timeout,
        threads=threads,
        tick=lambda: report(f"timing on {provider}, process {number + 1}"),
        remedy="; give it more seconds, or shorter rows or fewer models to measure",
    )


def _cores(threads: int, number: int) -> list[int]:
    """Return quiet cores for a process, rotated so that processes use different cores."""
    every = fingerprint.cores(threads)
    cores = fingerprint.quiet_cores(QUIET, threads) if threads < len(every) else every
    if len(cores) < threads:
        cores = every
    start = (len(cores) - threads * (number + 1)) % len(cores)
    return [cores[(start + offset) % len(cores)] for offset in range(min(threads, len(cores)))]


def _gathered(notes: list[list[str]]) -> list[str]:
    """Merge the notes of processes that differ only in numbers.

    Each merged note gives the count of processes that reported it and keeps the highest number.
    """
    alike: dict[str, list[str]] = {}
    for sentence in (sentence for process in notes for sentence in process):
        alike.setdefault(re.sub(r"[\d.]+", "#", sentence), []).append(sentence)
    return [
        f"in {len(sentences)} of {len(notes)} processes, {max(sentences, key=_first_number)}"
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
    """Combine the processes' answers about the models ``names``.

    ``twice``: the model that each process timed twice; ``looks``: the number of points at which
    sampling may stop.
    """

    def by_model(calls: Sequence[Mapping[str, Any]]) -> dict[str, list[list[float]]]:
        return {name: [process[name] for process in calls] for name in names} if calls else {}

    def each(key: str) -> list[Any]:
        return [answer[key] for answer in answers]

    samples = by_model(each("wall"))
    emptied = [cold for cold in each("cold") if cold]
    noise = intervals.percentile_ratio(samples[twice], each("again"), 50, looks=looks)
    busy = _gathered(each("busy"))
    physical = len(fingerprint.cores(threads))
    if threads > physical:
        busy.append(f"{threads} threads shared {physical} cores")
    return Latency(
        samples=samples,
        cpu=by_model(each("cpu")),
        tokenizer=by_model(each("tokenizer")),
        device=by_model(each("device")) if DEVICES[provider] != "cpu" else {},
        fixed={
            length: by_model([fixed[length] for fixed in each("fixed")])
            for length in answers[0]["fixed"]
        },
        cold=by_model([cold["wall"] for cold in emptied]),
        cold_tokenizer=by_model([cold["tokenizer"] for cold in emptied]),
        block=answers[0]["block"],
        tokens=[length for lengths in each("tokens") for length in lengths],
        noise=(noise.low, noise.high),
        busy=busy,
        throttled=drift.found(samples[twice], each("sizes")),
        looks=looks,
        provider=provider,
        threads=threads,
    )
