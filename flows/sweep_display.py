"""The display of a sweep: a table of its branches as they go on, or a line for each that ended."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable
from types import TracebackType
from typing import Final

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from pipeline.report import wording
from pipeline.sweep.branch import Branch

EVERY: Final = 30.0
"""Seconds between two lines about what runs if the output is not a terminal."""
COLOUR: Final = {"done": "green", "stopped": "yellow", "failed": "red", "running": "cyan"}
ENDED: Final = ("done", "stopped", "failed")
MARGIN: Final = 8
"""Lines of the terminal that the table leaves free."""


class SweepDisplay:
    """A context manager that shows the branches; silent if ``quiet``.

    ``clock`` returns seconds since any fixed point in time.
    """

    def __init__(
        self,
        console: Console,
        quiet: bool = False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.console, self.quiet = console, quiet
        self._clock, self._printed = clock, clock()
        self._told: set[str] = set()
        self._drawn = console.is_terminal and not quiet
        self._live = Live(console=console, transient=True, refresh_per_second=4)

    def __enter__(self) -> SweepDisplay:
        if self._drawn:
            self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._drawn:
            self._live.stop()

    def say(self, text: str, style: str = "") -> None:
        """Show a line."""
        if not self.quiet:
            self.console.print(Text(text, style), soft_wrap=True)

    def known(self, branches: Iterable[Branch]) -> None:
        """Leave branches out of the lines to come: they had ended before."""
        self._told.update(branch.name for branch in branches if branch.state in ENDED)

    def update(self, branches: Iterable[Branch]) -> None:
        """Show what is known of the branches now."""
        every = list(branches)
        for branch in every:
            if branch.state in ENDED and branch.name not in self._told:
                self._told.add(branch.name)
                self.say(line(branch), COLOUR[branch.state] if branch.state != "done" else "")
        if self._drawn:
            self._live.update(Group(Text(counts(every), "dim"), self._table(every)))
        elif self._clock() - self._printed >= EVERY:
            self._printed = self._clock()
            running = [b for b in every if b.state == "running"]
            told = [f"{b.name} ({b.step})" if b.step else b.name for b in running]
            self.say(f"{counts(every)}: {', '.join(told)}")

    def progress(self, done: float, total: float, note: str) -> None:
        """Show how far the measurements after the branches have got."""
        share = f"{done / total:4.0%}  " if total else ""
        if self._drawn:
            self._live.update(Text(f"{share}{note}", "dim"))
        elif self._clock() - self._printed >= EVERY:
            self._printed = self._clock()
            self.say(f"{share}{note}")

    def _table(self, branches: list[Branch]) -> Table:
        """Return the branches that run, then the last that ended, then some that wait."""
        room = max(4, self.console.height - MARGIN)
        running = [branch for branch in branches if branch.state == "running"]
        ended = [branch for branch in branches if branch.state in ENDED]
        ended.sort(key=lambda branch: branch.ended or "")
        waiting = [branch for branch in branches if branch.state == "waiting"]
        space = max(0, room - len(running))
        shown = [*running, *ended[max(0, len(ended) - space) :]][:room]
        table = Table(box=None, pad_edge=False, header_style="dim")
        for column in ("branch", "state", "step", "dev", "size"):
            table.add_column(column)
        for branch in [*shown, *waiting[: room - len(shown)]]:
            table.add_row(
                branch.name,
                Text(branch.state, COLOUR.get(branch.state, "dim")),
                branch.step or "",
                accuracy(branch),
                "" if branch.size is None else wording.size(branch.size),
            )
        return table


def counts(branches: Iterable[Branch]) -> str:
    """Return how many branches are in each state: ``2 running, 5 done, 17 waiting``."""
    number = Counter(branch.state for branch in branches)
    states = ("running", *ENDED, "waiting")
    return ", ".join(f"{number[state]} {state}" for state in states if number[state])


def accuracy(branch: Branch) -> str:
    """Return the last score of a branch on the development rows, as text."""
    scores = [step.accuracy for step in branch.steps if step.accuracy is not None]
    last = branch.accuracy or (scores[-1] if scores else None)
    return "" if last is None else wording.score(last.value, branch.metric)


def line(branch: Branch) -> str:
    """Return the line about a branch that has ended."""
    made = sum(step.seconds for step in branch.steps if not step.cached)
    cached = sum(step.cached for step in branch.steps)
    facts = [f"{branch.metric} {accuracy(branch)} on dev" if accuracy(branch) else ""]
    facts += ["" if branch.size is None else wording.size(branch.size)]
    facts += [f"{made:.1f} s, {cached} of {len(branch.steps)} steps from the store"]
    if branch.why:
        facts.insert(0, branch.why)
    return f"{branch.name:<32} {branch.state:<8} {'; '.join(filter(None, facts))}"
