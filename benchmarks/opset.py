"""What `export: {opset: 20}` costs: a bundle's CPU time without ONNX's operator for attention.

    python -m benchmarks.opset [--checkpoint DIR]

The packaged MiniLM (6×384) with a head that nobody has trained, all layers int8, is exported with
opset 23 and 20: of what it answers, only the time matters here. Both bundles answer the same texts
one at a time, in one thread, and take turns in short blocks; a ratio is of two blocks that follow
one another. Seconds are CPU seconds of that thread. Takes about four minutes.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import planned
from benchmarks.bundle import texts
from benchmarks.record import Claim, finish, is_at_most, worst
from benchmarks.serving_calls import median_with_interval
from rarefy.exporters.build import build
from rarefy.pipeline import tasks
from rarefy.pipeline.data.split import Split
from rarefy.pipeline.model import checkpoint
from rarefy.pipeline.model.runtime.bundle_model import BundleModel
from rarefy.pipeline.sources import references
from rarefy.pipeline.terms.interval import Interval

LENGTHS = (8, 32, 128)
OPSETS = (23, 20)
BLOCK = 10
ROUNDS, WARM = 60, 5
MOST = 1.25
"""The most that is claimed of the slower graph, as a ratio."""
SEED = 0
LABELS = ("negative", "positive")

Feed = dict[str, Any]


def untrained(folder: Path) -> Path:
    """Write the packaged model with a new head, whose answers differ from row to row."""
    import torch

    source, _ = references.model_directory(references.DEMO_MODEL, Path())
    torch.manual_seed(SEED)
    task = tasks.find("text-classification").bind(LABELS, max(LENGTHS), ("text",))
    model = task.head.load(str(source))
    with torch.no_grad():
        model.classifier.weight.mul_(30)
    checkpoint.save(model, checkpoint.load_tokenizer(source), folder)
    return folder


def export(source: Path, folder: Path, rows: list[str]) -> dict[int, BundleModel]:
    """Return the bundle of each opset."""
    task = tasks.find("text-classification").bind(LABELS, max(LENGTHS), ("text",))
    split = Split("dev", "eval.jsonl", "0" * 64, rows, None, [0] * len(rows))
    models = {}
    for opset in OPSETS:
        bundle = folder / str(opset)
        bundle.mkdir()
        build(source, bundle, task=task, split=split, form="deploy", opset=opset)
        models[opset] = BundleModel(bundle, threads=1)
    return models


def feeds(model: BundleModel, rows: list[str]) -> dict[str, list[Feed]]:
    """Return what is timed: the rows as they are, and cut or repeated to fixed lengths."""
    encoded = model.encode(rows)
    timed: dict[str, list[Feed]] = {"rows": encoded}
    for length in LENGTHS:
        fixed = []
        for feed in encoded:
            fixed.append({name: np.resize(ids, (1, length)) for name, ids in feed.items()})
        timed[str(length)] = fixed
    return timed


def time_blocks(models: dict[int, BundleModel], rows: list[Feed]) -> dict[int, list[float]]:
    """Return the CPU seconds of each block, by opset; in random order."""
    random = np.random.default_rng(SEED)
    seconds: dict[int, list[float]] = {opset: [] for opset in models}
    for round_number in range(WARM + ROUNDS):
        block = [rows[at] for at in random.integers(0, len(rows), BLOCK)]
        for place in random.permutation(len(OPSETS)):
            model = models[OPSETS[place]]
            began = time.thread_time()
            for feed in block:
                model.run(feed)
            spent = time.thread_time() - began
            if round_number >= WARM:
                seconds[OPSETS[place]].append(spent)
    return seconds


def main() -> int:
    """Export, time and record the ratios."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--checkpoint", type=Path)
    options = parser.parse_args()
    recorded: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory(prefix="rarefy-opset-") as name:
        folder = Path(name)
        source = options.checkpoint or untrained(folder / "untrained")
        int8 = planned.int8(source, folder / "int8")
        models = export(int8, folder, texts())
        for what, rows in feeds(models[23], texts()).items():
            seconds = time_blocks(models, rows)
            pairs = zip(seconds[20], seconds[23], strict=True)
            ratio, low, high = median_with_interval([older / newer for older, newer in pairs])
            row = {"what": what, "value": ratio, "low": low, "high": high, "rounds": ROUNDS}
            for opset in OPSETS:
                row[f"ms_{opset}"] = 1000 * statistics.median(seconds[opset]) / BLOCK
            recorded.append(row)
            print(row, flush=True)
    measured = []
    holds = []
    for row in recorded:
        holds.append(is_at_most(Interval(row["value"], row["low"], row["high"]), MOST))
        interval = f"[{row['low']:.2f}, {row['high']:.2f}]"
        measured.append(f"{row['what']}: {row['value']:.2f} {interval}")
    claim = Claim(
        "CPU time with opset 20, as a ratio to opset 23 (6×384, int8, batch 1, one thread)",
        f"at most {MOST}",
        "; ".join(measured),
        worst(holds),
    )
    return finish("opset", recorded, [claim], SEED)


if __name__ == "__main__":
    sys.exit(main())
