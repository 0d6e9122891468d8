"""Throughput budgets against a truth measured without rarefy, and A/A comparisons.

    python -m benchmarks.throughput      about 90 minutes; needs two quiet cores and `make demo`

The truth is ``plain_loop``: processes that share the rows, answer them in batches, and are timed
from the common start to the last one's end; ``ROUNDS`` times, since one process differs from the
next. It runs before and after rarefy's own measurement, so that both see the same machine. Each
measurement goes on until budgets a tenth below and above the truth are decided, as that of
``rarefy run`` does, and is judged by them. A trial counts if the machine was still: the truth
before and after differ by ``STILL`` at most. Others are recorded, and repeated.

Trials that the record has are not repeated, and each names its commit and CPU; nor are those of a
run that was stopped at the same commit. For a machine that is quiet for less time, ``--pairs`` and
``--comparisons`` say how many there are to be. ``--again`` measures all of them, and
``--again int8`` those of the int8 bundle.
"""

from __future__ import annotations

import argparse
import itertools
import json
import shutil
import statistics
import time
from collections import Counter
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks import bundle, plain_loop, planned
from benchmarks.record import (
    HERE,
    Claim,
    finish,
    here,
    is_at_least,
    is_at_most,
    load_or_make,
    trials_of_now,
    worst,
)
from rarefy.exporters.build import build
from rarefy.pipeline.measure import machine
from rarefy.pipeline.measure.latency.compare import BASELINE
from rarefy.pipeline.measure.measurements import CANDIDATE
from rarefy.pipeline.measure.rows_per_second import Throughput
from rarefy.pipeline.measure.throughput import compare, session
from rarefy.pipeline.measure.throughput.rows import Job
from rarefy.pipeline.measure.throughput.session import SIZES
from rarefy.pipeline.model.runtime.bundle_model import rows_interact
from rarefy.pipeline.terms.interval import Interval
from rarefy.pipeline.terms.recipe_parts import Target
from rarefy.pipeline.terms.wording import bounds, plural

MARGIN = 0.05
SHARES = (0.9, 1.1)
"""The budgets, as shares of the truth."""
CLOSE = 0.05
"""How far rarefy's rows a second may be from the truth, on average, as a share of it."""
WORKERS = (1, 2)
STILL = 0.05
"""The share by which the truth may move during a trial that counts."""
ROUNDS = 5
"""Fresh processes of the truth, before and after."""
PAIRS = 10
"""Measurements for each number of workers, each beside the truth."""
COMPARISONS = 50
ITSELF = "itself"
RESULTS = HERE / "results" / "throughput.json"
WORK = bundle.ROOT / ".rarefy" / "benchmarks" / "throughput"


# The trials


def beside_truth(folder: Path, texts: list[str], workers: int, seed: int) -> dict[str, Any]:
    """Measure a bundle between two rounds of the truth at all sizes of batch that it may have.

    Returns:
        The truth by size, the measurement with its interval, and the verdicts of two budgets.
    """
    sizes = (1,) if rows_interact(folder) else SIZES
    before = true_rates(folder, texts, workers, sizes)

    def is_clear(timed: Throughput) -> bool:
        """Return whether both budgets are decided, by the truth so far."""
        rate = before[timed.batch[CANDIDATE]]
        return "inconclusive" not in [verdict(timed, share * rate) for share in SHARES]

    began = time.monotonic()
    timed = session.measure(
        {CANDIDATE: folder}, Job(texts), Target(workers=workers), seed=seed, clear=is_clear
    )
    seconds = time.monotonic() - began
    batch = timed.batch[CANDIDATE]
    after = true_rates(folder, texts, workers, [batch])
    truth = (before[batch] + after[batch]) / 2
    below, above = (verdict(timed, share * truth) for share in SHARES)
    return {
        "workers": workers,
        "batch": batch,
        "truth": round(truth, 1),
        "before": {str(size): round(rate, 1) for size, rate in before.items()},
        "moved": round(after[batch] / before[batch] - 1, 4),
        "rate": [round(end, 1) for end in timed.rate(CANDIDATE)],
        "cpu_seconds": round(timed.cost(CANDIDATE).value, 4),
        "seconds": round(seconds, 1),
        "processes": len(timed.samples[CANDIDATE]),
        "below": below,
        "above": above,
        "busy": timed.busy,
    }


