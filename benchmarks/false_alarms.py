"""A/A test: compare an int8 bundle with itself, half the time beside a noisy neighbour.

    python -m benchmarks.false_alarms       about 25 minutes; needs two cores and `make demo`

Each trial also runs Olive's default procedure (``olive_default``) right after, for comparison.
"""

from __future__ import annotations

import contextlib
import time
from collections import Counter
from typing import Any

from benchmarks import bundle, olive_default
from benchmarks.neighbour import neighbour
from benchmarks.record import Claim, finish
from rarefy.pipeline.measure.latency import compare as gate
from rarefy.pipeline.measure.machine import fingerprint

MARGIN, SECONDS, ALLOWED = 0.05, 60.0, 2
CALLED = ("regression", "improvement")


def trial(given: Any, texts: list[str], seed: int, noisy: bool) -> dict[str, Any]:
    """Compare the bundle with itself by both procedures under the same conditions."""
    core = fingerprint.cores()[0]
    with neighbour(core, seed) if noisy else contextlib.nullcontext():
        began = time.monotonic()
        found, timed = gate.measure(
            given.bundle, given.bundle, texts, None, MARGIN, seconds=SECONDS, seed=seed
        )
        seconds = time.monotonic() - began
        first, second = (olive_default.measure(given.bundle, texts) for _ in "AA")
    return {
        "noisy": noisy,
        "rarefy": found.change,
        "ratio": [round(value, 4) for value in found.ratio],
        "processes": len(timed.samples["baseline"]),
        "seconds": round(seconds, 1),
        "olive": olive_default.call(first, second, MARGIN),
    }


def main() -> int:
    given, texts, rows = bundle.arguments(__doc__ or ""), bundle.texts(), []
    with bundle.progress() as shown:
        for seed in shown.track(range(given.trials), description="A/A"):
            rows.append(trial(given, texts, seed, noisy=seed % 2 == 1))
    ours, theirs = (Counter(row[side] for row in rows) for side in ("rarefy", "olive"))
    false, other = (sum(words[word] for word in CALLED) for words in (ours, theirs))
    noisy = sum(row["noisy"] for row in rows)
    most = max(row["seconds"] for row in rows)
    claims = [
        Claim(
            f"identical bundles called a regression or an improvement, {noisy} of {len(rows)} "
            "comparisons beside a noisy neighbour",
            f"at most {ALLOWED} of 100 at a margin of 5 %",
            f"{false} of {len(rows)}; {ours['equal']} equal, {ours['inconclusive']} inconclusive; "
            f"at most {most:.0f} s each",
            false <= ALLOWED * len(rows) / 100 and len(rows) >= bundle.TRIALS,
        ),
        Claim(
            "fewer than Olive's default procedure calls",
            "fewer",
            f"{false} against {other} of {len(rows)}",
            false < other,
        ),
    ]
    return finish("false_alarms", rows, claims, seed=0)


if __name__ == "__main__":
    raise SystemExit(main())
