"""Measure throughput: rows a second of models that take turns, with all workers busy."""

from __future__ import annotations

import math
import tempfile
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np

from rarefy.pipeline.measure import fresh_process
from rarefy.pipeline.measure.latency import drift
from rarefy.pipeline.measure.latency.session import merge_notes
from rarefy.pipeline.measure.latency.stopping import Rule
from rarefy.pipeline.measure.latency.timer import TIMER, Timer
from rarefy.pipeline.measure.load import session as load
from rarefy.pipeline.measure.machine import fingerprint
from rarefy.pipeline.measure.measurements import CANDIDATE
from rarefy.pipeline.measure.throughput.record import Throughput
from rarefy.pipeline.measure.throughput.rows import Job
from rarefy.pipeline.measure.throughput.worker import stretch_of
from rarefy.pipeline.model.runtime.bundle_model import rows_interact
from rarefy.pipeline.model.runtime.providers import is_on_cpu
from rarefy.pipeline.terms.errors import EvidenceError
from rarefy.pipeline.terms.progress import Progress, silent
from rarefy.pipeline.terms.recipe_parts import Target

SIZES: Final = (1, 8, 32, 64)
"""Rows of a call that are tried."""
CLOSE: Final = 0.02
"""The share by which a larger batch must be faster than a smaller one, which answers sooner."""
SHARE: Final = 30
"""A round times blocks for 1/SHARE of the session, once its models are loaded and warm."""


