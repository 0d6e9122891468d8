"""The display while a recipe runs: a bar for the current stage, a line for each finished one."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from datetime import timedelta
from importlib.util import find_spec
from types import TracebackType
from typing import Final, Protocol

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from rarefy.flows.console import summary
from rarefy.flows.console.options import plain_table, show_table
from rarefy.pipeline.measure.measurements import Measurements
from rarefy.pipeline.report import facts, headline, throughput
from rarefy.pipeline.terms.interval import Interval
from rarefy.pipeline.terms.metrics import known
from rarefy.pipeline.terms.outcomes import SYMBOL, Outcome
from rarefy.pipeline.terms.wording import bounds, count, quantity, size
from rarefy.pipeline.verdict.record import LedgerRow, ReportData
from rarefy.pipeline.verdict.verdict import Verdict

COLOUR: Final[dict[Outcome, str]] = {"pass": "green", "fail": "red", "inconclusive": "yellow"}

SCORE, REST = 34, 28
"""The width of a finished stage's score, where there is room, and of what stands after it."""
EVERY = 30.0
"""Seconds between two progress lines of a stage if the output is not a terminal."""


class Shows(Protocol):
    """What shows a run as it goes on."""

    def starting(self, activity: str) -> None: ...
    def started(self, identifier: str) -> None: ...
    def progress(self, done: float, total: float, note: str) -> None: ...
    def waiting(self, why: str = ...) -> None: ...
    def finished(self, row: LedgerRow) -> None: ...
    def say(self, text: str, style: str = "") -> None: ...


