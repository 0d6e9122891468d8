"""Load-test a bundle with an open loop: requests arrive at a given rate, answered or not."""

from __future__ import annotations

import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rarefy.pipeline.measure import fresh_process, machine
from rarefy.pipeline.measure.load.queueing import Arrivals, arrivals, fifo, replayed
from rarefy.pipeline.measure.load.worker import COUNTER, START, Served
from rarefy.pipeline.measure.statistics import intervals
from rarefy.pipeline.model.runtime import bundle_files, bundle_model
from rarefy.pipeline.terms.errors import EvidenceError, RecipeError
from rarefy.pipeline.terms.interval import Interval
from rarefy.pipeline.terms.progress import Progress, silent
from rarefy.pipeline.terms.wording import plural

MOST = 1_000_000
BLOCKS = 10
"""Intervals resample blocks of requests, because neighbouring requests wait for the same ones."""
LATE = 1.0
LEAD = 0.3
"""Seconds between all workers being ready and the first request."""
PATIENCE = 10.0
"""Seconds after the end of sending in which workers still take requests that wait: far above what
they can answer, emptying the queue would take many times as long as the sending."""


@dataclass(frozen=True)
class Load:
    """The result of a load test with ``workers`` workers and ``rate`` requests per second.

    Lists are in the order of sending. ``sent``: scheduled sending time, in s from the start.
    ``response``: ms from the scheduled time to the answer; of an unanswered request, to the end of
    the test, so it is a lower bound. ``service``: ms that a worker spent on the request, for the
    answered ones, which are the first ones. ``broken``: the number of answers that are NaN or
    infinite.
    """

    rate: float
    workers: int
    threads: int
    provider: str
    seconds: float
    sent: list[float]
    response: list[float]
    service: list[float]
    broken: int = 0
    busy: list[str] = field(default_factory=list)
    kind: Arrivals = "poisson"

    @property
    def unanswered(self) -> int:
        """The number of requests that no worker took within ``PATIENCE``: the last ones sent."""
        return len(self.sent) - len(self.service)

    @property
    def achieved(self) -> float:
        """The throughput: answers per second, from the first request to the last answer."""
        answered = len(self.service)
        ended = np.add(self.sent, np.divide(self.response, 1e3))
        last = np.max(ended[:answered])
        return answered / max(float(last), self.seconds)

    @property
    def utilisation(self) -> float:
        """The share of time that the workers were busy."""
        duration = len(self.service) / self.achieved
        return sum(self.service) / 1e3 / self.workers / duration

    @property
    def demand(self) -> float:
        """The offered load as a share of the workers' time; at 1 or more, no queue is stable."""
        service = float(np.mean(self.service))
        return self.rate * service / 1e3 / self.workers

    @property
    def saturated(self) -> str | None:
        """Why the queue has no steady state, None if it has one.

        Without a steady state, a longer run gives longer response times.
        """
        if self.demand >= 1:
            return f"{self.rate:g} requests a second need {self.demand:.0%} of the workers' time"
        if self.unanswered:
            return f"requests still waited {PATIENCE:g} s after the last was sent"
        waited = np.subtract(self.response, self.service)
        half = len(waited) // 2
        later = waited[half:]
        if len(later) >= BLOCKS and float(later.min()) > LATE:
            return "no request found a free worker in the second half of the run"
        return None

    @property
    def ideal(self) -> NDArray[np.float64]:
        """The answers' response times in ms of an ideal queue with the measured service times."""
        answered_first = self.sent[: len(self.service)]
        sent = [moment * 1e3 for moment in answered_first]
        answered = fifo(sent, self.service, self.workers)
        return np.subtract(answered, sent)

    @property
    def late(self) -> float:
        """The share of responses that took over 1 ms longer than in the ideal queue.

        The machine or this test's own processes delayed them. Such delays only lengthen responses.
        """
        answered = np.asarray(self.response[: len(self.service)])
        delay = answered - self.ideal
        return float(np.mean(delay > LATE))

    def percentile(self, percent: float, *, of_service: bool = False) -> Interval | None:
        """Return a percentile in ms, None if the sample is too small for it.

        If requests are unanswered, that of the response time is a lower bound. Its 95 % interval
        treats the run's ten blocks as ``statistics`` treats processes. That of the response time
        also holds what an endless run might have: a run is short and begins with an empty queue.
        """
        values = np.asarray(self.service if of_service else self.response)
        if len(values) < BLOCKS or not intervals.carries(percent, len(values)):
            return None
        blocks = [block.tolist() for block in np.array_split(values, BLOCKS)]
        of_run = intervals.percentile_interval(blocks, percent)
        if of_service or self.demand >= 1:  # an endless run would have no percentile
            return of_run
        value = of_run.value
        column = round(10 * percent)
        ratios = self._replayed[:, column]
        low, high = value * np.quantile(ratios, (0.025, 0.975))
        return Interval(value, min(of_run.low, float(low)), max(of_run.high, float(high)))

    @cached_property
    def _replayed(self) -> NDArray[np.float64]:
        return replayed(self.rate, len(self.sent), self.service, self.workers, self.kind)


