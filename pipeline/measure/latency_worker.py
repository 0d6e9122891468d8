"""Run one process of a latency measurement: load all bundles, warm up, time them side by side.

Started by ``pipeline.measure.latency`` as ``python -m``; see ``pipeline.measure.fresh``.
"""

from __future__ import annotations

import gc
import os
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline.measure import fresh, machine
from pipeline.model.runtime import BundleModel

Feed = dict[str, NDArray[np.int64]]
AGAIN = "(again)"  # no stage can have this id
LEAST, MOST = 40, 200
"""Rounds per process: fewer are too few; more add little, since processes differ more."""
FIXED = 20
"""Calls per fixed length and process."""
BLOCK, STEADY, WARM = 20, 0.05, 0.5


class Timed(NamedTuple):
    """One named model; ``on_device``: also take its time without copies to the device."""

    name: str
    model: BundleModel
    on_device: bool


@dataclass
class Calls:
    """The rounds of a process: the row of each, and the ms by model."""

    names: list[str]
    rows: list[int] = field(default_factory=list)
    tokens: list[int] = field(default_factory=list)
    ms: dict[str, list[list[float]]] = field(default_factory=dict)

    def by_model(self, key: str) -> dict[str, list[float]]:
        columns = zip(*self.ms.get(key, []), strict=True)
        return dict(zip(self.names, map(list, columns), strict=False))


def run(request: dict[str, Any]) -> dict[str, Any]:
    """Time the bundles.

    Of the answer, ``wall``, ``cpu``, ``tokenizer`` and ``device`` hold ms by model, one per round.
    """
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, request["cores"])
    generator = np.random.default_rng(request["seed"])
    texts, pairs, seconds = request["texts"], request["pairs"], request["seconds"]
    models = _load(request, generator)
    lengths = [_tokens(feed) for feed in models[0].model.encode(texts, pairs)]
    gc.collect()
    gc.disable()
    before = machine.snapshot()
    steady = _warm_up(models, texts, pairs, lengths, max(seconds, WARM), generator)
    calls = _rounds(models, texts, pairs, seconds, generator)
    busy = machine.busy(before, machine.snapshot(), request["threads"])
    if not steady:
        busy.append("times were not steady when the warm-up ended")
    wall = calls.by_model("wall")
    return {
        "wall": wall,
        "again": wall[AGAIN],
        "cpu": calls.by_model("cpu"),
        "tokenizer": calls.by_model("tokenizer"),
        "device": calls.by_model("device"),
        "rows": calls.rows,
        "tokens": [lengths[row] for row in calls.rows],
        "fixed": _fixed(models, texts, pairs, request["lengths"], generator),
        "busy": busy,
    }


def _load(request: dict[str, Any], generator: np.random.Generator) -> list[Timed]:
    """Load every bundle, and the one that is timed twice under a second name as well.

    A model's speed varies by a few percent with the place of its weights in memory, which depends
    on what was loaded before. A random order turns this bias into noise between processes, which
    the intervals include.
    """
    options = {"provider": request["provider"], "threads": request["threads"]}
    bundles = request["bundles"] | {AGAIN: request["bundles"][request["twice"]]}
    names = list(bundles)
    models = [
        Timed(name, BundleModel(Path(bundles[name]), **options), request["provider"] != "cpu")
        for name in generator.permutation(names).tolist()
    ]
    return sorted(models, key=lambda timed: names.index(timed.name))


def _warm_up(
    models: list[Timed],
    texts: list[str],
    pairs: list[str] | None,
    lengths: list[int],
    seconds: float,
    generator: np.random.Generator,
) -> bool:
    """Run the same rows, short to long, until all models' times are steady.

    Returns False if the time was over first.
    """
    deadline = time.perf_counter() + seconds
    spread = np.linspace(0, len(lengths) - 1, min(BLOCK, len(lengths))).astype(int)
    rows = np.argsort(lengths, kind="stable")[spread]
    last, steady = np.zeros((len(rows), len(models))), 0
    while steady < 2:
        calls = Calls([timed.name for timed in models])
        for row in rows.tolist():
            _round(models, texts, pairs, row, calls, generator)
        now = np.array(calls.ms["wall"])
        steady = steady + 1 if np.all(np.abs(np.median(last / now, axis=0) - 1) <= STEADY) else 0
        last = now
        if time.perf_counter() > deadline:
            return steady >= 2
    return True


