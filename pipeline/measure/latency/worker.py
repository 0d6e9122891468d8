"""Run one process of a latency measurement: load all bundles, warm up, time them in turn.

Models take turns in short blocks of calls, as a server calls its one model again and again. Call by
call, each model would find its weights thrown out of the caches by the others.

Started by ``rarefy.pipeline.measure.latency.session`` as ``python -m``; see
``rarefy.pipeline.measure.fresh_process``.
"""

from __future__ import annotations

import gc
import math
import os
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from rarefy.pipeline.measure import engines, fresh_process, machine
from rarefy.pipeline.measure.latency.timer import TIMER, Timer
from rarefy.pipeline.measure.row_lengths import select_rows, token_lengths
from rarefy.pipeline.model.runtime.bundle_model import BundleModel
from rarefy.pipeline.model.runtime.providers import is_on_cpu

Feed = dict[str, NDArray[np.int64]]
AGAIN = "(again)"  # no stage can have this id
BLOCK = 20
"""Timed calls of one model after another, on rows of their own."""
LEAD = 4
"""Calls before each block that are left out: they bring the model's weights into the caches."""
EXTRA = 1.0
"""Seconds that a process may take beyond its share for the calls that a percentile lacks."""
LEAST, MOST = 2, 10
"""Blocks per process: fewer are too few; more add little, since processes differ more."""
FIXED = 20
"""Calls per fixed length and process."""
COLD = 16
"""Calls per process with emptied caches: in five processes, enough for a p95."""
STEADY = 0.05
PATIENCE = 3
"""A warm-up takes so many times as long until models are steady."""
FEWEST = 3
"""Blocks of a warm-up, and rows in each: two blocks must each be as fast as the one before."""
CACHE_LINE = 64
"""Bytes that a cache holds together."""


class Timed(NamedTuple):
    """One named model; ``on_device``: also take its time without copies to the device."""

    name: str
    model: BundleModel
    on_device: bool


class Rows(NamedTuple):
    """The texts to time, and the second text of each row if rows are pairs."""

    texts: list[str]
    pairs: list[str] | None

    def request(self, row: int) -> tuple[list[str], list[str] | None]:
        """Return one row as a bundle reads it: its texts, and its second texts."""
        return select_rows(self.texts, self.pairs, [row])


@dataclass
class Calls:
    """The timed calls of a process: the row of each, and clock -> model -> ms."""

    rows: list[int] = field(default_factory=list)
    ms: dict[str, dict[str, list[float]]] = field(default_factory=dict)

    def add(self, model: str, clocks: dict[str, float]) -> None:
        """Add one call of a model: clock -> ms."""
        for clock, ms in clocks.items():
            by_model = self.ms.setdefault(clock, {})
            by_model.setdefault(model, []).append(ms)

    def by_model(self, clock: str) -> dict[str, list[float]]:
        """Return model -> ms of all its calls; empty if nothing was timed by that clock."""
        return self.ms.get(clock, {})


