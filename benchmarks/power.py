"""How often, and how soon, a bundle that is slower by a known share is called a regression.

    python -m benchmarks.power       about 45 minutes; needs a quiet machine and `make demo`

The slower bundle does real extra work in its graph (``slowed``). A first measurement sets the
amount of work; a second one, over many processes, determines the true slowdown.
"""

from __future__ import annotations

import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

from benchmarks import bundle, slowed
from benchmarks.record import Claim, finish
from rarefy.pipeline.measure.latency import session as latency
from rarefy.pipeline.measure.latency.compare import compare, measure
from rarefy.pipeline.measure.measurements import CANDIDATE
from rarefy.pipeline.terms.interval import Interval

MARGIN, SECONDS = 0.05, 55.0
SHARES = {0.10: 1.0, 0.07: 0.1, 0.05: 0.05, 0.03: 0.05}
"""Slowdown -> share of the number of trials to run with it."""
NEEDED = 0.95
PROBE, STEPS, CLOSE = 400, 4, 0.005
SURE = 24


def ratio(candidate: Path, baseline: Path, texts: list[str], processes: int) -> Interval:
    """Return the ratio of medians, candidate / baseline, measured in ``processes`` processes."""
    bundles = {CANDIDATE: candidate, "baseline": baseline}
    timed = latency.measure(bundles, texts, processes=processes, seconds=60)
    return compare(timed.samples[CANDIDATE], timed.samples["baseline"], MARGIN).ratio


def slow_down(
    baseline: Path, folder: Path, texts: list[str], share: float
) -> tuple[Path, Interval]:
    """Return a bundle that is slower by about ``share``, and its measured ratio."""
    low, high, count = (0, 0.0), (0, 0.0), PROBE
    for _ in range(STEPS):
        made = slowed.make(baseline, folder / f"slower-{share}", count)
        truth = ratio(made, baseline, texts, SURE)
        if abs(truth.value - 1 - share) < CLOSE:
            break
        low, high = high, (count, truth.value - 1)
        each = max((high[1] - low[1]) / (high[0] - low[0]), 1e-6)
        count = max(round(count + (share - high[1]) / each), 1)
    return made, truth


def main() -> int:
    given, texts, rows, claims = bundle.arguments(__doc__ or ""), bundle.texts(), [], []
    with tempfile.TemporaryDirectory(prefix="rarefy-power-") as name, bundle.progress() as shown:
        folder = Path(name)
        for share, part in SHARES.items():
            slower, truth = slow_down(given.bundle, folder, texts, share)
            trials: list[dict[str, Any]] = []
            count = max(round(part * given.trials), 1)
            for seed in shown.track(range(count), description=f"{share:.0%} slower"):
                began = time.monotonic()
                found, timed = measure(
                    slower, given.bundle, texts, None, MARGIN, seconds=SECONDS, seed=seed
                )
                trials.append(
                    {
                        "slower": share,
                        "change": found.change,
                        "ratio": [round(value, 4) for value in found.ratio],
                        "processes": len(timed.samples[CANDIDATE]),
                        "seconds": round(time.monotonic() - began, 1),
                    }
                )
                shown.console.print(trials[-1])
            rows += trials
            claims.append(claim(share, truth, trials))
            code = finish("power", rows, claims, seed=0)  # keeps results if interrupted
    return code


def claim(share: float, truth: Interval, trials: list[dict[str, Any]]) -> Claim:
    """Claim how often a slowdown was called a regression; only 10 % has a target."""
    words = Counter(trial["change"] for trial in trials)
    times = sorted(trial["seconds"] for trial in trials)
    asked = share == 0.10
    enough = words["regression"] >= NEEDED * max(len(trials), bundle.TRIALS) and times[-1] < 60
    enough &= truth.value - 1 <= share + CLOSE  # a larger slowdown would overstate the power
    return Claim(
        f"slower by {share:.0%} (really {truth.value - 1:.1%} "
        f"[{truth.low - 1:.1%}, {truth.high - 1:.1%}]) called a regression at a margin of 5 %",
        "at least 95 of 100, each in under 60 s" if asked else "none (part of the curve)",
        f"{words['regression']} of {len(trials)}; {words['equal']} equal, {words['inconclusive']} "
        f"inconclusive, {words['improvement']} improvement; {duration(times)}",
        enough if asked else words["improvement"] == 0,
    )


def duration(times: list[float]) -> str:
    return f"median {times[len(times) // 2]:.0f} s, at most {times[-1]:.0f} s"


if __name__ == "__main__":
    raise SystemExit(main())