def _rounds(
    models: list[Timed],
    texts: list[str],
    pairs: list[str] | None,
    seconds: float,
    generator: np.random.Generator,
) -> Calls:
    """Go over the rows, each time in a new random order, until time or rounds are used up."""
    calls = Calls([timed.name for timed in models])
    order: list[int] = []
    deadline = time.perf_counter() + seconds
    while len(calls.rows) < LEAST or (time.perf_counter() < deadline and len(calls.rows) < MOST):
        order = order or generator.permutation(len(texts)).tolist()
        _round(models, texts, pairs, order.pop(), calls, generator)
    return calls


def _round(
    models: list[Timed],
    texts: list[str],
    pairs: list[str] | None,
    row: int,
    calls: Calls,
    generator: np.random.Generator,
) -> None:
    """Run one row from text to logits on every model, in random order; append the ms."""
    ms: dict[str, list[float]] = {}
    text, pair = [texts[row]], None if pairs is None else [pairs[row]]
    for index in generator.permutation(len(models)).tolist():
        model = models[index].model
        began = time.perf_counter_ns()
        feed = model.encode(text, pair)[0]
        cpu_before = time.process_time_ns()
        before = time.perf_counter_ns()
        model.run(feed)
        after = time.perf_counter_ns()
        clocks = {
            "wall": after - before,
            "cpu": time.process_time_ns() - cpu_before,
            "tokenizer": before - began,
        }
        for key, value in clocks.items():
            ms.setdefault(key, [0.0] * len(models))[index] = value / 1e6
        if models[index].on_device:
            ms.setdefault("device", [0.0] * len(models))[index] = model.device_ms(feed)
    calls.rows.append(row)
    for key, times in ms.items():
        calls.ms.setdefault(key, []).append(times)


def _fixed(
    models: list[Timed],
    texts: list[str],
    pairs: list[str] | None,
    lengths: list[int],
    generator: np.random.Generator,
) -> dict[str, dict[str, list[float]]]:
    """Time inputs of exact lengths, made of the rows' tokens; return length -> model -> ms."""
    by_length: dict[str, dict[str, list[float]]] = {}
    for length in lengths:
        feeds = [_of_length(timed.model.encode(texts, pairs), length) for timed in models]
        times: dict[str, list[float]] = {timed.name: [] for timed in models}
        for timed, feed in zip(models, feeds, strict=True):
            timed.model.run(feed)  # a provider may compile for a new length
        for _ in range(FIXED):
            for index in generator.permutation(len(models)).tolist():
                before = time.perf_counter_ns()
                models[index].model.run(feeds[index])
                times[models[index].name].append((time.perf_counter_ns() - before) / 1e6)
        by_length[str(length)] = {name: calls for name, calls in times.items() if name != AGAIN}
    return by_length


def _of_length(feeds: list[Feed], length: int) -> Feed:
    """Return one input of ``length`` tokens: the rows' tokens joined, special tokens at the ends.

    The joined tokens are repeated or cut to fit.
    """
    line = {
        name: np.concatenate([feed[name][:1, 1:-1] for feed in feeds], axis=1) for name in feeds[0]
    }
    ends = feeds[0]
    return {
        name: np.concatenate(
            [ends[name][:1, :1], np.resize(tokens[0], (1, length - 2)), ends[name][:1, -1:]],
            axis=1,
        )
        for name, tokens in line.items()
    }


def _tokens(feed: Feed) -> int:
    return max(int(array.shape[-1]) for array in feed.values())


if __name__ == "__main__":
    fresh.serve(run)
