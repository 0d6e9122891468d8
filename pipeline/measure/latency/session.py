"""Measure latency: bundles take turns in short blocks of calls, in successive fresh processes."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from rarefy.pipeline.measure import fresh_process, machine
from rarefy.pipeline.measure.latency import drift
from rarefy.pipeline.measure.latency.timer import TIMER, Timer
from rarefy.pipeline.measure.measurements import CANDIDATE, Latency
from rarefy.pipeline.measure.statistics import intervals
from rarefy.pipeline.measure.stopping import Rule
from rarefy.pipeline.model.runtime.providers import is_on_cpu
from rarefy.pipeline.terms.digests import value_sha256
from rarefy.pipeline.terms.errors import EvidenceError
from rarefy.pipeline.terms.progress import Progress, silent

SHARE = 30
"""A process times calls for 1/SHARE of the session, once its models are loaded and warm."""
TIMES = 3
"""How often bundles are timed until nothing disturbs it, at most."""
QUIET = 0.2
WARM = 0.5
"""Seconds, at least, of a warm-up."""
CACHES = 256 * 2**20
"""Bytes: more than the last-level cache that one core can use."""


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
    percentile: float = 50,
    clear: Callable[[Latency], bool] | None = None,
    judged: Sequence[str] = (),
    progress: Progress = silent,
    timer: Timer = TIMER,
    run_process: Callable[..., dict[str, Any]] = fresh_process.call,
) -> Latency:
    """Time each bundle on the same rows, in short blocks that take turns in random order.

    Fresh processes run one after the other. Each loads all bundles, is pinned to quiet cores, warms
    up until its times are steady, and times blocks of calls. The baseline (the first bundle that is
    not the candidate) is loaded and timed twice: the interval of its median against itself is the
    session's noise floor.

    Args:
        bundles: name -> directory.
        texts: The rows to time, one at a time.
        pairs: Their second texts, if rows are pairs.
        provider: Runs the candidate; the others run as ``engines.providers`` says.
        alike: ``provider`` runs all of them.
        threads: Of one call; as many cores.
        processes: So many run; with ``clear``, at least so many.
        seconds: The limit of the session; at least ``processes`` run, and near a limit more; see
            ``stopping.Rule``.
        seed: Of the order of rows and models.
        lengths: Each process also times some calls at these numbers of tokens.
        cold: So many processes (None: all) also time calls that each find emptied caches, those of
            a CPU.
        percentile: Enough calls are timed to estimate it, if that takes little longer.
        clear: Says if the latencies so far are clear enough. Sampling goes on until it returns
            True, ``seconds`` are over, or the last look of ``stopping.Rule`` is reached.
        judged: The models that a verdict is on; see ``gather``.
        progress: Shows how far it is.
        timer: The clock of the session.
        run_process: Runs a worker; see ``fresh_process.call``.

    Raises:
        ProviderError: The provider is not active.
        EvidenceError: A process dies, or there are no texts.
    """
    if not texts:
        raise EvidenceError("a latency measurement needs at least one row to time")
    names = list(bundles)
    references = [name for name in names if name != CANDIDATE]
    twice = (references or names)[0]
    needed = intervals.samples_needed(percentile)
    calls = math.ceil(needed / processes)
    share = seconds / SHARE
    request = {
        "bundles": {name: str(path.resolve()) for name, path in bundles.items()},
        "twice": twice,
        "texts": list(texts),
        "pairs": None if pairs is None else list(pairs),
        "provider": provider,
        "alike": alike,
        "threads": threads,
        "warming": max(share, WARM),
        "lengths": list(lengths),
        "calls": calls,
    }
    sample = value_sha256([request["texts"], request["pairs"]])
    rule = Rule(processes, seconds, clear, Latency.repeated)
    started = timer.seconds()
    answers: list[dict[str, Any]] = []
    while True:
        number = len(answers)
        note = f"timing on {provider}, process {number + 1}"

        def tick(note: str = note) -> None:
            spent = timer.seconds() - started
            progress(min(spent, seconds), seconds, note)

        times_cold = cold is None or number < cold
        request["cold"] = 0
        if times_cold and is_on_cpu(provider):
            request["cold"] = CACHES
        spent = timer.seconds() - started
        late = number >= processes and spent > seconds
        request["timing"] = share
        if late:
            request["timing"] = 0.0  # and "calls" alone count
        request["seed"] = [seed, number]
        request["cores"] = process_cores(threads, number)
        answer = run_process(
            "rarefy.pipeline.measure.latency.worker",
            request,
            what=f"latency on {provider}: process {number + 1}",
            timeout=600 + 10 * seconds,
            threads=threads,
            tick=tick,
            remedy="; give it more seconds, or shorter rows or fewer models to measure",
        )
        answers.append(answer)
        count, elapsed = len(answers), timer.seconds() - started
        if count not in rule.looks and not rule.over(count, elapsed):
            continue
        looks = len(rule.looks)
        timed = gather(answers, names, twice, provider, threads, looks, judged)
        timed.seconds = elapsed
        timed.stopped = rule.stopped(timed, count, elapsed)
        timed.rows = len(texts)
        timed.seed = seed
        timed.sample = sample[:16]
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


def process_cores(threads: int, number: int) -> list[int]:
    """Return quiet cores for a process, rotated so that processes use different cores."""
    usable = machine.cores(threads)
    cores = usable
    if threads < len(usable):
        cores = machine.quiet_cores(QUIET, threads)
    if len(cores) < threads:
        cores = usable
    start = len(cores) - threads * (number + 1)
    places = range(start, start + min(threads, len(cores)))
    return [cores[place % len(cores)] for place in places]


def merge_notes(notes: Sequence[Sequence[str]]) -> list[str]:
    """Merge the notes of processes that differ only in numbers.

    Each merged note gives the count of processes that reported it and keeps the highest number.
    """
    variants: dict[str, list[str]] = {}
    for sentences in notes:
        for sentence in sentences:
            without_numbers = re.sub(r"[\d.]+", "#", sentence)
            variants.setdefault(without_numbers, []).append(sentence)
    merged = []
    for sentences in variants.values():
        worst = max(sentences, key=_first_number)
        merged.append(f"in {len(sentences)} of {len(notes)} processes, {worst}")
    return merged


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
    judged: Sequence[str] = (),
) -> Latency:
    """Combine the processes' answers.

    Args:
        answers: Of each process, what ``worker.run`` returns.
        names: The models.
        twice: The model that each process timed twice.
        provider: What ran the candidate.
        threads: Of one call.
        looks: The number of points at which sampling may stop.
        judged: The models that must have been warm; by default all.
    """

    def by_model(processes: Sequence[Mapping[str, Any]]) -> dict[str, list[list[float]]]:
        if not processes:
            return {}
        return {name: [process[name] for process in processes] for name in names}

    def by_process(key: str) -> list[Any]:
        return [answer[key] for answer in answers]

    samples = by_model(by_process("wall"))
    cold = [clocks for clocks in by_process("cold") if clocks]
    again = by_process("again")
    noise = intervals.percentile_ratio(samples[twice], again, 50, looks=looks)
    busy = merge_notes(by_process("busy"))
    physical = len(machine.cores(threads))
    if threads > physical:
        busy.append(f"{threads} threads shared {physical} cores")
    fixed = {}
    for length in answers[0]["fixed"]:
        fixed[length] = by_model([process[length] for process in by_process("fixed")])
    tokens = []
    for lengths in by_process("tokens"):
        tokens += lengths
    device = {}
    if not is_on_cpu(provider):
        device = by_model(by_process("device"))
    disturbed = sum(by_process("disturbed"))
    cold_called = list(filter(None, by_process("cold_rows")))
    sizes = by_process("sizes")
    throttled = drift.find_drift(samples[twice], sizes)
    if throttled is None:
        named = judged or names
        of_named = {name: samples[name] for name in named if name in samples}
        block = answers[0]["block"]
        throttled = drift.find_warming(of_named, sizes, block)
    return Latency(
        samples=samples,
        cpu=by_model(by_process("cpu")),
        tokenizer=by_model(by_process("tokenizer")),
        device=device,
        fixed=fixed,
        cold=by_model([clocks["wall"] for clocks in cold]),
        cold_tokenizer=by_model([clocks["tokenizer"] for clocks in cold]),
        block=answers[0]["block"],
        tokens=tokens,
        called=by_process("rows"),
        cold_called=cold_called,
        noise=(noise.low, noise.high),
        busy=busy,
        disturbed=disturbed,
        throttled=throttled,
        looks=looks,
        provider=provider,
        threads=threads,
    )
