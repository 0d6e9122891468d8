"""Run one worker of a round: beside all others, answer the same rows in batches, model by model.

Started by ``rarefy.pipeline.measure.throughput.session`` as ``python -m``; see
``rarefy.pipeline.measure.fresh_process``.
"""

from __future__ import annotations

import gc
import itertools
import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from rarefy.pipeline.measure import engines, fresh_process
from rarefy.pipeline.measure.latency.timer import TIMER, Timer
from rarefy.pipeline.measure.machine import fingerprint
from rarefy.pipeline.measure.row_lengths import character_lengths, select_rows, token_lengths
from rarefy.pipeline.model.batches import order_by_length, split_rows
from rarefy.pipeline.model.runtime.bundle_model import BundleModel

STRETCH = 64
"""Rows of a block, next to each other in the order of their lengths: a batch of the largest size,
or several smaller ones. So padding is as in a large job, and every size answers the same rows."""
TOKENS = 32 * 512
"""Of a call, at most: the memory of attention grows with the rows and with their length."""
LEAST, MOST = 2, 40
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
        self._counts = np.memmap(path, np.int64, "r+", shape=(workers + 1,))
        self._number = number

    def arrive(self) -> None:
        """Say that this worker has come to the next point."""
        self._counts[self._number] += 1

    def all_here(self) -> bool:
        """Return whether all others have come to this point too."""
        return bool(self._counts[:-1].min() >= self._counts[self._number])

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
            for number in self.random.permutation(len(self.cases)).tolist():
                self._time(number, stretch)
            self.tokens.append(sum(self.lengths[row] for row in stretch))
            done = len(self.tokens)
            over = self.timer.seconds() - began >= seconds and done >= LEAST
            if self.meeting.agree(over or done == MOST):
                return

    def _stretches(self) -> Iterator[Sequence[int]]:
        """Yield stretches of rows from everywhere in the order of lengths, without end."""
        last = len(self.order) - self.stretch
        starts = np.linspace(0, last, -(-len(self.order) // self.stretch)).astype(int)
        first = self.random.random()
        for step in itertools.count():
            share = (first + step * GOLDEN) % 1
            start = starts[int(share * len(starts))]
            yield self.order[start : start + self.stretch]

    def _warm_up(self, case: Case, rows: Sequence[int]) -> None:
        began = self.timer.seconds()
        for batch in itertools.cycle(self._batches(case, rows)):
            self._answer(case, batch)
            if self.timer.seconds() - began >= WARM:
                return

    def _time(self, number: int, rows: Sequence[int]) -> None:
        """Time a case on rows, and go on until all workers have: each is timed beside busy ones."""
        case = self.cases[number]
        batches = self._batches(case, rows)
        lead = batches[:1]
        if self.models[case.model].provider != "cpu":  # others compile for every new shape
            lead = batches
        self.meeting.wait()
        for batch in lead:
            self._answer(case, batch)
        began, cpu = self.timer.seconds(), self.timer.cpu()
        for batch in batches:
            self._answer(case, batch)
        self.seconds[number].append(self.timer.seconds() - began)
        self.cpu[number].append((self.timer.cpu() - cpu) / 1e9)
        self.meeting.arrive()
        more = itertools.cycle(batches)
        while not self.meeting.all_here():
            self._answer(case, next(more))

    def _batches(self, case: Case, rows: Sequence[int]) -> list[Sequence[int]]:
        """Return rows in batches of the case's size, or of fewer if they are long."""
        fitting = max(1, TOKENS // max(1, self.lengths[rows[-1]]))
        return list(split_rows(rows, min(case.batch, fitting)))

    def _answer(self, case: Case, rows: Sequence[int]) -> None:
        answer(self.models[case.model], *select_rows(self.texts, self.pairs, rows))

    def time_lists(
        self, lists: Sequence[tuple[list[str], list[str] | None]]
    ) -> dict[str, list[float]]:
        """Return for each model the ms of each whole list, in calls of the model's batch size."""
        times: dict[str, list[float]] = {case.model: [] for case in self.cases}
        for texts, pairs in lists:
            for number in self.random.permutation(len(self.cases)).tolist():
                case = self.cases[number]
                whole = partial(answer_list, self.models[case.model], texts, pairs, case.batch)
                times[case.model] += self.timer.time_calls(whole, 1, lead=1)
        return times


def stretch_of(sizes: Sequence[int]) -> int:
    """Return how many rows a block has: whole batches of the largest size, about ``STRETCH``."""
    largest = max(sizes)
    return largest * max(1, round(STRETCH / largest))


def answer(model: BundleModel, texts: list[str], pairs: list[str] | None) -> None:
    """Answer rows in one call, from text to raw outputs."""
    model.run(model.encode_together(texts, pairs))


def answer_list(model: BundleModel, texts: list[str], pairs: list[str] | None, batch: int) -> None:
    """Answer a whole list in batches of rows with about the same number of characters."""
    order = order_by_length(character_lengths(texts, pairs))
    for rows in split_rows(order, batch):
        answer(model, *select_rows(texts, pairs, rows))


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
    meeting = Meeting(Path(request["meeting"]), number, request["workers"])
    lengths = token_lengths(first, texts, pairs)
    timed = Round(
        models,
        cases,
        texts,
        pairs,
        lengths,
        np.random.default_rng(request["seed"]),
        meeting,
    )
    gc.collect()
    gc.disable()
    timed.time_blocks(request["seconds"])
    lists = {}
    if number == 0 and request["lists"]:
        lists = timed.time_lists(request["lists"])
    end = fingerprint.snapshot()
    return {
        "seconds": timed.seconds,
        "cpu": timed.cpu,
        "tokens": timed.tokens,
        "lists": lists,
        "spread": float(np.std(lengths) / np.mean(lengths)),
        "used": end.process,
        "switches": end.switches,
    }


def load(
    request: dict[str, Any], cases: Sequence[Case], random: np.random.Generator
) -> dict[str, BundleModel]:
    """Load each model of the cases, in random order: their places in memory are noise then."""
    names = list(dict.fromkeys(case.model for case in cases))
    bundles = {name: Path(request["bundles"][name]) for name in names}
    providers = engines.providers(bundles, request["provider"])
    models = {}
    for name in random.permutation(names).tolist():
        models[name] = BundleModel(
            bundles[name], provider=providers[name], threads=request["threads"]
        )
    return models


if __name__ == "__main__":
    fresh_process.serve(run)