class Display:
    """A context manager that shows progress; silent if ``quiet``.

    It prints plain lines if the console cannot draw a bar. ``clock`` returns seconds since any
    fixed point in time.
    """

    def __init__(
        self,
        console: Console,
        quiet: bool = False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.console = console
        self.quiet = quiet
        self._progress = Progress(
            TextColumn("{task.description:<12}", markup=False),
            BarColumn(bar_width=28),
            TextColumn("{task.percentage:>3.0f}%"),
            TimeElapsedColumn(),
            TextColumn("{task.fields[note]}", style="dim", markup=False),
            console=console,
            transient=True,
            disable=quiet or not _draws_bars(console),
        )
        self._task: TaskID | None = None
        self._clock = clock
        self._stage = ""
        self._began = 0.0
        self._printed = 0.0
        self._warned: set[str] = set()

    def __enter__(self) -> Display:
        self._progress.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._progress.stop()

    def starting(self, activity: str) -> None:
        """Show what is being started; in a terminal, until the first stage begins."""
        if self._progress.disable:
            self.say(activity, "dim")
        else:
            self._begin(activity)

    def started(self, identifier: str) -> None:
        """Show that a stage begins."""
        self._stage = identifier
        self._began = self._printed = self._clock()
        self._begin(identifier)

    def _begin(self, activity: str) -> None:
        if self._task is not None:
            self._progress.remove_task(self._task)
        self._task = self._progress.add_task(activity, total=None, note="")

    def progress(self, done: float, total: float, note: str) -> None:
        """Show how far the stage has got; outside a terminal, once every half minute.

        What has neither a share nor a total is a wait, which is said at once: it has one report.
        """
        if self._task is None:
            return
        self._progress.update(self._task, completed=done, total=total or None, note=note)
        if not self._progress.disable:
            return
        now = self._clock()
        waits = not done and not total
        if waits or now - self._printed >= EVERY:
            self._printed = now
            elapsed = timedelta(seconds=int(now - self._began))
            self.say(f"{self._stage:<12} {_progress_text(done, total)}  {elapsed}  {note}")

    def waiting(self, why: str = "another run is executing this stage") -> None:
        self.say(f"{why}; waiting for it to finish", "yellow")

    def finished(self, row: LedgerRow) -> None:
        if self.quiet:
            return
        self.console.print(_ledger_line(row, self.console.width), soft_wrap=True)
        if row.note:
            self._warned.add(f"{row.id} {row.note}")
            self.say(f"warning: {row.id} {row.note}", "yellow")

    def notes(self, warnings: Iterable[str]) -> None:
        """Show a run's warnings, except those that were shown when their stage had finished."""
        for warning in warnings:
            if warning not in self._warned:
                self.say(f"note: {warning}", "yellow")

    def say(self, text: str, style: str = "") -> None:
        if not self.quiet:
            say(self.console, text, style)


def say(console: Console, text: str, style: str = "") -> None:
    """Print a line of text: in a terminal broken between words, elsewhere whole."""
    console.print(Text(text, style), soft_wrap=not console.is_terminal)


def _progress_text(done: float, total: float) -> str:
    """Return how far a stage has got: the number that is done and, if known, the share."""
    if not total:
        return _count(done)
    percent = round(100 * done / total)
    return f"{_count(done)}/{_count(total)} ({percent}%)"


def _ledger_line(row: LedgerRow, width: int) -> Text:
    """Return a finished stage as a line: score, parameters, size and time.

    The score's interval is left out if the line would be wider than ``width``.
    """
    score = parameters = ""
    name = f"{row.id:<12} "
    room = width - len(name) - REST
    if row.accuracy:
        metric = row.metric or "accuracy"
        unit = known(metric).unit
        interval = Interval(*row.accuracy)
        score = f"{metric} {bounds(interval, unit)}"
        if len(score) > room:
            score = f"{metric} {quantity(interval.value, unit)}"
    if row.parameters is not None:
        parameters = count(row.parameters)
    time_taken = "cached"
    if not row.cached:
        time_taken = f"{row.seconds:.1f}s"
    padded = score.ljust(min(room, SCORE))
    line = Text(f"{name}{padded}{parameters:>9}{size(row.size):>10}")
    line.append(f"{time_taken:>9}", "dim")
    return line


def _draws_bars(console: Console) -> bool:
    """Return whether a bar can be updated: in a terminal, or in a notebook with ipywidgets."""
    return console.is_terminal or (console.is_jupyter and find_spec("ipywidgets") is not None)


def show_verdict(
    verdict: Verdict | None, console: Console, measured: Measurements | None = None
) -> None:
    """Print the outcome of every budget and, if there is no verdict, the reasons.

    If ``measured`` has the fastest float form, also the speed-up over it, and if it has throughput
    or a linear model, what that is. Of inconclusive budgets, also why they are and what would
    decide them.
    """
    if verdict is None:
        return
    show_table(verdict_table(verdict), console)
    lines = [*facts.float_speedups(measured), *throughput.lines(measured)]
    others = (facts.linear_line(measured), facts.decided_line(measured))
    lines += filter(None, others)
    for line in lines + doubts(verdict) + summary.advice(verdict, measured):
        say(console, line)


def show_gains(data: ReportData, console: Console) -> None:
    """Print the table of what was gained, and what its two models are; nothing if not measured."""
    table = summary.gains_table(data)
    if table is None:
        return
    console.print()
    show_table(table, console)
    words = summary.legend(data)
    if words:
        say(console, words, "dim")
    console.print()


def doubts(verdict: Verdict | None) -> list[str]:
    """Return in a line each why there is no verdict; a missed budget stays one in spite of it."""
    if verdict is None:
        return []
    word = "no verdict"
    if verdict.outcome == "fail":
        word = "note"
    return [f"{word}: {sentence}" for sentence in verdict.evidence]


def verdict_line(verdict: Verdict | None, absent: Sequence[str], none: str = "none") -> str:
    """Return a run's last line: a pass with what it leaves out, or another outcome.

    ``absent``: the tags that do not exist yet; ``none``: what to say if there is no verdict.
    """
    line = f"verdict: {verdict.outcome if verdict else none}"
    remarks = []
    if verdict is not None and verdict.outcome == "pass" and verdict.warned:
        remarks.append(f"warning: not met: {', '.join(verdict.warned)}")
    sentence = headline.first_release(absent)
    if sentence:
        remarks.append(f"{sentence[0].lower()}{sentence[1:-1]}")
    if remarks:
        line += f" ({'; '.join(remarks)})"
    return line


def verdict_table(verdict: Verdict) -> Table:
    """Return a table of the budgets, each with its outcome, its name and the reason."""
    table = plain_table("", "budget", "reason")
    for budget in verdict.budgets:
        sign, colour = SYMBOL[budget.outcome], COLOUR[budget.outcome]
        name = budget.name
        if budget.level == "warn":
            name += " (warn)"
        table.add_row(Text(f"{sign} {budget.outcome}", colour), name, budget.reason)
    return table


def _count(number: float) -> str:
    return f"{round(number, 1):.10g}"
