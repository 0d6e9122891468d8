"""One base and three adapters against three bundles: bytes, time and memory.

    python -m benchmarks.adapter_bundles --home DIR

The packaged MiniLM (6×384), all layers of its body int8, gets three adapters of rank 8 on all its
linear layers, with heads for two labels, four labels, and tags of words. One more is on attention's
layers only. The weights are drawn: bytes and time do not depend on them, and scores are those of
``benchmarks.adapters``. Each adapter is exported once as a file beside the base, and once merged.
Both bundles answer the same rows one at a time, in one thread of one process, and take turns in
short blocks; a ratio is of two blocks that follow one another, in CPU seconds of that thread.
Memory is the peak of a fresh process that loads what it needs for all three tasks and answers each
once. Takes about ten minutes; what DIR has already is not built again.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import planned
from benchmarks.bundle import texts
from benchmarks.opset import BLOCK, ROUNDS, WARM, Feed
from benchmarks.record import Claim, finish, is_at_most, worst
from benchmarks.serving_calls import median_with_interval
from rarefy.exporters.build import build
from rarefy.pipeline import tasks
from rarefy.pipeline.data.split import Split
from rarefy.pipeline.measure import machine
from rarefy.pipeline.measure.memory import memory
from rarefy.pipeline.model import checkpoint
from rarefy.pipeline.model.runtime.adapter_file import FILE
from rarefy.pipeline.model.runtime.bundle_model import BundleModel
from rarefy.pipeline.model.tokens import words
from rarefy.pipeline.sources import references
from rarefy.pipeline.tasks import Task
from rarefy.pipeline.terms.interval import Interval

LENGTHS = (8, 32, 128)
RANK = 8
ALL, ATTENTION = "all-linear", "attention"
"""The layers with an adapter, as ``adapt`` calls them."""
SEED = 0
MOST_BYTES = 0.45
MOST_TIME = {True: 1.25, False: 1.15}
"""The most time with an adapter, as a ratio to the merged bundle, on CPUs with VNNI or without."""
LOADED = """
import sys
from pathlib import Path
from rarefy.pipeline.measure.memory.memory import peak_of_process
from rarefy.pipeline.model.runtime.bundle_model import BundleModel
from rarefy.pipeline.model.tokens import words

first, *others = map(Path, sys.argv[1:])
models = [BundleModel(first, threads=1)]
for path in others:
    model = models[0].with_adapter(path) if path.is_file() else BundleModel(path, threads=1)
    models.append(model)
for model in models:
    model.units(["A film of rare warmth, and funny besides."])
