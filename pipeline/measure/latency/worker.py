"""Run one process of a latency measurement: load all bundles, warm up, time them in turn.

Models take turns in short blocks of calls, as a server calls its one model again and again. Call by
call, each model would find its weights thrown out of the caches by the others.

Started by ``rarefy.pipeline.measure.latency.session`` as ``python -m``; see
``rarefy.pipeline.measure.fresh_process``.
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

from rarefy.pipeline.measure import engines, fresh_process
from rarefy.pipeline.measure.latency import caches
from rarefy.pipeline.measure.lengths import tokens
from rarefy.pipeline.measure.machine import fingerprint
from rarefy.pipeline.model.runtime.bundle_model import DEVICES, BundleModel

Feed = dict[str, NDArray[np.int64]]
AGAIN = "(again)"  # no stage can have this id
BLOCK = 20
"""Timed calls of one model after another, on rows of their own."""
LEAD = 4
"""Calls before each block that are left out: they bring the model's weights into the caches."""
LEAST, MOST = 2, 10
"""Blocks per process: fewer are too few; more add little, since processes differ more."""
FIXED = 20
"""Calls per fixed length and process."""
COLD = 16
"""Calls per process with emptied caches: in five processes, enough for a p95."""
STEADY, WARM = 0.05, 0.5
FEWEST = 3
"""Blocks of a warm-up, and rows in each: two blocks must each be as fast as the one before."""


class Timed(NamedTuple):
    """One named model; ``on_device``: also take its time without copies to the device."""

    name: str
    model: BundleModel
    on_device: bool


class Rows(NamedTuple):
    """The texts to time, and the second text of each row if rows are pairs."""

    texts: list[str]
    pairs: list[str] | None

    def of(self, row: int) -> tuple[list[str], list[str] | None]:
        return [self.texts[row]], None if self.pairs is None else [self.pairs[row]]


@dataclass
class Calls:
    """The timed calls of a process: the row of each, and clock -> model -> ms."""

    rows: list[int] = field(default_factory=list)
    ms: dict[str, dict[str, list[float]]] = field(default_factory=dict)

    def add(self, model: str, clocks: dict[str, float]) -> None:
        for clock, ms in clocks.items():
            self.ms.setdefault(clock, {}).setdefault(model, []).append(ms)

    def by_model(self, clock: str) -> dict[str, list[float]]:
        return self.ms.get(clock, {})


def run(request: dict[str, Any]) -> dict[str, Any]:
    """Time the bundles.

    Of the answer, ``wall``, ``cpu``, ``tokenizer`` and ``device`` hold ms by model, call i is the
    same row for every model; ``cold`` has such clocks of calls with emptied caches, or is empty.
    """
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, request["cores"])
    random = np.random.default_rng(request["seed"])
    rows, seconds = Rows(request["texts"], request["pairs"]), request["seconds"]
    models = _load(request, random)
    lengths = tokens(models[0].model, *rows)
    sizes = [_size(feed) for feed in models[0].model.encode(*rows)]
    gc.collect()
    gc.disable()
    before = fingerprint.snapshot()
    steady = _warm_up(models, rows, lengths, max(seconds, WARM), random)
    calls = _blocks(models, rows, seconds, random)
    busy = fingerprint.busy(before, fingerprint.snapshot(), request["threads"])
    if not steady:
        busy.append("times were not steady when the warm-up ended")
    once = [timed for timed in models if timed.name != AGAIN]
    wall = calls.by_model("wall")
    return {
        "wall": wall,
        "again": wall[AGAIN],
        "cpu": calls.by_model("cpu"),
        "tokenizer": calls.by_model("tokenizer"),
        "device": calls.by_model("device"),
        "tokens": [lengths[row] for row in calls.rows],
        "sizes": [sizes[row] for row in calls.rows],
        "fixed": _fixed(once, rows, request["lengths"], random),
        "cold": _cold(once, rows, COLD, random) if request["cold"] else {},
        "block": BLOCK,
        "busy": busy,
    }


def _load(request: dict[str, Any], random: np.random.Generator) -> list[Timed]:
    """Load every bundle, and the one that is timed twice under a second name as well.

    A model's speed varies by a few percent with the place of its weights in memory, which depends
    on what was loaded before. A random order turns this bias into noise between processes, which
    the intervals include.
    """
    bundles = {name: Path(path) for name, path in request["bundles"].items()}
    provided, alike = request["provider"], request["alike"]
    providers = dict.fromkeys(bundles, provided) if alike else engines.providers(bundles, provided)
    names = [*bundles, AGAIN]

    def opened(name: str) -> Timed:
        same = request["twice"] if name == AGAIN else name
        provider = providers[same]
        model = BundleModel(bundles[same], provider=provider, threads=request["threads"])
        return Timed(name, model, DEVICES[provider] != "cpu")

    models = [opened(name) for name in random.permutation(names).tolist()]
    return sorted(models, key=lambda timed: names.index(timed.name))


