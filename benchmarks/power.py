"""How often, and how soon, a bundle that is slower by a known share is called a regression.

    python -m benchmarks.power [PERCENT…]

About 45 minutes; needs a quiet machine and `make demo`. The record keeps what it says of slowdowns
that are not named.

The slower bundle does real extra work in its graph. A first measurement sets the amount of work; a
second one, over many processes, determines the true slowdown.
"""

from __future__ import annotations

import json
import shutil
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import bundle
from benchmarks.record import HERE, Claim, finish, here
from rarefy.pipeline.measure.latency import session as latency
from rarefy.pipeline.measure.latency.compare import compare, measure
from rarefy.pipeline.measure.measurements import CANDIDATE
from rarefy.pipeline.terms.interval import Interval

MARGIN, SECONDS = 0.05, 55.0
SHARES = {0.10: 1.0, 0.07: 0.1, 0.05: 0.05, 0.03: 0.05}
"""Slowdown -> share of the number of trials to run with it."""
CLAIMED = 0.10
"""The slowdown that must be seen; the others draw the curve."""
SEEN = 0.95
PROBE, STEPS, CLOSE = 400, 4, 0.005
PROCESSES = 24
"""Processes that determine a true slowdown."""
WIDTH = 256
RESULTS = HERE / "results" / "power.json"


def add_work(bundle: Path, output: Path, columns: int) -> Path:
    """Copy a bundle and add ``columns`` × 256 multiplications per token to its graph.

    The product depends on the token ids, so it cannot be precomputed. It is multiplied by zero and
    added to the logits, so it cannot be optimized away.
    """
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    shutil.rmtree(output, ignore_errors=True)
    shutil.copytree(bundle, output)
    model = onnx.load(str(output / "model.onnx"))
    graph = model.graph
    generator = np.random.default_rng(0)
    constants = {
        "slowed_axis": np.array([2], dtype=np.int64),
        "slowed_wide": generator.normal(size=(1, WIDTH)).astype(np.float32),
        "slowed_work": generator.normal(size=(WIDTH, columns)).astype(np.float32),
        "slowed_zero": np.zeros((), dtype=np.float32),
    }
    for name, value in constants.items():
        graph.initializer.append(numpy_helper.from_array(value, name))
    for node in graph.node:
        for index, name in enumerate(node.output):
            if name == "logits":
                node.output[index] = "slowed_logits"
    make_node = helper.make_node
    graph.node.extend(
        [
            make_node("Cast", ["input_ids"], ["slowed_ids"], to=TensorProto.FLOAT),
            make_node("Unsqueeze", ["slowed_ids", "slowed_axis"], ["slowed_column"]),
            make_node("MatMul", ["slowed_column", "slowed_wide"], ["slowed_tokens"]),
            make_node("MatMul", ["slowed_tokens", "slowed_work"], ["slowed_product"]),
            make_node("ReduceSum", ["slowed_product"], ["slowed_sum"], keepdims=0),
            make_node("Mul", ["slowed_sum", "slowed_zero"], ["slowed_nothing"]),
            make_node("Add", ["slowed_logits", "slowed_nothing"], ["logits"]),
        ]
    )
    onnx.save(model, str(output / "model.onnx"))
    return output


def ratio(candidate: Path, baseline: Path, texts: list[str]) -> Interval:
    """Return the ratio of medians, candidate / baseline, measured in many processes."""
    bundles = {CANDIDATE: candidate, "baseline": baseline}
    timed = latency.measure(bundles, texts, processes=PROCESSES, seconds=60)
    return compare(timed.samples[CANDIDATE], timed.samples["baseline"], MARGIN).ratio


def slow_down(
    baseline: Path, folder: Path, texts: list[str], share: float
) -> tuple[Path, Interval]:
    """Return a bundle that is slower by about ``share``, and its measured ratio.

    The work is set by the secant through the last two measurements.
    """
    before = (0, 0.0)
    last = (0, 0.0)
    columns = PROBE
    for _ in range(STEPS):
        slower = add_work(baseline, folder / f"slower-{share}", columns)
        truth = ratio(slower, baseline, texts)
        slowdown = truth.value - 1
        if abs(slowdown - share) < CLOSE:
            break
        before, last = last, (columns, slowdown)
        slope = max((last[1] - before[1]) / (last[0] - before[0]), 1e-6)
        columns = max(round(columns + (share - slowdown) / slope), 1)
    return slower, truth


