"""The display of a sweep."""

from __future__ import annotations

import io
from typing import Any

from rich.console import Console

from rarefy.flows.sweep.display import SweepDisplay
from rarefy.pipeline.sweep.branch import ENDED, Branch, StepRow
from rarefy.pipeline.terms.interval import Interval

STEP = StepRow(id="head", digest="0" * 64, cached=False, seconds=2.5)


def branch(name: str, state: Any, **changes: Any) -> Branch:
    return Branch(name=name, values={}, state=state, steps=[STEP], **changes)


DONE = branch(
    "a", "done", metric="accuracy", accuracy=Interval(0.8, 0.7, 0.9), size=7_900_000, ended="1"
)


def shown(*rounds: list[Branch], terminal: bool = False, seconds: float = 0.0, **given: Any) -> str:
    """Return what is printed when the branches are as in each of the rounds."""
    written, now = io.StringIO(), [0.0]
    console = Console(file=written, width=120, force_terminal=terminal, color_system=None)
    with SweepDisplay(console, clock=lambda: now[0], **given) as display:
        for branches in rounds:
            now[0] += seconds
            display.update(branches)
            for branch in branches:
                if branch.state in ENDED:
                    display.end(branch)
    return written.getvalue().replace("\u00a0", " ")


def test_each_branch_that_ends_is_one_line() -> None:
    stopped = branch("b", "stopped", why="50 % after head; at least 70 %")
    failed = branch("c", "failed", why="its process died")
    first, second, third = shown([branch("d", "running")], [DONE, stopped, failed]).splitlines()
    assert "accuracy 80.0 % on dev; 7.9 MB; 2.5 s, 0 of 1 steps from the store" in first
    assert "at least 70 %; 2.5 s" in second
    assert "its process died" in third


def test_every_half_minute_it_says_what_runs() -> None:
    running = [branch("a", "running"), branch("b", "running"), branch("c", "waiting")]
    assert shown(running, running, seconds=20) == "2 running, 1 waiting: a, b\n"


def test_in_a_terminal_what_runs_is_always_shown() -> None:
    text = shown([branch("a", "done"), branch("b", "running")], terminal=True)
    assert "1 done, 1 running: b" in text


def test_quiet_says_nothing() -> None:
    assert shown([DONE], quiet=True) == ""


def test_progress_outside_a_terminal_is_a_line_every_half_minute() -> None:
    written, now = io.StringIO(), [0.0]
    display = SweepDisplay(Console(file=written), clock=lambda: now[0])
    for now[0] in (0.0, 31.0, 32.0):
        display.progress(1, 2, "timing on cpu, process 2")
    assert written.getvalue() == " 50%  timing on cpu, process 2\n"
