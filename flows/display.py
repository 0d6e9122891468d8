"""The display while a recipe runs: a bar for the current stage, a line for each finished one."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from datetime import timedelta
from importlib.util import find_spec
from types import TracebackType
from typing import Final, Protocol

from rich.console import Console, RenderableType
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from flows.options import show_table
from pipeline.measure.measurements import Measurements
from pipeline.report import facts, headline
from pipeline.terms.interval import Interval
from pipeline.terms.metrics import known
from pipeline.terms.outcomes import SYMBOL, Outcome
from pipeline.terms.wording import bounds, count, size
from pipeline.verdict.record import LedgerRow
from pipeline.verdict.verdict import Verdict

COLOUR: Final[dict[Outcome, str]] = {"pass": "green", "fail": "red", "inconclusive": "yellow"}

EVERY = 30.0
"""Seconds between two progress lines of a stage if the output is not a terminal."""


class Shows(Protocol):
    """What shows a run as it goes on."""

    def starting(self, what: str) -> None: ...
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
            TextColumn("{task.percentage:>3.0f} %"),
            TimeElapsedColumn(),
            TextColumn("{task.fields[note]}", style="dim", markup=False),
            console=console,
            transient=True,
            disable=quiet or not _draws_bars(console),
        )
        self._task: TaskID | None = None
        self._clock = clock
        self._stage, self._began, self._printed = "", 0.0, 0.0
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

    def starting(self, what: str) -> None:
        """Show what is being started; in a terminal, until the first stage begins."""
        if self._progress.disable:
            self.say(what, "dim")
        else:
            self._begin(what)

    def started(self, identifier: str) -> None:
        """Show that a stage begins."""
        self._stage = identifier
        self._began = self._printed = self._clock()
        self._begin(identifier)

    def _begin(self, what: str) -> None:
        if self._task is not None:
            self._progress.remove_task(self._task)
        self._task = self._progress.add_task(what, total=None, note="")

    def progress(self, done: float, total: float, note: str) -> None:
        """Show how far the stage has got; outside a terminal, once every half minute.

        What has neither a share nor a total is a wait, which is said at once: it has one report.
        """
        if self._task is None:
            return
        self._progress.update(self._task, completed=done, total=total or None, note=note)
        due = not (done or total) or self._clock() - self._printed >= EVERY
        if self._progress.disable and due:
            self._printed = self._clock()
            share = f"/{_count(total)} ({done / total:.0%})".replace("%", " %") if total else ""
            elapsed = timedelta(seconds=int(self._printed - self._began))
            self.say(f"{self._stage:<12} {_count(done)}{share}  {elapsed}  {note}")

    def waiting(self, why: str = "another run is executing this stage") -> None:
        self.say(f"{why}; waiting for it to finish", "yellow")

    def finished(self, row: LedgerRow) -> None:
        if self.quiet:
            return
        line = Text(f"{row.id:<12} {row.kind:<11}")
        accuracy = ""
        if row.accuracy:
            unit = known(row.metric or "accuracy").unit
            accuracy = f"{row.metric} {bounds(Interval(*row.accuracy), unit)}"
        parameters = "" if row.parameters is None else count(row.parameters)
        line.append(f"{accuracy:<36}{parameters:>9} {size(row.size):>9} ")
        line.append("cached".rjust(8) if row.cached else f"{row.seconds:7.1f}s", "dim")
        line.append(f"  {row.digest[:12]}", "dim")
        self.console.print(line, soft_wrap=True)
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
            self.console.print(Text(text, style), soft_wrap=True)


def _draws_bars(console: Console) -> bool:
    """Return whether a bar can be updated: in a terminal, or in a notebook with ipywidgets."""
    return console.is_terminal or (console.is_jupyter and find_spec("ipywidgets") is not None)


def as_text(shown: RenderableType, width: int = 160) -> str:
    """Return the text that a terminal would show, without colours."""
    console = Console(width=width, color_system=None, highlight=False, markup=False, emoji=False)
    with console.capture() as capture:
        console.print(shown)
    return "\n".join(line.rstrip() for line in capture.get().rstrip().splitlines())


def show_verdict(
    judged: Verdict | None, console: Console, measured: Measurements | None = None
) -> None:
    """Print the outcome of every budget and, if there is no verdict, the reasons.

    If ``measured`` has the fastest float form, also the speed-up over it, and if it has a linear
    model, what that is.
    """
    if judged is None:
        return
    show_table(verdict_table(judged), console)
    for line in [*facts.float_speedups(measured), *filter(None, [facts.linear_line(measured)])]:
        console.print(line, soft_wrap=True)
    for line in doubts(judged):
        console.print(line, soft_wrap=True)


def doubts(judged: Verdict | None) -> list[str]:
    """Return in a line each why there is no verdict; a missed budget stays one in spite of it."""
    word = "note" if judged and judged.outcome == "fail" else "no verdict"
    return [f"{word}: {sentence}" for sentence in (judged.evidence if judged else ())]


def verdict_line(judged: Verdict | None, absent: Sequence[str], none: str = "none") -> str:
    """Return a run's last line: its outcome, and that a first release was compared with nothing.

    ``absent``: the tags that do not exist yet; ``none``: what to say if there is no verdict.
    """
    outcome = judged.outcome if judged else none
    first = headline.first_release(absent)
    return f"verdict: {outcome}" + (f" ({first[0].lower()}{first[1:-1]})" if first else "")


def verdict_table(judged: Verdict) -> Table:
    """Return a table of the budgets, each with its outcome, its name and the reason."""
    table = Table(box=None, pad_edge=False, header_style="dim")
    for column in ("", "budget", "reason"):
        table.add_column(column)
    for budget in judged.budgets:
        sign, colour = SYMBOL[budget.outcome], COLOUR[budget.outcome]
        name = f"{budget.metric} {budget.form}"
        if budget.level == "warn":
            name += " (warn)"
        table.add_row(Text(f"{sign} {budget.outcome}", colour), name, budget.reason)
    return table


def _count(number: float) -> str:
    return f"{round(number, 1):.10g}"
