"""A job: which recipe to run, where and how; and the steps that a run consists of."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Final

from rarefy.flows.console.display import Shows
from rarefy.flows.console.options import RunOptions
from rarefy.flows.console.results import Result
from rarefy.pipeline.recipe import recipe as recipes
from rarefy.pipeline.recipe.recipe import LoadedRecipe
from rarefy.pipeline.release import verdicts
from rarefy.pipeline.run import checks, folder
from rarefy.pipeline.run import outcome as outcomes
from rarefy.pipeline.run.engine import Finished, Run
from rarefy.pipeline.run.plan import baselines
from rarefy.pipeline.run.plan.plan import Plan
from rarefy.pipeline.store.home import Home
from rarefy.pipeline.verdict import candidates
from rarefy.pipeline.verdict.history import FILE

IN_PYTHON: Final = "rarefy.run(recipe)"
"""The command of a run whose recipe was built in Python, and is in no file."""


def words(options: Mapping[str, Any]) -> list[str]:
    """Return options as words of a command; None, False and "auto" are the same as no option."""
    command: list[str] = []
    for name, value in options.items():
        if value in (None, False, "auto"):
            continue
        command.append(name)
        if value is not True:
            command.append(str(value))
    return command


def folder_name(deployment: str | None, recipe: str) -> str:
    """Return the name of the folder of a deployment's runs: several may run one recipe at once."""
    name = (deployment or "").lower()
    plain = re.sub(r"[^a-z0-9._-]+", "-", name).strip("-.")
    return plain or recipe


@dataclass(frozen=True, kw_only=True)
class Job(RunOptions):
    """What a run is started with, as plain values: the logbook and Prefect store them."""

    recipe: str
    home: str
    out: str
    command: str
    ci: bool = False
    """Whether it is a gate, which also writes the files that CI systems read."""
    latency: str = "strict"
    """``warn``: budgets on times are warnings of this gate."""

    @classmethod
    def from_record(cls, values: Mapping[str, Any]) -> Job:
        """Return the job in an entry of the logbook, without options that rarefy no longer has."""
        names = {option.name for option in fields(cls)}
        return cls(**{name: value for name, value in values.items() if name in names})

    @property
    def in_python(self) -> bool:
        """Whether its recipe was built in Python: only that program can run it again."""
        return self.command == IN_PYTHON

    @property
    def parameters(self) -> dict[str, Any]:
        """The parameters of the flow."""
        values = asdict(self)
        del values["ci"], values["latency"]
        return values


def load(job: Job) -> LoadedRecipe:
    """Read the job's recipe; if the job has a baseline, it replaces the recipe's tags."""
    loaded = recipes.load(Path(job.recipe))
    if job.baseline is None:
        return loaded
    return baselines.with_baseline(loaded, job.baseline)


def open_run(job: Job, loaded: LoadedRecipe, display: Shows | None = None) -> Run:
    """Plan the job's run; errors that can be known in advance are raised here.

    If the eval split has too few rows for a budget, the display shows a note: the run will end
    inconclusive. It shows a warning of budgets that ``first`` skips and probably should not.
    """
    shared = None if job.fresh else job.store
    store = Home(Path(job.home)).store(fresh=job.fresh, remote=shared)
    plan = Plan(loaded, store, job.device, first=job.first)
    if job.threads:
        plan.threads = job.threads
    steps = plan.steps()
    checks.check_size(plan, steps)
    checks.check_runtimes(plan, steps, scored=bool(job.out))
    if display is not None:
        for doubt in plan.doubts:
            display.say(f"warning: {doubt}", "bold red")
        for need in checks.needed_rows(plan, folder.last_measurements(Path(job.out))):
            if not need.enough:
                display.say(f"note: {need.text}", "yellow")
    if job.out:
        folder.prepare(Path(job.out))  # or it would be known only after the last stage
    return Run(plan)


def execute(run: Run, identifier: str, display: Shows | None = None) -> Finished:
    """Execute one step and show it on the display, if there is one."""
    if display is None:
        return run.execute(identifier)
    display.started(identifier)
    finished = run.execute(identifier, display.progress, display.waiting)
    display.finished(run.ledger()[-1])
    return finished


def conclude(run: Run, job: Job) -> Result:
    """Judge the run, write the report and a copy of the bundle, and record the verdict."""
    past = Path(job.home) / FILE
    outcome = outcomes.conclude(run, job.command, past)
    measured = outcome.data.measurements
    if measured is not None and outcome.data.verdict is not None:
        outcome.data.warnings.extend(candidates.notes(past, measured))
    paths = folder.write(outcome, Path(job.out))
    unrecorded = verdicts.keep(Path(job.home), outcome.data, run.plan.loaded.base)
    return Result(outcome, paths, unrecorded)


def run_inline(job: Job, loaded: LoadedRecipe, display: Shows | None = None) -> Result:
    """Run a job in this process, without Prefect."""
    return finish_inline(job, open_run(job, loaded, display), display)


def finish_inline(job: Job, run: Run, display: Shows | None = None) -> Result:
    """Execute every step of a run that is open, without Prefect, then judge."""
    for identifier in run.plan.loaded.ids:
        execute(run, identifier, display)
    return conclude(run, job)


def is_cached(run: Run) -> bool:
    """Return whether the store has the artifact of every step already."""
    return all(step.cached for step in run.plan.steps())
