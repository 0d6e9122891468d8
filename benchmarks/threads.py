"""What a second thread gives an int8 bundle, and which operators run alone.

    python -m benchmarks.threads [--checkpoint DIR]    about 2 minutes; needs a quiet machine with
                                                       two cores, and `make demo`

The checkpoint (by default the demo's teacher, 6×384) is exported in int8 and answers rows with one
thread and with two, in sessions that take turns; the runtime's profiler says how long each kind of
operator takes then.
"""

from __future__ import annotations

import json
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import onnxruntime

from benchmarks import planned
from benchmarks.floor import feed_of, profiled, session
from benchmarks.record import Claim, finish
from rarefy.exporters.build import build
from rarefy.pipeline.model.runtime.bundle_model import BundleModel

SHAPES = ((1, 8), (1, 32), (1, 128), (8, 32))
"""Rows × tokens."""
ROUNDS, CALLS = 40, 10
ALONE = 0.85
"""An operator whose time with two threads is more than this share of that with one runs alone."""
MOST = 0.25
LEAST = 0.02
"""Operators with less of the time are left out of the table."""


def milliseconds(sessions: dict[int, Any], feed: dict[str, Any]) -> dict[int, float]:
    """Return the median ms of a call with each number of threads, in blocks that take turns."""
    times: dict[int, list[float]] = {threads: [] for threads in sessions}
    for _ in range(ROUNDS):
        for threads, made in sessions.items():
            made.run(None, feed)
            before = time.perf_counter_ns()
            for _ in range(CALLS):
                made.run(None, feed)
            times[threads].append((time.perf_counter_ns() - before) / CALLS / 1e6)
    return {threads: statistics.median(found) for threads, found in times.items()}


def main() -> int:
    """Export, time, print and record."""
    source = planned.source(__doc__)
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory(prefix="rarefy-threads-") as name:
        folder = Path(name)
        task, split = planned.rows(source)
        bundle = folder / "bundle"
        bundle.mkdir()
        int8 = planned.int8(source, folder / "planned")
        build(int8, bundle, task=task, split=split, form="deploy", samples=False)
        level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
        graph, model = str(bundle / "model.onnx"), BundleModel(bundle)
        sessions = {
            threads: session(graph, threads, graph_optimization_level=level) for threads in (1, 2)
        }
        for count, tokens in SHAPES:
            feed = feed_of(model, tokens, count)
            one, two = (profiled(bundle, feed, threads) for threads in (1, 2))
            operators = {
                op: {"share": two[op] / two.total(), "ratio": two[op] / took}
                for op, took in one.most_common()
                if took > LEAST * one.total()
            }
            took = milliseconds(sessions, feed)
            rows.append({"rows": count, "tokens": tokens, "ms": took, "operators": operators})
            print(json.dumps(rows[-1]), flush=True)
    return finish("threads", rows, [claim(row) for row in rows], seed=0)


def claim(row: dict[str, Any]) -> Claim:
    """Claim that little of the time with two threads is in operators that run alone."""
    alone = {op: each["share"] for op, each in row["operators"].items() if each["ratio"] > ALONE}
    named = ", ".join(f"{op} {share:.0%}" for op, share in alone.items()) or "none"
    return Claim(
        f"{row['rows']} × {row['tokens']} tokens: operators that a second thread does not help",
        f"at most {MOST:.0%} of the time with two threads",
        f"{sum(alone.values()):.0%} ({named}); two threads are "
        f"{row['ms'][1] / row['ms'][2]:.2f}× as fast as one",
        sum(alone.values()) <= MOST,
    )


if __name__ == "__main__":
    raise SystemExit(main())