print(peak_of_process())
"""


@dataclass(frozen=True)
class Exported:
    """A task, its bundle with an adapter, and its merged bundle."""

    task: Task
    beside: Path
    merged: Path


def subjects() -> dict[str, Task]:
    """Return the tasks by name."""
    longest = max(LENGTHS)
    bind = {
        "reviews": ("text-classification", ["negative", "positive"]),
        "topics": ("text-classification", ["a", "b", "c", "d"]),
        "tags": ("token-classification", ["O", "B-A", "I-A"]),
    }
    return {
        name: tasks.find(task).bind(tuple(labels), longest, ("text",))
        for name, (task, labels) in bind.items()
    }


def adapted(folder: Path, task: Task, modules: str) -> Path:
    """Write the packaged model in int8 with a drawn adapter and head for a task."""
    import peft
    import torch

    from rarefy.stages.adapt import stage as adapting

    source, _ = references.model_directory(references.DEMO_MODEL, Path())
    torch.manual_seed(SEED)
    network = task.head.load(str(source))
    with torch.no_grad():
        network.classifier.weight.mul_(30)  # answers that differ from row to row
    checkpoint.save(network, checkpoint.load_tokenizer(source), folder / "base")
    directory = planned.int8(folder / "base", folder / "checkpoint")
    config = peft.LoraConfig(
        r=RANK,
        target_modules=adapting.adapted_layers(network, modules),
        modules_to_save=adapting.head_modules(network),
    )
    network = peft.get_peft_model(network, config)
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if "lora_B" in name:
                parameter.normal_(0, 0.01)
    adapting.save_adapter(network, directory / checkpoint.ADAPTER)
    return directory


def exported(folder: Path, task: Task, modules: str = ALL) -> Exported:
    """Return the two bundles of a task; build them if the folder has none."""
    made = Exported(task, folder / "beside", folder / "merged")
    if (made.merged / "SHA256SUMS").is_file():
        return made
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    rows = texts()
    labels: list[Any] = [0] * len(rows)
    if task.encoder.of_words:
        rows = [words.joined(text.split()) for text in rows]
        labels = [[0] * len(words.of(text)) for text in rows]
    split = Split("dev", "eval.jsonl", "0" * 64, rows, None, labels)
    source = adapted(folder, task, modules)
    plain = checkpoint.load(source).merge_and_unload()
    checkpoint.save(plain, checkpoint.load_tokenizer(source), folder / "folded")
    folded = planned.int8(folder / "folded", folder / "folded-int8")
    for directory, bundle in ((source, made.beside), (folded, made.merged)):
        bundle.mkdir()
        build(directory, bundle, task=task, split=split, form="deploy")
    return made


def ratios(made: Exported) -> list[dict[str, Any]]:
    """Return the time of a bundle with its adapter over that of the merged one, by length."""
    models = {"beside": BundleModel(made.beside, threads=1), "merged": BundleModel(made.merged)}
    rows = []
    encoded = models["merged"].encode(texts())
    timed = {"rows": encoded}
    for length in LENGTHS:
        timed[str(length)] = [
            {name: np.resize(ids[:1], (1, length)) for name, ids in feed.items()}
            for feed in encoded
        ]
    for what, feeds in timed.items():
        seconds = time_blocks(models, feeds)
        pairs = zip(seconds["beside"], seconds["merged"], strict=True)
        ratio, low, high = median_with_interval([ours / theirs for ours, theirs in pairs])
        row = {"what": what, "value": ratio, "low": low, "high": high}
        for name, spent in seconds.items():
            row[f"ms_{name}"] = 1000 * statistics.median(spent) / BLOCK
        rows.append(row)
    return rows


def time_blocks(models: dict[str, BundleModel], rows: list[Feed]) -> dict[str, list[float]]:
    """Return the CPU seconds of each block, by model; in random order."""
    random = np.random.default_rng(SEED)
    names = list(models)
    seconds: dict[str, list[float]] = {name: [] for name in names}
    for round_number in range(WARM + ROUNDS):
        block = [rows[at] for at in random.integers(0, len(rows), BLOCK)]
        for place in random.permutation(len(names)):
            model = models[names[place]]
            began = time.thread_time()
            for feed in block:
                model.run(feed)
            spent = time.thread_time() - began
            if round_number >= WARM:
                seconds[names[place]].append(spent)
    return seconds


def peak(*paths: Path) -> int:
    """Return the peak memory in bytes of a process that answers these tasks."""
    command = [sys.executable, "-c", LOADED, *map(str, paths)]
    return int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def main() -> int:
    """Export, measure and record."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--home", type=Path, required=True)
    options = parser.parse_args()
    made = {name: exported(options.home / name, task) for name, task in subjects().items()}
    bundles = [each.merged for each in made.values()]
    base, *others = [each.beside for each in made.values()]
    files = [other / FILE for other in others]
    shared = memory.size(base) + sum(path.stat().st_size for path in files)
    apart = sum(map(memory.size, bundles))
    recorded: list[dict[str, Any]] = [
        {
            "what": "bytes",
            "base_and_adapters": shared,
            "bundles": apart,
            "graph": (base / "model.onnx").stat().st_size,
            "adapters": [(each.beside / FILE).stat().st_size for each in made.values()],
        },
        {"what": "memory", "base_and_adapters": peak(base, *files), "bundles": peak(*bundles)},
    ]
    for row in recorded:
        print(json.dumps(row), flush=True)
    has_vnni = bool({"avx512_vnni", "avx_vnni"} & set(machine.fingerprint()["flags"]))
    most = MOST_TIME[has_vnni]
    instructions = "with" if has_vnni else "without"
    timed = [(name, ALL, each) for name, each in made.items()]
    few = exported(options.home / ATTENTION, made["reviews"].task, ATTENTION)
    timed.append(("reviews", ATTENTION, few))
    said: dict[str, list[str]] = {ALL: [], ATTENTION: []}
    holds: dict[str, list[bool | None]] = {ALL: [], ATTENTION: []}
    for name, modules, each in timed:
        for row in ratios(each):
            recorded.append({"task": name, "modules": modules, **row})
            print(json.dumps(recorded[-1]), flush=True)
            if row["what"] == "rows":
                interval = Interval(row["value"], row["low"], row["high"])
                holds[modules].append(is_at_most(interval, most))
                bounds = f"[{interval.low:.2f}, {interval.high:.2f}]"
                said[modules].append(f"{name}: {interval.value:.2f} {bounds}")
    claims = [
        Claim(
            "bytes of one base and three adapters, over those of three bundles",
            f"at most {MOST_BYTES:.0%}",
            f"{shared / apart:.1%}: {shared / 1e6:.1f} of {apart / 1e6:.1f} MB",
            shared <= MOST_BYTES * apart,
        ),
    ]
    for modules, layers in ((ALL, "all layers"), (ATTENTION, "attention's layers")):
        claim = Claim(
            f"CPU time with an adapter of rank {RANK} on {layers}, over that of the merged bundle, "
            f"on real rows, {instructions} VNNI",
            f"at most {most}",
            "; ".join(said[modules]),
            worst(holds[modules]),
        )
        claims.append(claim)
    return finish("adapter_bundles", recorded, claims, SEED)


if __name__ == "__main__":
    sys.exit(main())