def true_rates(
    folder: Path, texts: list[str], workers: int, sizes: Sequence[int]
) -> dict[int, float]:
    """Return the rows a second of the plain loop by size of batch: the mean of rounds."""
    cores = machine.cores()[:workers]
    rounds = []
    for number in range(ROUNDS):
        rounds.append(plain_loop.rates(folder, texts, cores, sizes, number))
    return {size: statistics.mean(one[size] for one in rounds) for size in sizes}


def verdict(timed: Throughput, limit: float) -> str:
    """Return how a budget is judged that asks for ``limit`` rows a second."""
    from rarefy.pipeline.measure.measurements import Measurements
    from rarefy.pipeline.terms.budget import Budget
    from rarefy.pipeline.verdict.findings import judge_one

    measured = Measurements(
        machine={},
        task="text-classification",
        labels=[],
        truth=[],
        models={},
        latency={},
        throughput={"cpu": timed},
    )
    return judge_one(Budget(metric="throughput", min=limit), "cpu", measured).outcome


def against_itself(folder: Path, texts: list[str], seed: int) -> dict[str, Any]:
    """Compare the throughput of a bundle with its own on two workers."""
    began = time.monotonic()
    timed = compare.measure(folder, folder, Job(texts), Target(workers=2), MARGIN, seed=seed)
    return {
        "change": compare.change(timed, MARGIN),
        "ratio": [round(end, 4) for end in timed.ratio(CANDIDATE, BASELINE)],
        "batch": timed.batch,
        "processes": len(timed.samples[CANDIDATE]),
        "seconds": round(time.monotonic() - began, 1),
        "busy": timed.busy,
    }


def in_float(checkpoint: Path | None, work: Path) -> Path:
    """Return a checkpoint as a bundle in fused fp32, which answers a row alike in every batch."""
    source = checkpoint or planned.teacher()
    folder = work / "float"
    if not (folder / "done").is_file():
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        task, split = planned.rows(source)
        build(source, folder, task=task, split=split, form="reference", samples=False)
        (folder / "done").touch()
    return folder


def recorded() -> list[dict[str, Any]]:
    """Return the trials that the record has."""
    if not RESULTS.is_file():
        return []
    rows: list[dict[str, Any]] = json.loads(RESULTS.read_text())["rows"]
    return rows


def lacks(rows: list[dict[str, Any]], part: str, number: int) -> bool:
    """Return whether a trial is still to be measured."""
    return not any((row["part"], row["number"]) == (part, number) for row in rows)


def is_still(row: dict[str, Any]) -> bool:
    """Return whether the truth was about the same before and after a trial."""
    return bool(abs(row["moved"]) <= STILL)


def still(rows: list[dict[str, Any]], part: str) -> list[dict[str, Any]]:
    """Return the trials of a part that count."""
    return [row for row in rows if row["part"] == part and is_still(row)]


def trial(part: str, number: int, measured: dict[str, Any]) -> dict[str, Any]:
    """Return a trial as it is recorded."""
    return {"part": part, "number": number, **measured, **here()}


# The claims


def claims(rows: list[dict[str, Any]]) -> list[Claim]:
    """Claim that budgets are judged rightly, and that equal bundles are never called different."""
    found = []
    for part in dict.fromkeys(row["part"] for row in rows if row["part"] != ITSELF):
        counted = still(rows, part)
        if counted:
            found += claims_of_truth(counted, part)
        else:
            title = f"{part}: budgets beside the truth"
            found.append(Claim(title, f"{PAIRS} trials", "none on a still machine", None))
    itself = [row for row in rows if row["part"] == ITSELF]
    changes = Counter(row["change"] for row in itself)
    alarms = changes["regression"] + changes["improvement"]
    longest = max((row["seconds"] for row in itself), default=0.0)
    found.append(
        Claim(
            "identical bundles called a regression or an improvement of throughput, 2 workers",
            f"none of {COMPARISONS} at a margin of {MARGIN:.0%}",
            f"{alarms} of {len(itself)}; {changes['equal']} equal, {changes['inconclusive']} "
            f"inconclusive; at most {longest:.0f} s each",
            not alarms if len(itself) >= COMPARISONS else None,
        )
    )
    return found