def trial(slower: Path, baseline: Path, texts: list[str], seed: int) -> dict[str, Any]:
    """Compare a slower bundle with its baseline as ``rarefy ci`` does."""
    began = time.monotonic()
    verdict, timed = measure(slower, baseline, texts, None, MARGIN, seconds=SECONDS, seed=seed)
    return {
        "change": verdict.change,
        "ratio": [round(value, 4) for value in verdict.ratio],
        "processes": len(timed.samples[CANDIDATE]),
        "seconds": round(time.monotonic() - began, 1),
    }


def claim(share: float, truth: Interval, trials: list[dict[str, Any]]) -> Claim:
    """Claim how often a slowdown was called a regression; only ``CLAIMED`` has a target."""
    verdicts = Counter(trial["change"] for trial in trials)
    times = sorted(trial["seconds"] for trial in trials)
    median, longest = times[len(times) // 2], times[-1]
    if share == CLAIMED:
        target = "at least 95 of 100, each in under 60 s"
        often = verdicts["regression"] >= SEEN * max(len(trials), bundle.TRIALS)
        honest = truth.value - 1 <= share + CLOSE  # a larger slowdown would overstate the power
        holds = often and longest < 60 and honest
    else:
        target = "none (part of the curve)"
        holds = verdicts["improvement"] == 0
    return Claim(
        f"slower by {share:.0%} (really {truth.value - 1:.1%} "
        f"[{truth.low - 1:.1%}, {truth.high - 1:.1%}]) called a regression at a margin of 5 %",
        target,
        f"{verdicts['regression']} of {len(trials)}; {verdicts['equal']} equal, "
        f"{verdicts['inconclusive']} inconclusive, {verdicts['improvement']} improvement; "
        f"median {median:.0f} s, at most {longest:.0f} s",
        holds,
    )


def recorded() -> dict[float, tuple[list[dict[str, Any]], Claim]]:
    """Return share -> trials and claim, as the record has them: they stay until measured again."""
    if not RESULTS.is_file():
        return {}
    record = json.loads(RESULTS.read_text())
    of_shares = {}
    for share in SHARES:
        trials = [row for row in record["rows"] if row["slower"] == share]
        for claim in record["must_show"]:
            if claim["claim"].startswith(f"slower by {share:.0%} "):
                of_shares[share] = (trials, Claim(**claim))
    return of_shares


def main() -> int:
    """Slow the bundle down by each share, and record how often that was seen."""
    parser = bundle.parser(__doc__ or "")
    named = [f"{100 * share:.0f}" for share in SHARES]
    parser.add_argument(
        "percents", nargs="*", metavar="PERCENT", help=f"among {', '.join(named)}; default: all"
    )
    options = bundle.arguments(parser)
    for percent in options.percents:
        if percent not in named:
            parser.error(f"no slowdown of {percent} %, only of {', '.join(named)}")
    texts = bundle.texts()
    of_shares = recorded()
    with tempfile.TemporaryDirectory(prefix="rarefy-power-") as name, bundle.progress() as bar:
        for share, part in SHARES.items():
            if options.percents and f"{100 * share:.0f}" not in options.percents:
                continue
            slower, truth = slow_down(options.bundle, Path(name), texts, share)
            trials: list[dict[str, Any]] = []
            count = max(round(part * options.trials), 1)
            for seed in bar.track(range(count), description=f"{share:.0%} slower"):
                row = {"slower": share} | trial(slower, options.bundle, texts, seed) | here()
                trials.append(row)
                bar.console.print(row)
            of_shares[share] = (trials, claim(share, truth, trials))
            rows = [row for trials, _ in of_shares.values() for row in trials]
            claims = [claim for _, claim in of_shares.values()]
            code = finish("power", rows, claims, seed=0)  # keeps results if interrupted
    return code


if __name__ == "__main__":
    raise SystemExit(main())
