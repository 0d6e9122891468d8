"""Run one worker of a round: beside all others, answer the same rows in batches, model by model.

Started by ``rarefy.pipeline.measure.throughput.session`` as ``python -m``; see
``rarefy.pipeline.measure.fresh_process``.
"""

from __future__ import annotations

import gc
import itertools
import math
import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from rarefy.pipeline.measure import engines, fresh_process, machine
from rarefy.pipeline.measure.latency.timer import TIMER, Timer
from rarefy.pipeline.measure.row_lengths import character_lengths, select_rows, token_lengths
from rarefy.pipeline.model.batches import batches_by_length, order_by_length, split_rows
from rarefy.pipeline.model.runtime.bundle_model import BundleModel

STRETCH = 16
"""Rows of a block, next to each other in the order of their lengths: a batch of the largest size,
or several smaller ones. So padding is as in a large job, and every size answers the same rows. Few,
since a process must answer many blocks, or it differs from the next by the lengths that it drew."""
TOKENS = 32 * 512
"""Of a call, at most: the memory of attention grows with the rows and with their length."""
LEAST, MOST = 2, 160
"""Blocks of each case in a process."""
WARM = 0.2
"""Seconds for which each case answers long rows before anything is timed."""
GOLDEN = (5**0.5 - 1) / 2
"""Steps of this share of a whole cover it evenly wherever they stop (Weyl 1916)."""
POLL = 0.0005


class Case(NamedTuple):
    """A model and the number of rows that share a call."""

    model: str
    batch: int


class Meeting:
    """Where the workers of a round wait for each other: a count for each, in a file they share.

    A last number says that the first worker wants to stop.
    """

    def __init__(self, path: Path, number: int, workers: int) -> None:
        numbers = workers + 1
        self._counts = np.memmap(path, np.int64, "r+", shape=(numbers,))
        self._number = number

    def arrive(self) -> None:
        """Say that this worker has come to the next point."""
        self._counts[self._number] += 1

    def all_here(self) -> bool:
        """Return whether all others have come to this point too."""
        last = self._counts[:-1].min()
        return bool(last >= self._counts[self._number])

    def wait(self) -> None:
        """Come to the next point, and wait for the others."""
        self.arrive()
        while not self.all_here():
            time.sleep(POLL)

    def agree(self, stop: bool) -> bool:
        """Return, at the same point in all workers, whether the first one wants to stop."""
        if self._number == 0 and stop:
            self._counts[-1] = 1
        self.wait()
        return bool(self._counts[-1])


