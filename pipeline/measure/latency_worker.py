"""One process of a latency measurement: load every bundle, warm up, time them side by side.

Started by ``pipeline.measure.latency`` as ``python -m``; see ``pipeline.measure.fresh``.
"""

from __future__ import annotations

import gc
import os
import time
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline.measure import fresh, machine
from pipeline.runtime import BundleModel

Feed = dict[str, NDArray[np.int64]]
AGAIN = "(again)"  # no stage can have this id
LEAST, MOST = 40, 1000
"""Rounds of a process: fewer carry nothing, more buy little."""
WARM_SHARE, BLOCK, STEADY = 0.25, 10, 0.05


class Timed(NamedTuple):
    """One model with its rows tokenized beforehand."""

    name: str
    model: BundleModel
    feeds: list[Feed]


def run(request: dict[str, Any]) -> dict[str, Any]:
    """Time the bundles. Times in ms: ``wall`` and ``cpu`` by model, one entry a round."""
    started = time.perf_counter()
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, request["cores"])
    generator = np.random.default_rng(request["seed"])
    texts, pairs = request["texts"], request["pairs"]
    options = {"provider": request["provider"], "threads": request["threads"]}
    bundles = request["bundles"] | {AGAIN: request["bundles"][request["twice"]]}
    # Where a model's weights come to lie in memory is worth some percent of its speed, and
    # depends on what was loaded before: in random order this is noise between processes, which
    # the intervals hold, and no bias.
    names = list(bundles)
    models = []
    for name in generator.permutation(names).tolist():
        model = BundleModel(Path(bundles[name]), **options)
        models.append(Timed(name, model, model.encode(texts, pairs)))
    models.sort(key=lambda timed: names.index(timed.name))
    lengths = [max(array.shape[-1] for array in feed.values()) for feed in models[0].feeds]
    gc.collect()
    gc.disable()
    before = machine.snapshot()
    steady = _warm_up(models, lengths, started + WARM_SHARE * request["seconds"], generator)
    rows, wall, cpu = _rounds(models, started + request["seconds"], generator)
    busy = machine.busy(before, machine.snapshot(), request["threads"])
    if not steady:
        busy.append("the running median was not steady when the warm-up's time was over")
    again = wall.pop(AGAIN)
    cpu.pop(AGAIN)
    return {
        "wall": wall,
        "cpu": cpu,
        "again": again,
        "tokens": [lengths[row] for row in rows],
        "tokenizer": {timed.name: _tokenizer(timed.model, texts, pairs) for timed in models[:-1]},
        "busy": busy,
    }


def _warm_up(
    models: list[Timed], lengths: list[int], deadline: float, generator: np.random.Generator
) -> bool:
    """Run the same rows, short to longest, until each model's median stays; say if it did."""
    spread = np.linspace(0, len(lengths) - 1, min(BLOCK, len(lengths))).astype(int)
    rows = np.argsort(lengths, kind="stable")[spread]
    last, steady = np.zeros(len(models)), 0
    while steady < 2:
        times = np.array(
            [_round(models, int(row), generator)[0] for row in generator.permutation(rows)]
        )
        median = np.median(times, axis=0)
        steady = steady + 1 if np.all(np.abs(median - last) <= STEADY * median) else 0
        last = median
        if time.perf_counter() > deadline:
            return steady >= 2
    return True


def _rounds(
    models: list[Timed], deadline: float, generator: np.random.Generator
) -> tuple[list[int], dict[str, list[float]], dict[str, list[float]]]:
    """Pass over all rows in a new random order each time, until the time or the rounds are over."""
    rows: list[int] = []
    wall: list[list[float]] = []
    cpu: list[list[float]] = []
    order: list[int] = []
    while len(rows) < LEAST or (time.perf_counter() < deadline and len(rows) < MOST):
        order = order or generator.permutation(len(models[0].feeds)).tolist()
        row = order.pop()
        walls, cpus = _round(models, row, generator)
        rows.append(row)
        wall.append(walls)
        cpu.append(cpus)
    names = [timed.name for timed in models]
    by_model = [
        dict(zip(names, map(list, zip(*times, strict=True)), strict=True)) for times in (wall, cpu)
    ]
    return rows, by_model[0], by_model[1]


def _round(
    models: list[Timed], row: int, generator: np.random.Generator
) -> tuple[list[float], list[float]]:
    """Time one row on every model, in random order. Returns wall and CPU ms, by model."""
    wall, cpu = [0.0] * len(models), [0.0] * len(models)
    for index in generator.permutation(len(models)).tolist():
        timed = models[index]
        feed, answer = timed.feeds[row], timed.model.run
        cpu_before = time.process_time_ns()
        before = time.perf_counter_ns()
        answer(feed)
        after = time.perf_counter_ns()
        wall[index], cpu[index] = (
            (after - before) / 1e6,
            (time.process_time_ns() - cpu_before) / 1e6,
        )
    return wall, cpu


def _tokenizer(model: BundleModel, texts: list[str], pairs: list[str] | None) -> list[float]:
    """Return the ms that each row takes to become a feed."""
    times = []
    for row, text in enumerate(texts):
        before = time.perf_counter_ns()
        model.encode([text], None if pairs is None else [pairs[row]])
        times.append((time.perf_counter_ns() - before) / 1e6)
    return times


if __name__ == "__main__":
    fresh.serve(run)
