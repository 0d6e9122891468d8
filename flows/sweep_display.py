"""What a sweep shows while it runs: a line for each branch that ends, and how many are left."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Collection, Iterable
from types import TracebackType
from typing import Final

from rich.console import Console
from rich.text import Text

from pipeline.report import wording
from pipeline.sweep.branch import ENDED, Branch

EVERY: Final = 30.0
"""Seconds between two lines about what runs if the output is not a terminal."""
COLOURS: Final = {"stopped": "yellow", "failed": "red"}


class SweepDisplay:
    """A context manager that shows the branches.

    Args:
        console: Where.
        quiet: Whether to show nothing.
        clock: Returns seconds since any fixed point in time.
    """

    def __init__(
        self,
        console: Console,
        quiet: bool = False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.console, self.quiet = console, quiet
        self._clock, self._printed = clock, clock()
        self._shown: set[str] = set()
        self._status = console.status("", spinner="line")

    def __enter__(self) -> SweepDisplay:
        if self.console.is_terminal and not self.quiet:
            self._status.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._status.stop()

    def say(self, text: str, style: str = "") -> None:
        """Show a line."""
        if not self.quiet:
            self.console.print(Text(text, style), soft_wrap=True)

    def omit(self, branches: Iterable[Branch]) -> None:
        """Leave branches out of the lines to come: they had ended before."""
        self._shown.update(branch.name for branch in branches if branch.state in ENDED)

    def update(self, branches: Collection[Branch]) -> None:
        """Show what is known of the branches now."""
        running = []
        for branch in branches:
            if branch.state == "running":
                step = f" ({branch.step})" if branch.step else ""
                running.append(f"{branch.name}{step}")
            elif branch.state in ENDED and branch.name not in self._shown:
                self._shown.add(branch.name)
                self.say(line(branch), COLOURS.get(branch.state, ""))
        self._show(f"{counts(branches)}: {', '.join(running)}")

    def progress(self, done: float, total: float, note: str) -> None:
        """Show how far the measurements after the branches have got."""
        share = f"{done / total:4.0%}  " if total else ""
        self._show(f"{share}{note}")

    def _show(self, text: str) -> None:
        """Show what goes on: in a terminal in place, else as a line from time to time."""
        if self.console.is_terminal:
            self._status.update(Text(text, "dim"))
        elif self._clock() - self._printed >= EVERY:
            self._printed = self._clock()
            self.say(text)


def counts(branches: Iterable[Branch]) -> str:
    """Return how many branches are in each state: ``2 running, 5 done, 17 waiting``."""
    numbers = Counter(branch.state for branch in branches)
    states = [state for state in ("running", *ENDED, "waiting") if numbers[state]]
    return ", ".join(f"{numbers[state]} {state}" for state in states)


def line(branch: Branch) -> str:
    """Return the line about a branch that has ended."""
    facts = [branch.why] if branch.why else []
    scores = [step.accuracy for step in branch.steps if step.accuracy]
    accuracy = branch.accuracy or (scores[-1] if scores else None)
    if accuracy is not None:
        score = wording.score(accuracy.value, branch.metric)
        facts.append(f"{branch.metric} {score} on dev")
    if branch.size is not None:
        facts.append(wording.size(branch.size))
    cached = sum(step.cached for step in branch.steps)
    facts.append(f"{branch.seconds:.1f} s, {cached} of {len(branch.steps)} steps from the store")
    return f"{branch.name:<32} {branch.state:<8} {'; '.join(facts)}"
