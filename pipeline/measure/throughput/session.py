"""Measure throughput: rows a second of models that take turns, with all workers busy."""

from __future__ import annotations

import itertools
import math
import tempfile
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np

from rarefy.pipeline.measure import fresh_process, machine
from rarefy.pipeline.measure.latency import drift
from rarefy.pipeline.measure.latency.session import merge_notes
from rarefy.pipeline.measure.latency.timer import TIMER, Timer
from rarefy.pipeline.measure.load import session as load
from rarefy.pipeline.measure.rows_per_second import Throughput
from rarefy.pipeline.measure.stopping import Rule
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
    cores = len(machine.cores(target.threads))
    at_once = min(cores, machine.usable())
    return max(1, at_once // target.threads)


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
    workers = workers_on(target)
    session = Session(bundles, job, target, workers, seconds, seed, run_process)

    def tick(note: str) -> Callable[[], None]:
        def report() -> None:
            spent = timer.seconds() - started
            done = min(spent, seconds)
            progress(done, seconds, f"{note} on {target.name}")

        return report

    tried: dict[str, dict[int, float]] = {}
    batch = dict.fromkeys(bundles, target.batch_size or 1)
    every: list[tuple[str, int]] = []
    interact = [name for name, path in bundles.items() if rows_interact(path)]
    if target.batch_size is None:
        free = [name for name in bundles if name not in interact]
        every = list(itertools.product(free, SIZES))
    if every:
        choosing = session.run(every, tick("choosing the batch size"), choosing=True)
        tried = choosing.rates()
        batch |= {name: fastest(rates) for name, rates in tried.items()}
    rounds: list[Round] = []
    while True:
        count = len(rounds) + 1
        note = tick(f"counting rows a second, process {count}")
        cases = list(batch.items())
        rounds.append(session.run(cases, note))
        elapsed = timer.seconds() - started
        looks = rule.looks
        if count not in looks and not rule.over(count, elapsed):
            continue
        timed = gather(rounds, session)
        timed.batch = batch
        timed.tried = tried
        timed.interact = interact
        timed.looks = len(looks)
        timed.seconds = elapsed
        timed.stopped = rule.stopped(timed, count, elapsed)
        if timed.stopped:
            progress(seconds, seconds, f"rows a second counted on {target.name}")
            return timed


def fastest(rates: Mapping[int, float]) -> int:
    """Return the smallest batch size that is about as fast as the fastest: rows a second by size.

    A smaller one answers sooner and needs less memory.
    """
    best = max(rates.values())
    enough = best / (1 + CLOSE)
    sizes = [size for size, rate in rates.items() if rate >= enough]
    return min(sizes)


@dataclass(frozen=True)
class Round:
    """One round: its cases, what its workers have answered, and why the machine was not quiet."""

    cases: Sequence[tuple[str, int]]
    answers: Sequence[Mapping[str, Any]]
    busy: list[str]

    @property
    def rows(self) -> int:
        """The rows of a block of one worker."""
        sizes = [size for _, size in self.cases]
        return stretch_of(sizes)

    def wall(self, case: int) -> list[float]:
        """Return ms for a row, of all workers together, block by block."""
        times = np.array([answer["seconds"][case] for answer in self.answers])
        rates = self.rows / times
        of_all = rates.sum(axis=0)
        milliseconds: list[float] = (1e3 / of_all).tolist()
        return milliseconds

    def cpu(self, case: int) -> list[float]:
        """Return CPU ms for a row, block by block."""
        times = np.array([answer["cpu"][case] for answer in self.answers])
        seconds = times.mean(axis=0)
        milliseconds: list[float] = (1e3 * seconds / self.rows).tolist()
        return milliseconds

    def rates(self) -> dict[str, dict[int, float]]:
        """Return model -> batch size -> rows a second; each model's first size is the yardstick.

        Of the others, the median of the ratios to it counts, block by block: what disturbs a few
        blocks would otherwise choose another size for a model than for its equal.
        """
        rates: dict[str, dict[int, float]] = {}
        yardsticks: dict[str, list[float]] = {}
        for number, (model, size) in enumerate(self.cases):
            milliseconds = self.wall(number)
            first = yardsticks.setdefault(model, milliseconds)
            ratio = np.median(np.divide(first, milliseconds))
            rate = 1e3 / np.mean(first)
            of_model = rates.setdefault(model, {})
            of_model[size] = float(rate * ratio)
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
        self, cases: Sequence[tuple[str, int]], tick: Callable[[], None], *, choosing: bool = False
    ) -> Round:
        """Run the workers of a round at once; raise the error of the first that fails.

        Args:
            cases: Models, and the rows of a call.
            tick: Called now and then.
            choosing: It has cases of each size, so that it takes as much longer, and no lists.
        """
        threads, provider = self.target.threads, self.target.provider
        seed = [self.seed, self.count]
        self.count += 1
        sizes = [size for _, size in cases]
        request = self.job.draw(seed, fewest=stretch_of(sizes))
        seconds = self.seconds / SHARE
        if choosing:
            request["lists"] = []
            seconds *= len(SIZES)
        request |= {
            "bundles": {name: str(path.resolve()) for name, path in self.bundles.items()},
            "cases": list(cases),
            "provider": provider,
            "threads": threads,
            "workers": self.workers,
            "seconds": seconds,
            "seed": seed,
        }
        failed = threading.Event()

        def call(number: int) -> dict[str, Any]:
            def wait() -> None:
                if failed.is_set():
                    raise EvidenceError("another worker failed")
                if number == 0:
                    tick()

            own = dict(request)
            own["number"] = number
            own["cores"] = load.worker_cores(threads, number, self.workers)
            return self.run_process(
                "rarefy.pipeline.measure.throughput.worker",
                own,
                what=f"throughput on {provider}: worker {number + 1} of {self.workers}",
                timeout=600 + 10 * self.seconds,
                threads=threads,
                tick=wait,
                remedy="; give it shorter rows or fewer models to measure",
            )

        with tempfile.TemporaryDirectory(prefix="rarefy-throughput-") as folder:
            meeting = Path(folder) / "meeting"
            counts = self.workers + 1
            meeting.write_bytes(bytes(8 * counts))
            request["meeting"] = str(meeting)
            before = machine.snapshot()
            with ThreadPoolExecutor(self.workers) as pool:
                calls = [pool.submit(call, number) for number in range(self.workers)]
                ended = as_completed(calls)
                try:
                    for done in ended:
                        done.result()
                except BaseException:
                    failed.set()
                    raise
            after = machine.snapshot()
        answers = [done.result() for done in calls]
        busy = load.noise(before, after, answers, threads)
        return Round(cases, answers, busy)


def gather(rounds: Sequence[Round], session: Session) -> Throughput:
    """Combine the rounds of a session; each has the same cases, one for a model."""
    samples: dict[str, list[list[float]]] = {}
    cpu: dict[str, list[list[float]]] = {}
    lists: dict[str, list[list[float]]] = {}
    for one in rounds:
        for number, (model, _) in enumerate(one.cases):
            wall = one.wall(number)
            work = one.cpu(number)
            samples.setdefault(model, []).append(wall)
            cpu.setdefault(model, []).append(work)
        first = one.answers[0]
        for model, times in first["lists"].items():
            lists.setdefault(model, []).append(times)
    steady = next(iter(samples))
    tokens = [one.answers[0]["tokens"] for one in rounds]
    busy = [one.busy for one in rounds]
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
        busy=merge_notes(busy),
        throttled=drift.find_drift(samples[steady], tokens),
    )
