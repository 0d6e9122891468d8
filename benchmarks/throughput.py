"""Throughput budgets against a truth measured without rarefy, and A/A comparisons.

    python -m benchmarks.throughput      about 90 minutes; needs two quiet cores and `make demo`

The truth is a loop of tokenizers and onnxruntime alone: processes that share the rows, answer all
of them in batches, and are timed from the common start to the last one's end. For each number of
workers and each size of batch it runs in turn with rarefy's own measurement, so that both see the
same machine. Each measurement goes on until budgets a tenth below and above the truth are decided,
as that of ``rarefy run`` does, and is judged by them. A trial counts if the machine was still: the
truth before and after differ by ``STILL`` at most. Others are recorded, and repeated.

Trials that the record has are not repeated, and each names its commit and CPU. For a machine that
is quiet for less time, ``--pairs`` and ``--comparisons`` say how many there are to be. ``--again``
measures all of them.
"""

from __future__ import annotations

import argparse
import itertools
import json
import multiprocessing
import os
import shutil
import time
from collections import Counter
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any

from benchmarks import bundle, planned
from benchmarks.record import (
    HERE,
    Claim,
    finish,
    here,
    is_at_least,
    is_at_most,
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
EVERY = 4
"""Beside the truth, every so many rows of eval are answered, so that a trial is short."""
PAIRS = 10
"""Measurements for each number of workers, each beside the truth."""
COMPARISONS = 50
ITSELF = "itself"
PASSES = 3.0
"""Seconds for which a process of the truth goes over the rows, once it is warm."""
RESULTS = HERE / "results" / "throughput.json"
WORK = bundle.ROOT / ".rarefy" / "benchmarks" / "throughput"


# The truth, without rarefy


def true_rate(folder: Path, texts: list[str], workers: int, batch: int) -> float:
    """Return the rows a second that processes answer in a plain loop."""
    context = multiprocessing.get_context("spawn")
    barrier = context.Barrier(workers)
    cores = machine.cores()
    arguments = []
    for number in range(workers):
        share = texts[number::workers]
        core = cores[number % len(cores)]
        arguments.append((str(folder), share, batch, core, barrier))
    with context.Manager() as manager:
        answered = manager.list()
        processes = []
        for each in arguments:
            processes.append(context.Process(target=answer_rows, args=(*each, answered)))
        for process in processes:
            process.start()
        for process in processes:
            process.join()
        times = list(answered)
    if len(times) < workers:
        raise RuntimeError("a process of the plain loop has failed")
    began = min(first for _, first, _ in times)
    ended = max(last for _, _, last in times)
    rows = sum(rows for rows, _, _ in times)
    return float(rows / (ended - began))


def answer_rows(
    folder: str, texts: list[str], batch: int, core: int, barrier: Barrier, answered: Any
) -> None:
    """Answer rows again and again; append how many, and when it began and ended.

    Args:
        folder: the bundle.
        texts: this process's rows.
        batch: rows of a call.
        core: the core to which this process is pinned.
        barrier: where all processes wait for each other before the clock starts.
        answered: takes the result.
    """
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    os.sched_setaffinity(0, {core})
    import onnxruntime
    from tokenizers import Tokenizer

    signature = json.loads((Path(folder) / "signature.json").read_text())
    names = [entry["name"] for entry in signature["inputs"]]
    tokenizer = Tokenizer.from_file(f"{folder}/tokenizer.json")
    tokenizer.enable_truncation(signature["max_length"])
    config = json.loads((Path(folder) / "tokenizer_config.json").read_text())
    padding = tokenizer.token_to_id(config["pad_token"])
    tokenizer.no_padding()
    lengths = [len(encoding.ids) for encoding in tokenizer.encode_batch(texts)]
    tokenizer.enable_padding(pad_id=padding, pad_token=config["pad_token"])
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    stored = json.loads((Path(folder) / "session_options.json").read_text())
    level = stored["graph_optimization_level"].upper()
    options.graph_optimization_level = getattr(
        onnxruntime.GraphOptimizationLevel, f"ORT_ENABLE_{level}"
    )
    model = onnxruntime.InferenceSession(
        f"{folder}/model.onnx", options, providers=["CPUExecutionProvider"]
    )
    by_length = sorted(range(len(texts)), key=lengths.__getitem__)
    batches = []
    for start in range(0, len(texts), batch):
        batches.append([texts[row] for row in by_length[start : start + batch]])

    def answer_all() -> None:
        for rows in batches:
            model.run(None, _inputs(tokenizer.encode_batch(rows), names))

    answer_all()
    barrier.wait()
    began = time.monotonic()
    count = 0
    while time.monotonic() - began < PASSES:
        answer_all()
        count += len(texts)
    answered.append((count, began, time.monotonic()))


def _inputs(encodings: list[Any], names: list[str]) -> dict[str, Any]:
    import numpy as np

    columns = {
        "input_ids": [encoding.ids for encoding in encodings],
        "attention_mask": [encoding.attention_mask for encoding in encodings],
        "token_type_ids": [encoding.type_ids for encoding in encodings],
    }
    return {name: np.array(columns[name], np.int64) for name in names}


# The trials


def beside_truth(folder: Path, texts: list[str], workers: int, seed: int) -> dict[str, Any]:
    """Measure a bundle between two rounds of the truth at all sizes of batch that it may have.

    Returns:
        The truth by size, the measurement with its interval, and the verdicts of two budgets.
    """
    sizes = (1,) if rows_interact(folder) else SIZES
    before = {size: true_rate(folder, texts, workers, size) for size in sizes}

    def is_clear(timed: Throughput) -> bool:
        """Return whether both budgets are decided, by the truth so far."""
        rate = before[timed.batch[CANDIDATE]]
        return "inconclusive" not in [verdict(timed, share * rate) for share in SHARES]

    began = time.monotonic()
    timed = session.measure(
        {CANDIDATE: folder}, Job(texts), Target(workers=workers), seed=seed, clear=is_clear
    )
    seconds = time.monotonic() - began
    after = {size: true_rate(folder, texts, workers, size) for size in sizes}
    truth = {size: (before[size] + after[size]) / 2 for size in sizes}
    batch = timed.batch[CANDIDATE]
    below, above = (verdict(timed, share * truth[batch]) for share in SHARES)
    return {
        "workers": workers,
        "batch": batch,
        "truth": {str(size): round(rate, 1) for size, rate in truth.items()},
        "moved": round(after[batch] / before[batch] - 1, 4),
        "rate": [round(end, 1) for end in timed.rate(CANDIDATE)],
        "cpu_seconds": round(timed.cost(CANDIDATE).value, 4),
        "seconds": round(seconds, 1),
        "processes": len(timed.samples[CANDIDATE]),
        "below": below,
        "above": above,
        "busy": timed.busy,
    }


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
        truth = row["truth"][str(row["batch"])]
        ratios.append(row["rate"][0] / truth)
        shares.append(truth / max(row["truth"].values()))
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
    parser.add_argument("--again", action="store_true", help="repeat what the record has")
    parser.add_argument("--work", type=Path, default=WORK, help="folder for the float bundle")
    options = parser.parse_args()
    if not (options.bundle / "model.onnx").is_file():
        parser.error(f"{options.bundle}: no bundle; run `make demo`, or name one with --bundle")
    if json.loads((options.bundle / "signature.json").read_text()).get("windows"):
        parser.error(f"{options.bundle}: reads windows, which the plain loop does not")
    texts = bundle.all_texts()
    fewer = texts[::EVERY]
    rows = [] if options.again else recorded()
    forms = {"int8": options.bundle, "float": in_float(options.checkpoint, options.work)}
    settings = list(itertools.product(forms, WORKERS))
    with bundle.progress() as bar:
        for number in bar.track(range(2 * options.pairs), description="truth"):
            for form, workers in settings:
                part = f"{form}, {plural(workers, 'worker')}"
                if lacks(rows, part, number) and len(still(rows, part)) < options.pairs:
                    measured = beside_truth(forms[form], fewer, workers, number)
                    rows.append(trial(part, number, measured))
        for number in bar.track(range(options.comparisons), description="A/A"):
            if lacks(rows, ITSELF, number):
                measured = against_itself(options.bundle, texts, number)
                rows.append(trial(ITSELF, number, measured))
    return finish("throughput", rows, claims(rows), seed=0)


if __name__ == "__main__":
    raise SystemExit(main())
