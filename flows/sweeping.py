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

from flows import recipe_source
from flows.branch import Assignment
from flows.branch_steps import Steps
from flows.sweep_display import SweepDisplay
from flows.sweep_job import Job
from flows.sweep_timing import Clock
from flows.workers import Workers
from pipeline.recipe.recipe import LoadedRecipe
from pipeline.run import check_machine
from pipeline.run.plan import Plan
from pipeline.stage.development import NAME
from pipeline.store import disk, remote
from pipeline.store.artifact import Kind
from pipeline.store.lease import Lease
from pipeline.sweep import variants
from pipeline.sweep.branch import Branch, Folder, hopeless
from pipeline.sweep.variants import Variant
from pipeline.terms.credentials import redact
from pipeline.terms.errors import EvidenceError, ProviderError, RarefyError, RecipeError
from pipeline.terms.wording import plural

if TYPE_CHECKING:
    from flows.searching import Trials

MANY: Final = 20
"""Branches whose planning is worth a line."""
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

    def __init__(self, job: Job, display: SweepDisplay) -> None:
        self.job, self.display = job, display
        self.folder = Folder(job.out)
        self.store = job.home.store(remote=job.store)
        self.branches: dict[str, Branch] = {}
        self._steps: dict[str, Steps] = {}
        self._recipes: dict[str, LoadedRecipe] = {}
        self._refusals: list[type[RarefyError]] = []
        """The kinds of errors of the branches that cannot run."""
        self._plans: dict[str, Plan] = {}
        """A plan for each model and data: large files are not hashed again for each branch."""
        self._records = {branch.name: branch for branch in self.folder.branches()}
        search = job.sweep.file.search
        self._for_speed = search is not None and "latency" in search.goals
        self.trials = _trials(job)
        self._add(variants.grid(job.sweep) if self.trials is None else self.trials.variants)
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
        """What is wrong with the development rows, or was with this machine."""
        if not self._plans:
            return []
        warnings = self._plan_with_rows.summary.warnings
        notes = [warning for warning in warnings if warning.startswith(f"{NAME}:")]
        if self.clock.doubtful:
            bundles = plural(len(self.clock.doubtful), "bundle")
            notes.append(
                f"the latencies of {bundles} are in doubt: something slowed this machine down each "
                "time; the same command takes them again"
            )
        return notes

    @property
    def waiting(self) -> list[str]:
        """The names of the branches that have yet to run."""
        return [name for name, branch in self.branches.items() if branch.state == "waiting"]

    @property
    def failed(self) -> dict[str, str | None]:
        """Why branches have failed, by their names."""
        branches = self.branches.values()
        return {branch.name: branch.why for branch in branches if branch.state == "failed"}

    @property
    def trials_left(self) -> int:
        """How many variants a search may still ask for."""
        return 0 if self.trials is None else self.trials.left

    @property
    def left(self) -> bool:
        """Whether there are branches to run."""
        return bool(self.waiting) or self.trials_left > 0

    def run(self, workers: Workers) -> None:
        """Run all branches that have not ended. Raises EvidenceError if none is done."""
        self._begin()
        running: dict[Future[dict[str, Any]], str] = {}
        while True:
            for name in self._next(workers.size, len(running)):
                running[workers.submit(self._assignment(name))] = name
            if not running:
                break
            for future in wait(running, PAUSE, FIRST_COMPLETED).done:
                self._end(running.pop(future), future)
            self.display.update(self.branches.values())
            if self._for_speed and not running:
                self.time()
        if not any(branch.state == "done" for branch in self.branches.values()):
            raise EvidenceError(f"no branch came to its end: {self._reason()}")

    def time(self) -> None:
        """Time the bundles of all branches that are done, beside each other."""
        bundles = {}
        for name, branch in self.branches.items():
            if branch.state == "done" and branch.bundle is not None:
                bundles[name] = branch.bundle
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
            remote.pull(self.store, self.job.store, digest)
        return directory

    def _add(self, added: Sequence[Variant]) -> None:
        """Take in variants: plan them, and see which have ended before."""
        if len(added) > MANY:
            self.display.say(f"planning {len(added)} branches", "dim")
        records = []
        for one in added:
            branch = Branch(name=one.name, values=one.values)
            self.branches[one.name] = branch
            try:
                self._recipes[one.name] = variants.recipe(self.job.sweep, one.values)
                self._steps[one.name] = self._plan(self._recipes[one.name])
            except RarefyError as error:  # values that do not go together, or not on this machine
                branch.state, branch.why = "failed", str(error)
                self._refusals.append(type(error))
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
        if files in self._plans:
            earlier = self._plans[files]
            plan.sources = earlier.sources
            plan.located = earlier.located
            plan.importer = earlier.importer
        planned = plan.steps()
        self._plans[files] = plan
        check_machine.check(plan, planned)
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
            reason = self._reason()
            kind = self._refusals[0]
            raise kind(f"{sweep.path}: no combination of values can run: {reason}")

    def _begin(self) -> None:
        """Write what was found out when the branches were planned."""
        if self.trials is not None and self.trials.measured.intersection(self.waiting):
            self.trials.restart()  # a result came from other data or code
        for branch in list(self.branches.values()):
            if branch.state != "waiting" or branch.name in self._records:
                self._note(branch)  # others would be judged by what it was
            if branch.state == "failed":
                self.display.end(branch)

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
        job, loaded = self.job, self._recipes[name]
        assignment = Assignment(
            name=name,
            values=self.branches[name].values,
            text=loaded.text,
            threads=job.threads,
            device=job.device,
            store=job.store,
            first=job.first,
            stops=job.sweep.file.stop,
            environments=self._steps[name].environments,
        )
        if job.apart:
            assignment.text = variants.without_budgets(loaded)  # their tags are of our own store
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
        self.display.end(branch)

    def _reason(self) -> str:
        """Return why the first branch that has not come to its end has not."""
        for state in ("failed", "stopped"):
            for branch in self.branches.values():
                if branch.state == state:
                    return f"{branch.name}: {branch.why}"
        return "nothing was to run"


def _trials(job: Job) -> Trials | None:
    """Open the study of a search. Raises ProviderError if optuna is not installed."""
    if job.sweep.file.search is None:
        return None
    if find_spec("optuna") is None:
        raise ProviderError("a search needs optuna: pip install 'rarefy[sweep]'")
    from flows.searching import Trials

    return Trials(job.sweep.file, job.out)
