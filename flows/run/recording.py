"""A run's display, with the logbook beside it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from io import StringIO
from pathlib import Path
from typing import Final

from rarefy.flows.console.display import Display, Shows, verdict_line, verdict_table
from rarefy.flows.console.results import Result
from rarefy.flows.console.terminal import Console
from rarefy.flows.run.job import Job
from rarefy.flows.sharing import recipe_source
from rarefy.pipeline.recipe.recipe import LoadedRecipe
from rarefy.pipeline.run.logbook import Engine, Logbook, Page, Step
from rarefy.pipeline.store.home import Home
from rarefy.pipeline.verdict.record import LedgerRow

WIDTH: Final = 160
PATHS: Final = ("recipe", "home", "out")
"""The fields of a job that are paths; a run may be resumed from another folder."""


class Recorded:
    """Shows a run on a display, if there is one, and records it on its page of the logbook."""

    def __init__(self, page: Page, shown: Display | None) -> None:
        self._page = page
        self._written = StringIO()
        console = Console(
            file=self._written,
            width=WIDTH,
            force_terminal=False,
            color_system=None,
            markup=False,
            emoji=False,
        )
        self._log = Display(console)
        self._displays: list[Shows] = [self._log]
        if shown is not None:
            self._displays.append(shown)

    def starting(self, what: str) -> None:
        """Show what is being started."""
        for display in self._displays:
            display.starting(what)
        self._keep()

    def started(self, identifier: str) -> None:
        """Show and record that a step begins."""
        for display in self._displays:
            display.started(identifier)
        self._page.update(step=identifier)

    def progress(self, done: float, total: float, note: str) -> None:
        """Show how far the step has got."""
        for display in self._displays:
            display.progress(done, total, note)
        self._keep()

    def waiting(self, why: str = "another run is executing this stage") -> None:
        """Show what this run waits for."""
        for display in self._displays:
            display.waiting(why)
        self._keep()

    def finished(self, row: LedgerRow) -> None:
        """Show and record a finished step."""
        for display in self._displays:
            display.finished(row)
        step = Step(id=row.id, digest=row.digest, cached=row.cached, seconds=row.seconds)
        steps = (*self._page.entry.steps, step)
        self._page.update(step=None, steps=steps)
        self._keep()

    def say(self, text: str, style: str = "") -> None:
        """Show a line."""
        for display in self._displays:
            display.say(text, style)
        self._keep()

    def ended(self, result: Result) -> None:
        """Record the verdict; whoever started the run shows it."""
        data = result.outcome.data
        verdict = data.verdict
        state, message = "unjudged", ""
        if verdict is not None:
            self._log.console.print(verdict_table(verdict))
            state, message = verdict.outcome, "; ".join(verdict.evidence)
        self._log.say(verdict_line(verdict, data.absent))
        self._keep()
        if result.unrecorded is not None and not message:
            message = str(result.unrecorded)
        self._page.update(state=state, message=message or None)

    def _keep(self) -> None:
        """Move what the log's display has written to the page."""
        text = self._written.getvalue()
        if text:
            self._page.say(text)
            self._written.seek(0)
            self._written.truncate()


@contextmanager
def recorded(
    job: Job, loaded: LoadedRecipe, engine: Engine, shown: Display | None
) -> Iterator[Recorded]:
    """Return the display of a run that is in the logbook for as long as the block lasts.

    Args:
        job: What the run is started with.
        loaded: The job's recipe.
        engine: What executes the steps.
        shown: The display that somebody watches, if there is one.
    """
    values = asdict(job)
    for key in PATHS:
        named = key != "recipe" or not job.in_python
        if named and not recipe_source.is_remote(values[key]):
            values[key] = str(Path(values[key]).absolute())
    logbook = Logbook(Home(Path(job.home)))
    steps = len(loaded.ids)
    with logbook.writing(loaded.recipe.name, engine, values, steps) as page:
        page.say(job.command)
        yield Recorded(page, shown)