def workers_on(target: Target) -> int:
    """Return how many processes answer at once on a target: its own number, or what fits cores."""
    if target.workers is not None:
        return target.workers
    if not is_on_cpu(target.provider):
        return 1
    cores = min(len(fingerprint.cores(target.threads)), fingerprint.usable())
    return max(1, cores // target.threads)


def measure(
    bundles: Mapping[str, Path],
    job: Job,
    target: Target,
    *,
    processes: int = 5,
    seconds: float = 60.0,
    seed: int = 0,
    clear: Callable[[Throughput], bool] | None = None,
    progress: Progress = silent,
    timer: Timer = TIMER,
    run_process: Callable[..., dict[str, Any]] = fresh_process.call,
) -> Throughput:
    """Answer the rows of a job with all workers of a target; return the rows a second of models.

    In a round, as many fresh processes run at once as there are workers, each with cores of its
    own. Each loads all models. They take turns: all workers answer the same rows with one model at
    a time. The first round chooses the size of each model's batches, unless the target names it,
    and counts for nothing else. A model whose answer to a row depends on the rows beside it answers
    single rows: in batches it would not be the model whose answers were scored.

    Args:
        bundles: name -> directory.
        job: The rows.
        target: Provider, workers, threads, and rows of a call.
        processes: So many rounds run; with ``clear``, at least so many.
        seconds: The limit of the session; at least ``processes`` rounds run.
        seed: Of the draw of rows and the order of models.
        clear: Says if what was timed so far is clear enough; see ``stopping.Rule``.
        progress: Shows how far it is.
        timer: The clock of the session.
        run_process: Runs a worker; see ``fresh_process.call``.

    Raises:
        ProviderError: The provider is not active.
        EvidenceError: A process dies, or there are no rows.
    """
    if not job.texts:
        raise EvidenceError("a throughput measurement needs at least one row")
    started = timer.seconds()
    rule = Rule(processes, seconds, clear)
    session = Session(bundles, job, target, workers_on(target), seconds, seed, run_process)

    def tick(note: str) -> Callable[[], None]:
        def report() -> None:
            spent = timer.seconds() - started
            progress(min(spent, seconds), seconds, f"{note} on {target.name}")

        return report

    tried: dict[str, dict[int, float]] = {}
    batch = dict.fromkeys(bundles, target.batch_size or 1)
    every: list[tuple[str, int]] = []
    interact = [name for name, path in bundles.items() if rows_interact(path)]
    if target.batch_size is None:
        every = [(name, size) for name in bundles if name not in interact for size in SIZES]
    if every:
        tried = session.run(every, tick("choosing the batch size"), lists=False).rates()
        batch |= {name: fastest(rates) for name, rates in tried.items()}
    rounds: list[Round] = []
    while True:
        note = tick(f"counting rows a second, process {len(rounds) + 1}")
        rounds.append(session.run(list(batch.items()), note))
        count, elapsed = len(rounds), timer.seconds() - started
        if count not in rule.looks and not rule.over(count, elapsed):
            continue
        timed = gather(rounds, session)
        timed.batch, timed.tried, timed.interact = batch, tried, interact
        timed.looks, timed.seconds = len(rule.looks), elapsed
        timed.stopped = rule.stopped(timed, count, elapsed)
        if timed.stopped:
            progress(seconds, seconds, f"rows a second counted on {target.name}")
            return timed


def fastest(rates: Mapping[int, float]) -> int:
    """Return the smallest batch size that is about as fast as the fastest: rows a second by size.

    A smaller one answers sooner and needs less memory.
    """
    enough = max(rates.values()) / (1 + CLOSE)
    return min(size for size, rate in rates.items() if rate >= enough)


@dataclass(frozen=True)
class Round:
    """One round: its cases, what its workers have answered, and why the machine was not quiet."""

    cases: Sequence[tuple[str, int]]
    answers: Sequence[Mapping[str, Any]]
    busy: list[str]

    @property
    def rows(self) -> int:
        """The rows of a block of one worker."""
        return stretch_of([size for _, size in self.cases])

    def wall(self, case: int) -> list[float]:
        """Return ms for a row, of all workers together, block by block."""
        times = np.array([answer["seconds"][case] for answer in self.answers])
        rates = self.rows / times
        milliseconds: list[float] = (1e3 / rates.sum(axis=0)).tolist()
        return milliseconds

    def cpu(self, case: int) -> list[float]:
        """Return CPU ms for a row, block by block."""
        times = np.array([answer["cpu"][case] for answer in self.answers])
        milliseconds: list[float] = (1e3 * times.mean(axis=0) / self.rows).tolist()
        return milliseconds

    def rates(self) -> dict[str, dict[int, float]]:
        """Return model -> batch size -> rows a second."""
        rates: dict[str, dict[int, float]] = {}
        for number, (model, size) in enumerate(self.cases):
            milliseconds = float(np.mean(self.wall(number)))
            rates.setdefault(model, {})[size] = 1e3 / milliseconds
        return rates


@dataclass
class Session:
    """What all rounds of a session have in common; ``count`` is of those that have run."""

    bundles: Mapping[str, Path]
    job: Job
    target: Target
    workers: int
    seconds: float
    seed: int
    run_process: Callable[..., dict[str, Any]]
    count: int = field(default=0)

    def run(
        self, cases: Sequence[tuple[str, int]], tick: Callable[[], None], *, lists: bool = True
    ) -> Round:
        """Run the workers of a round at once; raise the error of the first that fails."""
        threads, provider = self.target.threads, self.target.provider
        seed = [self.seed, self.count]
        self.count += 1
        request = self.job.draw(seed, stretch_of([size for _, size in cases]))
        if not lists:
            request["lists"] = []
        request |= {
            "bundles": {name: str(path.resolve()) for name, path in self.bundles.items()},
            "cases": list(cases),
            "provider": provider,
            "threads": threads,
            "workers": self.workers,
            "seconds": self.seconds / SHARE,
            "seed": seed,
        }
        failed = threading.Event()

        def call(number: int) -> dict[str, Any]:
            def wait() -> None:
                if failed.is_set():
                    raise EvidenceError("another worker failed")
                if number == 0:
                    tick()

            cores = load.worker_cores(threads, number, self.workers)
            return self.run_process(
                "rarefy.pipeline.measure.throughput.worker",
                request | {"number": number, "cores": cores},
                what=f"throughput on {provider}: worker {number + 1} of {self.workers}",
                timeout=600 + 10 * self.seconds,
                threads=threads,
                tick=wait,
                remedy="; give it shorter rows or fewer models to measure",
            )

        with tempfile.TemporaryDirectory(prefix="rarefy-throughput-") as folder:
            meeting = Path(folder) / "meeting"
            meeting.write_bytes(bytes(8 * (self.workers + 1)))
            request["meeting"] = str(meeting)
            before = fingerprint.snapshot()
            with ThreadPoolExecutor(self.workers) as pool:
                calls = [pool.submit(call, number) for number in range(self.workers)]
                try:
                    for done in as_completed(calls):
                        done.result()
                except BaseException:
                    failed.set()
                    raise
            after = fingerprint.snapshot()
        answers = [done.result() for done in calls]
        return Round(cases, answers, load.noise(before, after, answers, threads))


def gather(rounds: Sequence[Round], session: Session) -> Throughput:
    """Combine the rounds of a session; each has the same cases, one for a model."""
    samples: dict[str, list[list[float]]] = {}
    cpu: dict[str, list[list[float]]] = {}
    lists: dict[str, list[list[float]]] = {}
    for one in rounds:
        for number, (model, _) in enumerate(one.cases):
            samples.setdefault(model, []).append(one.wall(number))
            cpu.setdefault(model, []).append(one.cpu(number))
        for model, times in one.answers[0]["lists"].items():
            lists.setdefault(model, []).append(times)
    steady = CANDIDATE if CANDIDATE in samples else next(iter(samples))
    tokens = [one.answers[0]["tokens"] for one in rounds]
    rows = len(session.job.texts)
    spread = rounds[0].answers[0]["spread"] / math.sqrt(rows)
    if session.job.corpus:  # all documents, and no sample of others
        spread = 0.0
    return Throughput(
        samples=samples,
        cpu=cpu,
        lists=lists,
        batch={},
        workers=session.workers,
        threads=session.target.threads,
        provider=session.target.provider,
        rows=rows,
        spread=spread,
        corpus=session.job.corpus,
        busy=merge_notes([one.busy for one in rounds]),
        throttled=drift.find_drift(samples[steady], tokens),
    )