def claims_of_truth(beside: list[dict[str, Any]], part: str) -> list[Claim]:
    """Return the claims on a bundle with one number of workers."""
    verdicts = Counter(row["below"] for row in beside)
    above = Counter(row["above"] for row in beside)
    undecided = verdicts["inconclusive"] + above["inconclusive"]
    wrong = verdicts["fail"] + above["pass"]
    ratios, shares = [], []
    for row in beside:
        ratios.append(row["rate"][0] / row["truth"])
        of_size = row["before"]
        shares.append(of_size[str(row["batch"])] / max(of_size.values()))
    chosen = sorted({row["batch"] for row in beside})
    enough = len(beside) >= PAIRS
    ratio = mean_ratio(ratios)
    close = worst([is_at_least(ratio, 1 - CLOSE), is_at_most(ratio, 1 + CLOSE)])
    return [
        Claim(
            f"{part}: a budget a tenth below the truth passes, one a tenth above it fails",
            f"no wrong verdict of {2 * PAIRS}, at most a tenth undecided",
            f"{wrong} wrong of {2 * len(beside)}, {undecided} undecided",
            not wrong and undecided <= len(beside) / 5 if enough else None,
        ),
        Claim(
            f"{part}: the measured rows a second are those of a plain loop",
            f"within {CLOSE:.0%}, on average",
            f"{bounds(ratio, '×')} the truth, from {min(ratios):.3f} to {max(ratios):.3f}",
            close if enough else None,
        ),
        Claim(
            f"{part}: the batch size that is chosen is as fast as the best by the truth",
            "at least 95 % of it in every trial",
            f"from {min(shares):.1%}; chosen: {', '.join(map(str, chosen))}",
            min(shares) >= 0.95 if enough else None,
        ),
    ]


def mean_ratio(ratios: list[float]) -> Interval:
    """Return the geometric mean of trials' ratios with Student's interval at 95 %."""
    import numpy as np
    from scipy.stats import t

    logs = np.log(ratios)
    middle = float(np.exp(logs.mean()))
    if len(ratios) < 2:
        return Interval(middle, 0.0, float("inf"))
    error = float(logs.std(ddof=1)) / len(ratios) ** 0.5
    factor = float(np.exp(t.ppf(0.975, len(ratios) - 1) * error))
    return Interval(middle, middle / factor, middle * factor)


def main() -> int:
    """Run the trials that are missing, and record all."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bundle", type=Path, default=bundle.ROOT / ".rarefy/runs/demo/bundle")
    parser.add_argument("--checkpoint", type=Path, help="default: the demo's teacher")
    parser.add_argument("--pairs", type=int, default=PAIRS)
    parser.add_argument("--comparisons", type=int, default=COMPARISONS)
    parser.add_argument(
        "--again",
        nargs="?",
        const="",
        metavar="PART",
        help="repeat what the record has, or of it the parts whose names begin so",
    )
    parser.add_argument("--work", type=Path, default=WORK, help="folder for the float bundle")
    options = parser.parse_args()
    if not (options.bundle / "model.onnx").is_file():
        parser.error(f"{options.bundle}: no bundle; run `make demo`, or name one with --bundle")
    if json.loads((options.bundle / "signature.json").read_text()).get("windows"):
        parser.error(f"{options.bundle}: reads windows, which the plain loop does not")
    texts = bundle.all_texts()
    trials = trials_of_now("throughput", options.bundle)
    rows = recorded()
    if options.again is not None:
        rows = [row for row in rows if not row["part"].startswith(options.again)]
    forms = {"int8": options.bundle, "float": in_float(options.checkpoint, options.work)}
    settings = list(itertools.product(forms, WORKERS))
    with bundle.progress() as bar:
        for number in bar.track(range(2 * options.pairs), description="truth"):
            for form, workers in settings:
                part = f"{form}, {plural(workers, 'worker')}"
                if lacks(rows, part, number) and len(still(rows, part)) < options.pairs:
                    make = partial(beside_truth, forms[form], texts, workers, number)
                    measured = load_or_make(trials / f"{part} {number}.json", make)
                    rows.append(trial(part, number, measured))
        for number in bar.track(range(options.comparisons), description="A/A"):
            if lacks(rows, ITSELF, number):
                make = partial(against_itself, options.bundle, texts, number)
                measured = load_or_make(trials / f"{ITSELF} {number}.json", make)
                rows.append(trial(ITSELF, number, measured))
    code = finish("throughput", rows, claims(rows), seed=0)
    shutil.rmtree(trials)
    return code


if __name__ == "__main__":
    raise SystemExit(main())
