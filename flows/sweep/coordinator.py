"""The coordinator of a sweep: hands branches to workers and times their bundles.

Workers run branches beside each other; the store's locks keep two of them from doing one step at
the same time. Then, with the machine for itself, the coordinator times the bundles. What is known
of each branch is on disk at every moment, so a sweep that was interrupted goes on.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from rarefy.flows.console.display import Display
from rarefy.flows.sharing import recipe_source
from rarefy.flows.sweep.branch import Assignment
from rarefy.flows.sweep.branch_steps import Steps
from rarefy.flows.sweep.job import Job
from rarefy.flows.sweep.timing import Clock
from rarefy.flows.sweep.workers import Workers
from rarefy.pipeline.recipe.recipe import LoadedRecipe
from rarefy.pipeline.run import checks
from rarefy.pipeline.run.plan.plan import Plan
from rarefy.pipeline.store import disk
from rarefy.pipeline.store.artifact import Kind
from rarefy.pipeline.store.remote import artifacts
from rarefy.pipeline.store.store import Lease
from rarefy.pipeline.sweep import variants
from rarefy.pipeline.sweep.branch import ENDED, Branch, Folder, hopeless
from rarefy.pipeline.sweep.variants import Variant
from rarefy.pipeline.terms import extras
from rarefy.pipeline.terms.credentials import redact
from rarefy.pipeline.terms.errors import ProviderError, RarefyError, RecipeError

if TYPE_CHECKING:
    from rarefy.flows.sweep.searching import Trials

PAUSE: Final = 0.5
"""Seconds between two looks at the display."""
BATCH: Final = 4
"""Branches between two timings of a search for speed, at least."""


class Sweeping:
    """The branches of a sweep as they go on.

    Args:
        job: The sweep.
        display: Where to show them.

    Raises:
        RecipeError: No branch can run, or none makes a bundle.
        ProviderError: A search needs optuna.
    """

    def __init__(self, job: Job, display: Display) -> None:
        self.job, self.display = job, display
        self.folder = Folder(job.out)
        self.store = job.home.store(remote=job.store)
        self.branches: dict[str, Branch] = {}
        self._steps: dict[str, Steps] = {}
        self._refusals: list[RarefyError] = []
        """The errors of the branches that cannot run."""
        self._plans: dict[str, Plan] = {}
        """A plan for each model and data: large files are not hashed again for each branch."""
        self._records = {branch.name: branch for branch in self.folder.branches()}
        search = job.sweep.file.search
        self._for_speed = search is not None and "latency" in search.goals
        self.trials = _trials(job)
        if self.trials is None:
            self._add(variants.grid(job.sweep))
        else:
            self._add(self.trials.variants)
        self._check()

    @cached_property
    def _lease(self) -> Lease:
        return self.store.lease()

    @cached_property
    def clock(self) -> Clock:
        """What times the bundles; once made, it holds the rows that it times."""
        recipe = self.job.sweep.recipe
        return Clock.for_recipe(recipe, self._plan_with_rows, self.job.out, self._directory)

    @property
    def _plan_with_rows(self) -> Plan:
        """The plan of a branch: the recipe's own model, which may be another, need not be there."""
        return next(iter(self._plans.values()))

    @property
    def notes(self) -> list[str]:
        """What is wrong with the times."""
        if not self._plans:
            return []
        return self.clock.notes

    @property
    def waiting(self) -> list[str]:
        """The names of the branches that have yet to run."""
        return [name for name, branch in self.branches.items() if branch.state == "waiting"]

    @property
    def reasons(self) -> dict[str, str]:
        """Why branches have failed or were stopped, by their names."""
        branches = self.branches.values()
        return {branch.name: branch.why for branch in branches if branch.why is not None}

    @property
    def trials_left(self) -> int:
        """How many variants a search may still ask for."""
        if self.trials is None:
            return 0
        return self.trials.left

    @property
    def left(self) -> bool:
        """Whether there are branches to run."""
        return bool(self.waiting) or self.trials_left > 0

    def run(self, workers: Workers) -> None:
        """Run all branches that have not ended."""
        self._begin()
        running: dict[Future[dict[str, Any]], str] = {}
        while True:
            for name in self._next(workers.size, len(running)):
                running[workers.submit(self._assignment(name))] = name
            if not running:
                break
            for future in wait(running, PAUSE, FIRST_COMPLETED).done:
                self._end(running.pop(future), future)
            ended = [branch for branch in self.branches.values() if branch.state in ENDED]
            self.display.progress(len(ended), len(self.branches), "branches")
            if self._for_speed and not running:
                self.time()

    def time(self) -> None:
        """Time the bundles of all branches that are done, beside each other."""
        bundles = {}
        for branch in self.branches.values():
            if branch.state == "done" and branch.bundle is not None:  # 'export' may be off
                bundles[branch.name] = branch.bundle
        if not bundles:
            return
        self.clock.time(bundles.values(), self.display.progress, self.display.say)
        for name, bundle in bundles.items():
            latency = self.clock.times[bundle]
            self._note(self.branches[name].model_copy(update={"latency": latency}))

    def _directory(self, digest: str) -> Path:
        """Return the folder of a bundle, fetched if only the shared store has it."""
        directory = self.store.directory(digest)
        if self.job.store is not None and not directory.is_dir():
            artifacts.pull(self.store, self.job.store, digest)
        return directory

    def _add(self, added: Sequence[Variant]) -> None:
        """Take in variants: plan them, and see which have ended before."""
        records = []
        for one in added:
            branch = Branch(name=one.name, values=one.values)
            self.branches[one.name] = branch
            try:
                loaded = variants.recipe(self.job.sweep, one.values)
                self._steps[one.name] = self._plan(loaded)
            except RarefyError as error:  # values that do not go together, or not on this machine
                branch.state, branch.why = "failed", str(error)
                self._refusals.append(error)
                continue
            record = self._records.get(one.name)
            if record is not None and self._steps[one.name].match(record):
                records.append(record)
        for record in records:
            if self._has_ended(record, records):
                self.branches[record.name] = record

    def _plan(self, loaded: LoadedRecipe) -> Steps:
        """Plan a branch; raises what can be known before it runs."""
        plan = Plan(loaded, self.store, self.job.device, self.job.threads, self.job.first)
        recipe = loaded.recipe
        files = f"{recipe.model} {recipe.allow_pickle} {recipe.data!r}"
        earlier = self._plans.get(files, plan)
        plan.sources = earlier.sources
        plan.located = earlier.located
        plan.importer = earlier.importer
        planned = plan.steps()
        self._plans[files] = plan
        checks.check_size(plan, planned)
        return Steps.from_plan(plan, planned)

    def _has_ended(self, record: Branch, others: Iterable[Branch]) -> bool:
        """Return whether a branch need not run (again)."""
        if record.state == "done":
            return len(record.steps) == len(self._steps[record.name].digests)
        stops = self.job.sweep.file.stop  # they may have changed since
        return record.state == "stopped" and hopeless(stops, record, others) is not None

    def _check(self) -> None:
        """Raise RecipeError if no branch can run, or none makes a bundle."""
        sweep = self.job.sweep
        outputs = [step.stage.produces for step in sweep.recipe.steps]
        if Kind.BUNDLE not in outputs:
            raise RecipeError(
                f"{sweep.path}: no branch makes a bundle, so none can be measured; add the stage "
                f"'export' to {sweep.file.recipe}"
            )
        if not self._steps and self.trials is None:
            raise self._refusals[0]

    def _begin(self) -> None:
        """Write what was found out when the branches were planned."""
        for branch in list(self.branches.values()):
            self._note(branch)  # others would be judged by what it was
            if branch.state == "failed":
                self._say(branch)
        if self.trials is not None and self.trials.measured.intersection(self.waiting):
            self.trials.restart()  # a result came from other data or code
            self.branches.clear()

    def _note(self, branch: Branch) -> None:
        """Note what is known of a branch: on disk, and in the search."""
        self.branches[branch.name] = branch
        self.folder.write(branch)
        if branch.bundle is not None:
            self.store.use(branch.bundle, self._lease)  # it is safe from ``gc`` meanwhile
        if self.trials is not None:
            self.trials.tell(branch)

    def _next(self, workers: int, running: int) -> list[str]:
        """Return the branches to start now.

        Where no lock reaches, the first runs before the others, which find in the store what they
        share with it.
        """
        first = self.job.apart and not any(branch.steps for branch in self.branches.values())
        if running and (first or self._for_speed):
            return []
        room = workers - running
        if first:
            room = 1
        elif self._for_speed:
            room = max(workers, BATCH)
        while self.trials is not None and len(self.waiting) < room:
            one = self.trials.ask()
            if one is None:
                break
            self._add([one])
            if self.branches[one.name].state != "waiting":  # it cannot run, or has ended before
                self._note(self.branches[one.name])
        names = self.waiting[:room]
        for name in names:
            self.branches[name].state = "running"
        return names

    def _assignment(self, name: str) -> dict[str, Any]:
        """Return what a worker needs to run a branch."""
        job, values = self.job, self.branches[name].values
        # The tags that budgets name are of our own store, and branches are not judged.
        loaded = variants.recipe(job.sweep, {**values, "budgets": []})
        assignment = Assignment(
            name=name,
            values=values,
            text=loaded.text,
            threads=job.threads,
            device=job.device,
            store=job.store,
            stops=job.sweep.file.stop,
            environments=self._steps[name].environments,
        )
        if job.apart:
            path = job.out / "recipes" / f"{name}.yaml"
            path.parent.mkdir(exist_ok=True)
            disk.write_text(path, assignment.text)
            assignment.source = recipe_source.send(path, str(job.store), loaded.base)
            assignment.others = [branch for branch in self.branches.values() if branch.steps]
        else:
            assignment.base = loaded.base
            assignment.home = job.home.path.resolve()
            assignment.folder = job.out.resolve()
        return assignment.model_dump(mode="json", by_alias=True)

    def _end(self, name: str, future: Future[dict[str, Any]]) -> None:
        """Note what became of a branch; one that was given up has failed."""
        try:
            branch = Branch.model_validate(future.result())
        except Exception as error:
            text = redact(f"{type(error).__name__}: {error}")
            reason = text.partition("\n")[0]
            failed = {"state": "failed", "why": f"given up: {reason}"}
            branch = self.branches[name].model_copy(update=failed)
        self._note(branch)
        self._say(branch)

    def _say(self, branch: Branch) -> None:
        """Show a branch that has ended."""
        result = branch.why or branch.facts
        line = f"{branch.name:<32} {branch.state:<8} {result}; {branch.seconds:.1f} s"
        self.display.say(line)


def _trials(job: Job) -> Trials | None:
    """Open the study of a search. Raises ProviderError if optuna is not installed."""
    if job.sweep.file.search is None:
        return None
    if find_spec("optuna") is None:
        raise ProviderError(f"a search needs optuna: {extras.remedy('sweep')}")
    from rarefy.flows.sweep.searching import Trials

    return Trials(job.sweep.file, job.out)