def _warm_up(
    models: list[Timed], rows: Rows, lengths: list[int], seconds: float, random: np.random.Generator
) -> bool:
    """Run blocks of the same rows, short to long, until all models' times are steady.

    Slow models have short blocks, because it takes three to tell. Returns False if the time was
    over first.
    """
    for timed in models:
        _meet_lengths(timed, rows, lengths)
    by_length = np.argsort(lengths, kind="stable")
    began = time.perf_counter()
    for timed in models:
        _call(timed, rows, int(by_length[len(by_length) // 2]))
    turn = time.perf_counter() - began
    deadline = began + seconds
    fitting = int(seconds / FEWEST / max(turn, 1e-9)) - LEAD
    count = min(BLOCK, len(lengths), max(FEWEST, fitting))
    chosen = by_length[np.linspace(0, len(lengths) - 1, count).astype(int)].tolist()
    last, steady, passes = np.zeros((len(models), len(chosen))), 0, 0
    while steady < 2:
        passes += 1
        calls = Calls()
        _block(models, rows, chosen, calls, random)
        wall = calls.by_model("wall")
        now = np.array([wall[timed.name] for timed in models])
        steady = steady + 1 if np.all(np.abs(np.median(last / now, axis=1) - 1) <= STEADY) else 0
        last = now
        if passes >= FEWEST and time.perf_counter() > deadline:
            return steady >= 2
    return True


def _meet_lengths(timed: Timed, rows: Rows, lengths: list[int]) -> None:
    """Call a model once with a row of each length, if its runtime compiles for a new length.

    A server has met them all soon.
    """
    if timed.model.provider != "cpu":
        for row in dict(zip(lengths, range(len(lengths)), strict=True)).values():
            _call(timed, rows, row)


def _blocks(models: list[Timed], rows: Rows, seconds: float, random: np.random.Generator) -> Calls:
    """Go over the rows, each time in a new random order, until time or blocks are used up."""
    calls = Calls()
    order: list[int] = []
    deadline = time.perf_counter() + seconds
    done = 0
    while done < LEAST or (time.perf_counter() < deadline and done < MOST):
        while len(order) < BLOCK:
            order += random.permutation(len(rows.texts)).tolist()
        _block(models, rows, order[:BLOCK], calls, random)
        del order[:BLOCK]
        done += 1
    return calls


def _block(
    models: list[Timed], rows: Rows, chosen: list[int], calls: Calls, random: np.random.Generator
) -> None:
    """Time the same rows on every model, one model after the other in random order."""
    for index in random.permutation(len(models)).tolist():
        timed = models[index]
        for row in (chosen * LEAD)[-LEAD:]:
            _call(timed, rows, row)
        for row in chosen:
            calls.add(timed.name, _call(timed, rows, row))
    calls.rows += chosen


def _cold(
    models: list[Timed], rows: Rows, calls: int, random: np.random.Generator
) -> dict[str, dict[str, list[float]]]:
    """Time calls of every model that each find emptied caches; return clock -> model -> ms."""
    memory, found = caches.memory(), Calls()
    for row in random.integers(0, len(rows.texts), calls).tolist():
        for index in random.permutation(len(models)).tolist():
            caches.empty(memory)
            found.add(models[index].name, _call(models[index], rows, row))
    return found.ms


def _call(timed: Timed, rows: Rows, row: int) -> dict[str, float]:
    """Run one row from text to logits on a model; return clock -> ms."""
    text, pair = rows.of(row)
    began = time.perf_counter_ns()
    feed = timed.model.encode(text, pair)[0]
    cpu_before = time.process_time_ns()
    before = time.perf_counter_ns()
    timed.model.run(feed)
    after = time.perf_counter_ns()
    clocks = {
        "wall": (after - before) / 1e6,
        "cpu": (time.process_time_ns() - cpu_before) / 1e6,
        "tokenizer": (before - began) / 1e6,
    }
    if timed.on_device:
        clocks["device"] = timed.model.device_ms(feed)
    return clocks


def _fixed(
    models: list[Timed], rows: Rows, lengths: list[int], random: np.random.Generator
) -> dict[str, dict[str, list[float]]]:
    """Time inputs of exact lengths, made of the rows' tokens; return length -> model -> ms."""
    by_length: dict[str, dict[str, list[float]]] = {}
    for length in lengths:
        feeds = [_of_length(timed.model.encode(*rows), length) for timed in models]
        times: dict[str, list[float]] = {timed.name: [] for timed in models}
        for index in random.permutation(len(models)).tolist():
            for _ in range(LEAD):  # a provider may also compile for a new length
                models[index].model.run(feeds[index])
            for _ in range(FIXED):
                before = time.perf_counter_ns()
                models[index].model.run(feeds[index])
                times[models[index].name].append((time.perf_counter_ns() - before) / 1e6)
        by_length[str(length)] = times
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


def _size(feed: Feed) -> int:
    """Return how many tokens a call computes: those of all windows of a text."""
    return max(int(array.size) for array in feed.values())


if __name__ == "__main__":
    fresh_process.serve(run)