@dataclass
class Round:
    """The cases of a round, the rows by their lengths, and what was timed.

    ``order``: the rows from the shortest to the longest. ``lengths``: each row's tokens.
    ``seconds`` and ``cpu`` of each case have an entry for each block, and so has ``tokens``.
    """

    models: dict[str, BundleModel]
    cases: list[Case]
    texts: list[str]
    pairs: list[str] | None
    lengths: list[int]
    random: np.random.Generator
    meeting: Meeting
    timer: Timer = TIMER
    seconds: list[list[float]] = field(default_factory=list)
    cpu: list[list[float]] = field(default_factory=list)
    tokens: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.order = order_by_length(self.lengths)
        self.stretch = stretch_of([case.batch for case in self.cases])
        self.seconds = [[] for _ in self.cases]
        self.cpu = [[] for _ in self.cases]

    def time_blocks(self, seconds: float) -> None:
        """Time blocks of all cases in turn, in random order, until the first worker's time is over.

        Every worker draws the same blocks in the same order.
        """
        longest = self.order[-self.stretch :]
        for case in self.cases:
            self._warm_up(case, longest)
        began = self.timer.seconds()
        for stretch in self._stretches():
            for number in self._in_random_order():
                self._time(number, stretch)
            tokens = [self.lengths[row] for row in stretch]
            self.tokens.append(sum(tokens))
            done = len(self.tokens)
            spent = self.timer.seconds() - began
            over = spent >= seconds and done >= LEAST
            if self.meeting.agree(over or done == MOST):
                return

    def _stretches(self) -> Iterator[Sequence[int]]:
        """Yield stretches of rows from everywhere in the order of lengths, without end."""
        rows = len(self.order)
        count = math.ceil(rows / self.stretch)
        starts = np.linspace(0, rows - self.stretch, count).astype(int)
        first = self.random.random()
        for step in itertools.count():
            share = (first + step * GOLDEN) % 1
            start = starts[int(share * count)]
            yield self.order[start : start + self.stretch]

    def _warm_up(self, case: Case, rows: Sequence[int]) -> None:
        began = self.timer.seconds()
        batches = itertools.cycle(self._batches(case, rows))
        while self.timer.seconds() - began < WARM:
            self._answer(case, next(batches))

    def _time(self, number: int, rows: Sequence[int]) -> None:
        """Time a case on rows, and go on until all workers have: each is timed beside busy ones."""
        case = self.cases[number]
        batches = self._batches(case, rows)
        lead = batches[:1]
        provider = self.models[case.model].provider
        if provider != "cpu":  # others compile for every new shape
            lead = batches
        self.meeting.wait()
        for batch in lead:
            self._answer(case, batch)
        began = self.timer.seconds()
        before = self.timer.cpu()
        for batch in batches:
            self._answer(case, batch)
        cpu = self.timer.cpu() - before
        seconds = self.timer.seconds() - began
        self.seconds[number].append(seconds)
        self.cpu[number].append(cpu / 1e9)
        self.meeting.arrive()
        more = itertools.cycle(batches)
        while not self.meeting.all_here():
            self._answer(case, next(more))

    def _batches(self, case: Case, rows: Sequence[int]) -> list[Sequence[int]]:
        """Return rows in batches of the case's size, or of fewer if they are long."""
        longest = self.lengths[rows[-1]]
        fitting = max(1, TOKENS // max(1, longest))
        size = min(case.batch, fitting)
        return list(split_rows(rows, size))

    def _answer(self, case: Case, rows: Sequence[int]) -> None:
        texts, pairs = select_rows(self.texts, self.pairs, rows)
        answer(self.models[case.model], texts, pairs)

    def _in_random_order(self) -> list[int]:
        """Return the numbers of the cases, in an order that all workers draw."""
        order: list[int] = self.random.permutation(len(self.cases)).tolist()
        return order

    def time_lists(
        self, lists: Sequence[tuple[list[str], list[str] | None]], seconds: float
    ) -> dict[str, list[float]]:
        """Return for each model the ms of each whole list, in calls of the model's batch size.

        After ``seconds`` no further list is begun.
        """
        began = self.timer.seconds()
        times: dict[str, list[float]] = {case.model: [] for case in self.cases}
        for texts, pairs in lists:
            for number in self._in_random_order():
                name, batch = self.cases[number]
                whole = partial(answer_list, self.models[name], texts, pairs, batch)
                times[name] += self.timer.time_calls(whole, 1, lead=1)
            if self.timer.seconds() - began >= seconds:
                break
        return times


def stretch_of(sizes: Sequence[int]) -> int:
    """Return how many rows a block has: whole batches of the largest size, about ``STRETCH``."""
    largest = max(sizes)
    batches = max(1, round(STRETCH / largest))
    return largest * batches


def answer(model: BundleModel, texts: list[str], pairs: list[str] | None) -> None:
    """Answer rows in one call, from text to raw outputs."""
    feed = model.encode_together(texts, pairs)
    model.run(feed)


def answer_list(model: BundleModel, texts: list[str], pairs: list[str] | None, batch: int) -> None:
    """Answer a whole list in batches of rows with about the same number of characters."""
    lengths = character_lengths(texts, pairs)
    for rows in batches_by_length(lengths, batch):
        batch_texts, batch_pairs = select_rows(texts, pairs, rows)
        answer(model, batch_texts, batch_pairs)


def run(request: dict[str, Any]) -> dict[str, Any]:
    """Answer the rows of a round; return what it took: seconds and CPU seconds, case × block.

    ``spread`` is the standard deviation of the rows' lengths as a share of their mean, ``used`` and
    ``switches`` are this process's CPU seconds and involuntary context switches.
    """
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, request["cores"])
    texts, pairs, number = request["texts"], request["pairs"], request["number"]
    cases = [Case(*case) for case in request["cases"]]
    placing = np.random.default_rng([*request["seed"], number])
    models = load(request, cases, placing)
    first = models[cases[0].model]
    place = Path(request["meeting"])
    meeting = Meeting(place, number, request["workers"])
    random = np.random.default_rng(request["seed"])
    lengths = token_lengths(first, texts, pairs)
    timed = Round(
        models,
        cases,
        texts,
        pairs,
        lengths,
        random,
        meeting,
    )
    gc.collect()
    gc.disable()
    timed.time_blocks(request["seconds"])
    lists = {}
    if number == 0 and request["lists"]:
        lists = timed.time_lists(request["lists"], request["seconds"])
    end = machine.snapshot()
    spread = np.std(lengths) / np.mean(lengths)
    return {
        "seconds": timed.seconds,
        "cpu": timed.cpu,
        "tokens": timed.tokens,
        "lists": lists,
        "spread": float(spread),
        "used": end.process,
        "switches": end.switches,
    }


def load(
    request: dict[str, Any], cases: Sequence[Case], random: np.random.Generator
) -> dict[str, BundleModel]:
    """Load each model of the cases, in random order: their places in memory are noise then."""
    bundles = {}
    for case in cases:
        path = request["bundles"][case.model]
        bundles[case.model] = Path(path)
    providers = engines.providers(bundles, request["provider"])
    models = {}
    threads = request["threads"]
    for name in random.permutation(list(bundles)).tolist():
        provider = providers[name]
        models[name] = BundleModel(bundles[name], provider=provider, threads=threads)
    return models


if __name__ == "__main__":
    fresh_process.serve(run)
