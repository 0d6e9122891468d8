"""Whether the interval of p99 under load holds what an endless run would have.

    python -m benchmarks.queues    about 3 minutes of arithmetic; needs no quiet machine

Queues are simulated: service times from a log-normal distribution, requests that arrive at random.
The p99 of a very long one is known; many short ones are judged by `pipeline.verdict.load` with a
limit 5 % below it, which none should pass, and by their intervals.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections import Counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.record import Claim, finish
from pipeline.measure.load import Load
from pipeline.measure.queueing import arrivals, fifo
from pipeline.measure.statistics import percentile_interval
from pipeline.terms.interval import Interval
from pipeline.verdict.load import judge

SERVICE, SPREAD = 5.0, 0.385
"""Of the service times: the mean in ms, and the standard deviation of the logarithm."""
CASES = (
    *((1, busy, seconds) for busy in (0.3, 0.6, 0.8) for seconds in (10, 60)),
    *((2, busy, 10) for busy in (0.6, 0.8)),
)
"""Workers, the share of their time that requests need, and seconds."""
RUNS = 60
ENDLESS = 400_000
COVERED, PASSED = 0.9, 0.05
"""How many intervals hold the truth at least, and how many runs pass wrongly at most."""


def service(draw: np.random.Generator, count: int) -> NDArray[np.float64]:
    """Return service times in ms."""
    return SERVICE * np.exp(draw.normal(-(SPREAD**2) / 2, SPREAD, count))


def endless_p99(draw: np.random.Generator, workers: int, rate: float) -> float:
    """Return the p99 in ms of an endless run."""
    sent = np.cumsum(draw.exponential(1e3 / rate, ENDLESS))
    times = service(draw, ENDLESS)
    ends = fifo(sent.tolist(), times.tolist(), workers)
    return float(np.percentile(ends - sent, 99))


def run(draw: np.random.Generator, workers: int, rate: float, seconds: int, seed: int) -> Load:
    """Simulate one load test.

    Args:
        draw: of the service times.
        workers: how many requests are served at once.
        rate: requests a second.
        seconds: how long requests are sent.
        seed: of the arrivals.
    """
    sent = arrivals(rate, seconds, seed)
    times = service(draw, len(sent)).tolist()
    moments = [1e3 * moment for moment in sent]
    response = np.subtract(fifo(moments, times, workers), moments).tolist()
    return Load(rate, workers, 1, "cpu", seconds, sent, response, times)


def holds(interval: Interval, value: float) -> bool:
    return bool(interval.low <= value <= interval.high)


def measured(workers: int, busy: float, seconds: int) -> dict[str, Any]:
    """Return how often intervals hold the truth, with and without the replays, and the verdicts."""
    draw = np.random.default_rng([workers, round(100 * busy), seconds])
    rate = busy * workers * 1e3 / SERVICE
    truth = endless_p99(draw, workers, rate)
    verdicts = Counter[str]()
    covered = covered_by_blocks = 0
    upper_ends: list[float] = []
    for seed in range(RUNS):
        load = run(draw, workers, rate, seconds, seed)
        p99 = load.percentile(99)
        assert p99 is not None
        blocks = np.array_split(np.asarray(load.response), 10)
        by_blocks = percentile_interval([block.tolist() for block in blocks], 99)
        covered += holds(p99, truth)
        covered_by_blocks += holds(by_blocks, truth)
        upper_ends.append(p99.high / p99.value)
        verdict, *_ = judge(load, 0.95 * truth)
        verdicts[verdict] += 1
    row = {
        "workers": workers,
        "busy": busy,
        "seconds": seconds,
        "rate": rate,
        "p99": truth,
        "runs": RUNS,
        "held": covered / RUNS,
        "blocks_alone": covered_by_blocks / RUNS,
        "passed": verdicts["pass"] / RUNS,
        "high": float(np.median(upper_ends)),
        "words": dict(verdicts),
    }
    print(
        f"{workers} × {busy:.0%} busy, {seconds} s: holds {row['held']:.0%} (its blocks alone: "
        f"{row['blocks_alone']:.0%}), {row['passed']:.0%} pass wrongly, the upper end is "
        f"{row['high']:.2f} times the value",
        flush=True,
    )
    return row


def name(row: dict[str, Any]) -> str:
    """Return what tells a queue from the others."""
    return f"{row['workers']} × {row['busy']:.0%}, {row['seconds']} s"


def claims(rows: list[dict[str, Any]]) -> list[Claim]:
    """Return whether intervals hold, and whether limits below the truth are passed."""
    slack = 2 * math.sqrt(COVERED * (1 - COVERED) / RUNS)  # of a share that is counted
    least = min(rows, key=lambda row: row["held"])
    most = max(rows, key=lambda row: row["passed"])
    return [
        Claim(
            "the interval of p99 holds that of an endless run",
            f"at least {COVERED:.0%} of {RUNS} runs of every queue (less {slack:.0%} by chance)",
            f"{least['held']:.0%} at least: {name(least)}",
            least["held"] >= COVERED - slack,
        ),
        Claim(
            "a limit 5 % below the p99 of an endless run is not passed",
            f"at most {PASSED:.0%} of {RUNS} runs of every queue",
            f"{most['passed']:.0%} at most: {name(most)}",
            most["passed"] <= PASSED,
        ),
    ]


def main() -> int:
    """Simulate all queues, and record it."""
    argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    ).parse_args()
    rows = [measured(*case) for case in CASES]
    return finish("queues", rows, claims(rows), seed=0)


if __name__ == "__main__":
    sys.exit(main())
