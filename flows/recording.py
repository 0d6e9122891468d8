"""A run's display, with the logbook beside it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from io import StringIO
from pathlib import Path
from typing import Final

from rich.console import Console

from flows import recipe_source
from flows.display import Display, Shows, verdict_line, verdict_table
from flows.jobs import Job
from flows.results import Result
from pipeline.recipe.recipe import LoadedRecipe
from pipeline.run.logbook import Engine, Logbook, Page, Step
from pipeline.store.home import Home
from pipeline.verdict.record import LedgerRow

WIDTH: Final = 160
PATHS: Final = ("recipe", "home", "out")
"""The fields of a job that are paths; a run may be resumed from another folder."""


class Recorded:
    """Shows a run on a display, if there is one, and records it on its page of the logbook."""

    def __init__(self, page: Page, shown: Display | None) -> None:
        self._page = page
        self._written = StringIO()
        self._log = Display(
            Console(
                file=self._written,
                width=WIDTH,
                force_terminal=False,
                color_system=None,
                markup=False,
                emoji=False,
            )
        )
        self._both: tuple[Shows, ...] = (self._log, *([shown] if shown else []))

    def starting(self, what: str) -> None:
        """Show what is being started."""
        for each in self._both:
            each.starting(what)
        self._keep()

    def started(self, identifier: str) -> None:
        """Show and record that a step begins."""
        for each in self._both:
            each.started(identifier)
        self._page.update(step=identifier)

    def progress(self, done: float, total: float, note: str) -> None:
        """Show how far the step has got."""
        for each in self._both:
            each.progress(done, total, note)
        self._keep()

    def waiting(self, why: str = "another run is executing this stage") -> None:
        """Show what this run waits for."""
        for each in self._both:
            each.waiting(why)
        self._keep()

    def finished(self, row: LedgerRow) -> None:
        """Show and record a finished step."""
        for each in self._both:
            each.finished(row)
        step = Step(id=row.id, digest=row.digest, cached=row.cached, seconds=row.seconds)
        self._page.update(step=None, steps=(*self._page.entry.steps, step))
        self._keep()

    def say(self, text: str, style: str = "") -> None:
        """Show a line."""
        for each in self._both:
            each.say(text, style)
        self._keep()

    def ended(self, result: Result) -> None:
        """Record the verdict; whoever started the run shows it."""
        data = result.outcome.data
        if data.verdict is not None:
            self._log.console.print(verdict_table(data.verdict))
        self._log.say(verdict_line(data.verdict, data.absent))
        self._keep()
        missing = "; ".join(data.verdict.evidence) if data.verdict else ""
        self._page.update(
            state=data.verdict.outcome if data.verdict else "unjudged",
            message=missing or (str(result.unrecorded) if result.unrecorded else None),
        )

    def _keep(self) -> None:
        """Move what the log's display has written to the page."""
        if text := self._written.getvalue():
            self._page.say(text)
            self._written.seek(0)
            self._written.truncate()


@contextmanager
def recorded(
    job: Job, loaded: LoadedRecipe, engine: Engine, shown: Display | None
) -> Iterator[Recorded]:
    """Return the display of a run that is in the logbook for as long as the block lasts."""
    values = asdict(job)
    paths = PATHS[1:] if job.in_python else PATHS
    here = (key for key in paths if not recipe_source.is_remote(values[key]))
    values |= {key: str(Path(values[key]).absolute()) for key in here}
    logbook, name = Logbook(Home(Path(job.home))), loaded.recipe.name
    with logbook.writing(name, engine, values, len(loaded.ids)) as page:
        page.say(job.command)
        yield Recorded(page, shown)