def measure(
    directory: Path,
    texts: Sequence[str],
    pairs: Sequence[str] | None = None,
    *,
    rate: float,
    workers: int = 1,
    seconds: float = 10.0,
    provider: str = "cpu",
    threads: int = 1,
    seed: int = 0,
    kind: Arrivals = "poisson",
    progress: Progress = silent,
) -> Load:
    """Send ``rate`` requests a second for ``seconds``, open loop, and time the answers.

    The sending times are drawn in advance. Worker processes, each with its own session and
    ``threads`` cores, take requests from one queue. A request is a random row, from text to
    probabilities. Its response time starts at the scheduled sending time, so the delay that a slow
    answer causes for later requests is counted. Requests that still wait ``PATIENCE`` seconds after
    the end of sending stay unanswered.

    Raises RecipeError for more than a million requests or rows that the bundle does not read,
    ProviderError if the provider is not active, EvidenceError if no request falls into the time, a
    request that was taken got no answer, or a worker dies.
    """
    if rate * seconds > MOST:
        raise RecipeError(
            f"{rate:g} requests a second for {seconds:g} s are more than {MOST:,} requests; "
            "lower the rate or the duration"
        )
    if not texts:
        raise EvidenceError("a load test needs at least one row")
    sent = arrivals(rate, seconds, seed, kind)
    if not sent:
        raise EvidenceError(
            f"{rate:g} requests a second for {seconds:g} s give no request; "
            "raise the rate or the duration"
        )
    until = seconds + PATIENCE
    signature = bundle_files.read(directory, bundle_files.SIGNATURE)
    bundle_model.check_rows(signature, paired=pairs is not None)
    generator = np.random.default_rng([seed, 1])
    rows = generator.integers(0, len(texts), len(sent)).tolist()
    note = f"{rate:g} requests a second, {plural(workers, 'worker')}"
    request = {
        "directory": str(directory.resolve()),
        "texts": list(texts),
        "pairs": None if pairs is None else list(pairs),
        "rows": rows,
        "sent": sent,
        "until": until,
        "provider": provider,
        "threads": threads,
    }

    def report(done: float) -> None:
        progress(done, seconds, note)

    with tempfile.TemporaryDirectory(prefix="rarefy-load-") as name:
        request["folder"] = name
        answers, busy = _run(request, workers, seconds, report)
    served = []
    for answer in answers:
        served += [Served(*reply) for reply in answer["served"]]
    served.sort()
    taken = len(sent)
    if served:
        taken = served[-1].request + 1
    unanswered = taken - len(served)
    if unanswered:
        raise EvidenceError(f"{unanswered} of {taken} requests got no response")
    ended = [reply.ended for reply in served]
    service = [(reply.ended - reply.began) * 1e3 for reply in served]
    broken = [reply for reply in served if not reply.finite]
    return Load(
        rate=rate,
        workers=workers,
        threads=threads,
        provider=provider,
        seconds=seconds,
        sent=sent,
        response=responses(sent, ended, until),
        service=service,
        broken=len(broken),
        busy=busy,
        kind=kind,
    )