@dataclass(frozen=True)
class Session:
    """The models of one process, the rows that they are called with, and the clock.

    ``lengths``: the tokens of each row. ``random`` draws rows, and the order of the models.
    """

    models: list[Timed]
    rows: Rows
    lengths: list[int]
    random: np.random.Generator
    timer: Timer = TIMER

    def warm_up(self, seconds: float) -> bool:
        """Run blocks of the same rows, short to long, until all models' times are steady.

        Slow models have short blocks, because it takes three to tell. Returns False if they are not
        steady after ``PATIENCE`` times ``seconds``.
        """
        for timed in self.models:
            self._meet_lengths(timed)
        by_length = np.argsort(self.lengths, kind="stable")
        middle = int(by_length[len(by_length) // 2])
        began = self.timer.seconds()
        for timed in self.models:
            self.time_call(timed, middle)
        turn = self.timer.seconds() - began
        patience = PATIENCE * seconds
        deadline = began + patience
        fitting = int(seconds / FEWEST / max(turn, 1e-9)) - LEAD
        count = min(BLOCK, len(self.lengths), max(FEWEST, fitting))
        places = np.linspace(0, len(self.lengths) - 1, count)
        block = by_length[places.astype(int)].tolist()
        last = np.zeros((len(self.models), len(block)))
        steady, passes = 0, 0
        while steady < 2:
            passes += 1
            calls = Calls()
            self.time_block(block, calls)
            wall = calls.by_model("wall")
            times = np.array([wall[timed.name] for timed in self.models])
            changes = np.median(last / times, axis=1) - 1
            if np.all(np.abs(changes) <= STEADY):
                steady += 1
            else:
                steady = 0
            last = times
            if passes >= FEWEST and self.timer.seconds() > deadline:
                return steady >= 2
        return True

    def _meet_lengths(self, timed: Timed) -> None:
        """Call a model once with a row of each length, if its runtime compiles for a new length.

        A server has met them all soon.
        """
        if timed.model.provider == "cpu":
            return
        row_of_length = {length: row for row, length in enumerate(self.lengths)}
        for row in row_of_length.values():
            self.time_call(timed, row)

    def time_blocks(self, seconds: float, aim: int = 0) -> Calls:
        """Go over the rows, each time in a new random order, until time or blocks are used up.

        It goes on to ``aim`` calls of each model if they are at most ``EXTRA`` seconds away. How
        many there are depends on how long calls take, never on how models compare.
        """
        calls = Calls()
        order: list[int] = []
        began = self.timer.seconds()
        blocks = 0
        while blocks < MOST:
            spent = self.timer.seconds() - began
            if blocks >= LEAST and spent >= seconds:
                missing = math.ceil(aim / BLOCK) - blocks
                expected = spent + missing * spent / blocks
                if missing <= 0 or expected > seconds + EXTRA:
                    break
            while len(order) < BLOCK:
                order += self.random.permutation(len(self.rows.texts)).tolist()
            self.time_block(order[:BLOCK], calls)
            del order[:BLOCK]
            blocks += 1
        return calls

    def time_block(self, rows: list[int], calls: Calls) -> None:
        """Time the same rows on every model, one model after the other in random order."""
        for timed in self._in_random_order():
            for row in (rows * LEAD)[-LEAD:]:
                self.time_call(timed, row)
            for row in rows:
                calls.add(timed.name, self.time_call(timed, row))
        calls.rows += rows

    def time_cold(self, count: int, empty_caches: Callable[[], None]) -> Calls:
        """Time ``count`` calls of every model, each right after ``empty_caches``."""
        calls = Calls()
        for row in self.random.integers(0, len(self.rows.texts), count).tolist():
            calls.rows.append(row)
            for timed in self._in_random_order():
                empty_caches()
                calls.add(timed.name, self.time_call(timed, row))
        return calls

    def time_call(self, timed: Timed, row: int) -> dict[str, float]:
        """Run one row from text to logits on a model; return clock -> ms."""
        text, pair = self.rows.request(row)
        began = self.timer.wall()
        feed = timed.model.encode(text, pair)[0]
        cpu_before = self.timer.cpu()
        before = self.timer.wall()
        timed.model.run(feed)
        after = self.timer.wall()
        clocks = {
            "wall": (after - before) / 1e6,
            "cpu": (self.timer.cpu() - cpu_before) / 1e6,
            "tokenizer": (before - began) / 1e6,
        }
        if timed.on_device:
            clocks["device"] = timed.model.device_ms(feed)
        return clocks

    def time_lengths(self, lengths: list[int]) -> dict[str, dict[str, list[float]]]:
        """Time inputs of exact lengths, made of the rows' tokens; return length -> model -> ms."""
        by_length: dict[str, dict[str, list[float]]] = {}
        for length in lengths:
            feeds = {}
            for timed in self.models:
                encoded = timed.model.encode(*self.rows)
                feeds[timed.name] = feed_of_length(encoded, length)
            times: dict[str, list[float]] = {timed.name: [] for timed in self.models}
            for timed in self._in_random_order():
                call = partial(timed.model.run, feeds[timed.name])
                # A provider may also compile for a new length.
                times[timed.name] = self.timer.time_calls(call, FIXED, LEAD)
            by_length[str(length)] = times
        return by_length

    def _in_random_order(self) -> list[Timed]:
        order = self.random.permutation(len(self.models)).tolist()
        return [self.models[place] for place in order]


def run(request: dict[str, Any]) -> dict[str, Any]:
    """Time the bundles.

    Of the answer, ``wall``, ``cpu``, ``tokenizer`` and ``device`` hold ms by model, call i is the
    same row for every model; ``cold`` has such clocks of calls with emptied caches, or is empty.
    """
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, request["cores"])
    random = np.random.default_rng(request["seed"])
    rows = Rows(request["texts"], request["pairs"])
    models = load(request, random)
    first = models[0].model
    lengths = token_lengths(first, *rows)
    sizes = [_size(feed) for feed in first.encode(*rows)]
    session = Session(models, rows, lengths, random)
    gc.collect()
    gc.disable()
    before = machine.snapshot()
    steady = session.warm_up(request["warming"])
    timing = request["timing"]
    aim = request["calls"]
    calls = session.time_blocks(timing, aim)
    busy = machine.busy(before, machine.snapshot(), request["threads"])
    disturbed = bool(busy)
    if not steady:
        busy.append("times were not steady when the warm-up ended")
    distinct = [timed for timed in models if timed.name != AGAIN]
    once = replace(session, models=distinct)
    fixed = once.time_lengths(request["lengths"])
    cold = Calls()
    if request["cold"]:
        empty = partial(empty_caches, larger_memory(request["cold"]))
        cold = once.time_cold(COLD, empty)
    wall = calls.by_model("wall")
    cold_ms = cold.ms
    cold_rows = cold.rows
    tokens = [lengths[row] for row in calls.rows]
    computed = [sizes[row] for row in calls.rows]
    return {
        "wall": wall,
        "again": wall[AGAIN],
        "cpu": calls.by_model("cpu"),
        "tokenizer": calls.by_model("tokenizer"),
        "device": calls.by_model("device"),
        "tokens": tokens,
        "sizes": computed,
        "fixed": fixed,
        "cold": cold_ms,
        "rows": calls.rows,
        "cold_rows": cold_rows,
        "block": BLOCK,
        "busy": busy,
        "disturbed": disturbed,
    }


def load(request: dict[str, Any], random: np.random.Generator) -> list[Timed]:
    """Load every bundle, and the one that is timed twice under a second name as well.

    A model's speed varies by a few percent with the place of its weights in memory, which depends
    on what was loaded before. A random order turns this bias into noise between processes, which
    the intervals include.
    """
    bundles = {name: Path(path) for name, path in request["bundles"].items()}
    if request["alike"]:
        providers = dict.fromkeys(bundles, request["provider"])
    else:
        providers = engines.providers(bundles, request["provider"])
    names = [*bundles, AGAIN]
    models: dict[str, Timed] = {}
    for name in random.permutation(names).tolist():
        bundle = request["twice"] if name == AGAIN else name
        provider = providers[bundle]
        model = BundleModel(bundles[bundle], provider=provider, threads=request["threads"])
        models[name] = Timed(name, model, not is_on_cpu(provider))
    return [models[name] for name in names]


def feed_of_length(feeds: list[Feed], length: int) -> Feed:
    """Return one input of ``length`` tokens: the rows' tokens joined, special tokens at the ends.

    The joined tokens are repeated or cut to fit.

    Args:
        feeds: Each row's inputs, each ``(1, tokens)`` or with a row per window.
        length: Of the result, in tokens.

    Returns:
        Inputs of shape ``(1, length)``.
    """
    feed = {}
    for name, ends in feeds[0].items():
        inner = [row[name][:1, 1:-1] for row in feeds]
        tokens = np.concatenate(inner, axis=1)[0]
        fitted = np.resize(tokens, (1, length - 2))
        first, last = ends[:1, :1], ends[:1, -1:]
        feed[name] = np.concatenate([first, fitted, last], axis=1)
    return feed


def _size(feed: Feed) -> int:
    """Return how many tokens a call computes: those of all windows of a text."""
    return max(int(array.size) for array in feed.values())


def larger_memory(size: int) -> NDArray[np.int64]:
    """Return ``size`` bytes, more than the caches hold: writing them throws out everything else."""
    return np.zeros(size // 8, dtype=np.int64)


def empty_caches(larger: NDArray[np.int64]) -> None:
    """Write to each line of the larger memory, as other programs do; takes some 20 ms."""
    larger[:: CACHE_LINE // 8] += 1


if __name__ == "__main__":
    fresh_process.serve(run)
