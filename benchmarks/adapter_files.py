"""One base and a file for each of three tasks, against three bundles: bytes, memory, time, scores.

The recipes of ``examples/adapters`` are run on some of their rows: neither bytes nor times depend
on how well a task is learned. Both forms are exported of the same adapter, the bundles with it
merged, so they have the same vocabulary and precision. Calls take turns, in one thread, and seconds
are CPU seconds of that thread.
"""

from __future__ import annotations

import json
import os
import shutil
import statistics
import time
from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from benchmarks.bundle import ROOT
from benchmarks.record import here
from benchmarks.students import run
from rarefy.pipeline.model.runtime import adapter_file
from rarefy.pipeline.model.runtime.bundle_model import BundleModel
from rarefy.pipeline.terms.interval import Interval

EXAMPLES = ROOT / "examples" / "adapters"
TASKS = ("reviews", "concepts", "parts-of-speech")
ROWS = {"train": 600, "eval": 300}
BLOCK, ROUNDS, WARM = 10, 60, 5
"""Calls of a block, blocks of each form, and those that are left out."""
DRAWS = 2000


def recipe(home: Path, task: str) -> dict[str, Any]:
    """Return the example's recipe on some of its rows, which exports both forms."""
    path = EXAMPLES / f"{task}.yaml"
    values: dict[str, Any] = yaml.safe_load(path.read_text())
    folder = home / "rows" / task
    folder.mkdir(parents=True, exist_ok=True)
    for split, count in ROWS.items():
        lines = (path.parent / values["data"][split]).read_text().splitlines(keepends=True)
        values["data"][split] = str(folder / f"{split}.jsonl")
        (folder / f"{split}.jsonl").write_text("".join(lines[:count]))
    stages = values["stages"][: values["stages"].index("export")]
    forms = [
        {"export": None, "as": "separate"},
        {"merge": None, "from": "quantize"},
        {"export": None, "as": "merged"},
    ]
    return values | {"stages": [*stages, *forms], "budgets": []}


def measured(home: Path) -> list[dict[str, Any]]:
    """Make both forms of each task; return a row for each, and one of all together."""
    bundles: dict[str, dict[str, Path]] = {"separate": {}, "merged": {}}
    rows = []
    for task in TASKS:
        output = run(home, recipe(home, task))
        ledger = {row["id"]: row for row in output["ledger"]}
        scores = {form: ledger[form]["accuracy"][0] for form in ("finetune", *bundles)}
        for form, of_tasks in bundles.items():
            digest = ledger[form]["digest"]
            of_tasks[task] = home / "home" / "store" / "artifacts" / "sha256" / digest
        rows.append({"task": task, "scores": scores})
    base = shared(home, bundles["separate"])
    for row in rows:
        slower = ratio(base, bundles, row["task"])
        row["bytes"] = (bundles["separate"][row["task"]] / adapter_file.FILE).stat().st_size
        row["time"] = list(slower)
    together = {
        "task": "all",
        "bytes": [size(base), sum(map(size, bundles["merged"].values()))],
        "memory": [resident(base), resident(*bundles["merged"].values())],
    }
    return [row | here() for row in (*rows, together)]


def shared(home: Path, separate: Mapping[str, Path]) -> Path:
    """Return a folder with one base, and the adapter's file of every task beside it."""
    folder = home / "base"
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(separate[TASKS[0]], folder)
    (folder / adapter_file.FILE).unlink()
    for task, bundle in separate.items():
        shutil.copyfile(bundle / adapter_file.FILE, folder / f"{task}.onnx_adapter")
    first = folder / f"{TASKS[0]}.onnx_adapter"
    first.rename(folder / adapter_file.FILE)  # a bundle is one task's
    return folder


def opened(base: Path, task: str) -> BundleModel:
    """Return the model of a task on the shared base."""
    model = BundleModel(base, threads=1)
    if task == TASKS[0]:
        return model
    return model.with_adapter(base / f"{task}.onnx_adapter")


def ratio(base: Path, bundles: Mapping[str, Mapping[str, Path]], task: str) -> Interval:
    """Return how many times as long a task's calls take on the base as on its own bundle."""
    models = [opened(base, task), BundleModel(bundles["merged"][task], threads=1)]
    texts = [line["text"] for line in _lines(base.parent, task)]
    feeds = [model.encode(texts[:BLOCK]) for model in models]
    seconds: list[list[float]] = [[], []]
    for number in range(WARM + ROUNDS):
        for form in (0, 1) if number % 2 else (1, 0):
            started = time.thread_time()
            for feed in feeds[form]:
                models[form].run(feed)
            if number >= WARM:
                seconds[form].append(time.thread_time() - started)
    quotients = np.array(seconds[0]) / np.array(seconds[1])
    generator = np.random.default_rng(0)
    drawn = np.median(generator.choice(quotients, (DRAWS, len(quotients))), axis=1)
    low, high = np.quantile(drawn, [0.025, 0.975])
    return Interval(statistics.median(quotients), float(low), float(high))


def _lines(home: Path, task: str) -> list[dict[str, Any]]:

    rows = (home / "rows" / task / "eval.jsonl").read_text().splitlines()
    values = [json.loads(row) for row in rows]
    return [{"text": row.get("text") or " ".join(row["tokens"])} for row in values]


def size(folder: Path) -> int:
    """Return the bytes of a folder's files."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def resident(*folders: Path) -> int:
    """Return the bytes that a fresh process needs for the bundles in folders, or for a base."""
    with ProcessPoolExecutor(1, get_context("spawn")) as pool:
        return pool.submit(_resident, folders).result()


def _resident(folders: tuple[Path, ...]) -> int:
    before = _rss()
    if len(folders) > 1:
        models = [BundleModel(folder, threads=1) for folder in folders]
    else:
        models = [opened(folders[0], TASKS[0])]
        for task in TASKS[1:]:
            models.append(models[0].with_adapter(folders[0] / f"{task}.onnx_adapter"))
    for model in models:
        for feed in model.encode(["a text of some words"]):
            model.run(feed)
    return _rss() - before


def _rss() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")