def responses(sent: Sequence[float], ended: Sequence[float], until: float) -> list[float]:
    """Return the response times in ms; a request that was not answered has waited to ``until``."""
    waiting = len(sent) - len(ended)
    ends = [*ended, *[until] * waiting]
    return [(end - moment) * 1e3 for end, moment in zip(ends, sent, strict=True)]


def _run(
    request: dict[str, Any], workers: int, seconds: float, report: Callable[[float], None]
) -> tuple[list[dict[str, Any]], list[str]]:
    """Start the workers and, when all are ready, the load; return their answers and the noise."""
    folder, threads = Path(request["folder"]), request["threads"]
    (folder / COUNTER).write_bytes(bytes(8))
    stopped = threading.Event()

    def tick() -> None:
        if stopped.is_set():
            raise EvidenceError("the load test was stopped")

    def call(number: int) -> dict[str, Any]:
        own_request = dict(request)
        own_request["number"] = number
        own_request["cores"] = worker_cores(threads, number, workers)
        return fresh_process.call(
            "rarefy.pipeline.measure.load.worker",
            own_request,
            what=f"worker {number + 1} of {workers}",
            timeout=600 + 20 * seconds,
            threads=threads,
            tick=tick,
        )

    with ThreadPoolExecutor(workers) as pool:
        calls = [pool.submit(call, number) for number in range(workers)]
        try:
            report(0)
            _until_ready(folder, calls)
            begin = time.monotonic() + LEAD
            _start(folder, repr(begin))
            before = machine.snapshot()
            while not all(_is_done(call) for call in calls):
                passed = time.monotonic() - begin
                report(min(max(passed, 0), seconds))
                time.sleep(0.2)
            after = machine.snapshot()
        except BaseException:  # also of a worker: the others need not go on
            stopped.set()
            _start(folder, "")
            raise
        answers = [call.result() for call in calls]
    return answers, noise(before, after, answers, threads)


def _is_done(call: Future[dict[str, Any]]) -> bool:
    """Return whether a worker has ended. Raises the error of one that failed."""
    if call.done():
        call.result()
    return call.done()


def _until_ready(folder: Path, calls: list[Future[dict[str, Any]]]) -> None:
    """Wait until every worker is warm. Raises the error of a worker that failed."""
    while len(list(folder.glob("ready-*"))) < len(calls):
        for call in calls:
            _is_done(call)
        time.sleep(0.02)


def _start(folder: Path, moment: str) -> None:
    """Tell the workers the start time on the monotonic clock; "" makes them exit."""
    (folder / "written").write_text(moment)
    (folder / "written").rename(folder / START)


def noise(
    before: machine.Snapshot,
    after: machine.Snapshot,
    answers: list[dict[str, Any]],
    threads: int,
) -> list[str]:
    """Return why the machine was not quiet, not counting the workers' own CPU time."""
    cpu = sum(answer["used"] for answer in answers)
    switches = sum(answer["switches"] for answer in answers)
    ours = replace(after, process=after.process + cpu, switches=before.switches + switches)
    running = threads * len(answers)
    signs = machine.busy(before, ours, running)
    cores = len(machine.cores(running))
    if running > cores:
        signs.append(f"{len(answers)} workers × {threads} threads shared {cores} cores")
    return signs


def worker_cores(threads: int, number: int, workers: int) -> list[int]:
    """Return a worker's own cores; workers share cores only if there are too few."""
    cores = machine.cores(threads * workers)
    first = threads * number
    places = range(first, first + min(threads, len(cores)))
    return [cores[place % len(cores)] for place in places]
