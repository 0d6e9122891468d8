"""What a sweep shows while it runs: a line for each branch that ends, and how many are left."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Collection
from types import TracebackType
from typing import Final

from rich.console import Console
from rich.text import Text

from pipeline.report import wording
from pipeline.sweep.branch import STATES, Branch

EVERY: Final = 30.0
"""Seconds between two lines about what runs if the output is not a terminal."""
COLOURS: Final = {"done": "", "stopped": "yellow", "failed": "red"}


class SweepDisplay:
    """A context manager that shows the branches.

    Args:
        console: Where.
        quiet: Whether to show nothing.
        clock: Returns seconds since any fixed point in time.
    """

    def __init__(
        self, console: Console, quiet: bool = False, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.console, self.quiet = console, quiet
        self._clock, self._printed = clock, clock()
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

    def end(self, branch: Branch) -> None:
        """Show a branch that has ended."""
        facts = [branch.why] if branch.why else []
        if branch.accuracy is not None:
            score = wording.score(branch.accuracy.value, branch.metric)
            facts.append(f"{branch.metric} {score} on dev")
        if branch.size is not None:
            facts.append(wording.size(branch.size))
        cached = sum(step.cached for step in branch.steps)
        total = len(branch.steps)
        facts.append(f"{branch.seconds:.1f} s, {cached} of {total} steps from the store")
        text = "; ".join(facts)
        line = f"{branch.name:<32} {branch.state:<8} {text}"
        self.say(line, COLOURS[branch.state])

    def update(self, branches: Collection[Branch]) -> None:
        """Show how many branches are in each state, and which run."""
        numbers = Counter(branch.state for branch in branches)
        counts = [f"{numbers[state]} {state}" for state in STATES if numbers[state]]
        names = [branch.name for branch in branches if branch.state == "running"]
        states = ", ".join(counts)
        running = ", ".join(names)
        self.progress(0, 0, f"{states}: {running}")

    def progress(self, done: float, total: float, note: str) -> None:
        """Show what goes on: in a terminal in place, else as a line from time to time."""
        text = note
        if total:
            text = f"{done / total:4.0%}  {note}"
        if self.console.is_terminal:
            self._status.update(Text(text, "dim"))
            return
        now = self._clock()
        if now - self._printed >= EVERY:
            self._printed = now
            self.say(text)
