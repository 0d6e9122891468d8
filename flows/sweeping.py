"""The coordinator of a sweep: hands branches to workers, then measures and answers.

Workers run all branches beside each other, as far as they share steps after each other. Then, with
the machine for itself, the coordinator times their bundles and runs the recipes that were chosen
(``flows/sweep_answers.py``). What is known of each branch is on disk at every moment, so a sweep
that was interrupted goes on.
"""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Final

from flows import recipe_source, searching, shared_steps
from flows.branch import Assignment
from flows.searching import Trials
from flows.shared_steps import Order, Steps, Work
from flows.sweep_display import SweepDisplay
from flows.sweep_job import Job
from flows.sweep_timing import Clock
from flows.workers import Workers
from pipeline.recipe.recipe import LoadedRecipe
from pipeline.run import check_machine
from pipeline.run.importing import ImportModel
from pipeline.run.plan import Plan
from pipeline.stage.development import NAME
from pipeline.stage.locating import Located
from pipeline.stage.table_file import Source
from pipeline.store import disk, remote
from pipeline.store.lease import Lease
from pipeline.store.store import Store
from pipeline.sweep import variants
from pipeline.sweep.branch import Branch, Folder, hopeless
from pipeline.sweep.variants import Variant
from pipeline.terms.credentials import redact
from pipeline.terms.errors import EvidenceError, RarefyError, RecipeError
from pipeline.terms.interval import Interval

ROWS: Final = "rows.json"
SOON: Final = 1.0
"""Seconds of planning without a word."""
PAUSE: Final = 0.5
"""Seconds between two looks at what the branches say."""
TRIES: Final = 3
"""How often a branch is started whose worker dies."""
BATCH: Final = 4
"""Branches between two timings of a search for speed, at least."""


@dataclass
class Sweeping:
    """The branches of a sweep as they go on."""

    job: Job
    shown: SweepDisplay
    branches: dict[str, Branch] = field(default_factory=dict)
    disturbed: int = 0
    """How many of the last timing's bundles something slowed down each time."""
    _steps: dict[str, Steps] = field(default_factory=dict)
    _recipes: dict[str, LoadedRecipe] = field(default_factory=dict)
    _waiting: deque[str] = field(default_factory=deque)
    _tries: Counter[str] = field(default_factory=Counter)
    _sources: dict[str, dict[str, Source]] = field(default_factory=dict)
    """The data's files, by what recipes say of them."""
    _models: dict[str, tuple[Located, ImportModel]] = field(default_factory=dict)
    """The models that branches start from, by what recipes say of them."""
    _rows: str | None = None
    """The digest of the development rows, which steps need not read, but branches are scored on."""

    def __post_init__(self) -> None:
        sweep = self.job.sweep
        self.folder = Folder(self.job.out)
        self.trials: Trials | None = None
        if sweep.file.search is not None:
            searching.check()
            self.trials = Trials.open(self.job.out, sweep.file.search, sweep.file.vary)
        self._found = {branch.name: branch for branch in self.folder.branches()}
        rows = self.job.out / ROWS
        self._scored_on = disk.read(rows, "dev") if rows.exists() else None
        self._unkept: list[str] = []
        self._refused: RarefyError | None = None  # why the first branch that cannot run cannot
        self._expect(self.trials.asked if self.trials else variants.grid(sweep))
        self._check()
        self._order = Order(self._steps)
        self.shown.known(self.branches.values())

    @cached_property
    def store(self) -> Store:
        return self.job.home.store(remote=self.job.store)

    @cached_property
    def _lease(self) -> Lease:
        return self.store.lease()

    @cached_property
    def clock(self) -> Clock:
        """What times the bundles, if there are any; once made, it holds the rows that it times."""
        return Clock.of(self.job.sweep.recipe, self._done, self.job.out, self.directory)

    @cached_property
    def _done(self) -> Plan:
        """The plan of a branch that has made its bundle."""
        done = next(b.name for b in self.branches.values() if b.state == "done" and b.bundle)
        return Plan(self._recipes[done], self.store, self.job.device, first=self.job.first)

    @property
    def warnings(self) -> list[str]:
        """What is wrong with the development rows, by which everything is chosen here."""
        if not any(b.state == "done" and b.bundle for b in self.branches.values()):
            return []
        return [each for each in self._done.summary.warnings if each.startswith(f"{NAME}:")]

    @property
    def left(self) -> bool:
        """Whether there are branches to run."""
        return bool(self._waiting) or (self.trials is not None and self.trials.left > 0)

    @property
    def work(self) -> Work:
        """How much the branches have in common, and how much is left."""
        over = self._steps.keys() - self._waiting
        return Work.of(self._steps, over)

    def directory(self, digest: str) -> Path:
        """Return the folder of a bundle, fetched if only the shared store has it."""
        if self.job.store is not None and not self.store.directory(digest).is_dir():
            remote.pull(self.store, self.job.store, digest)
        return self.store.directory(digest)

    def run(self, workers: Workers) -> None:
        """Run all branches that have not ended. Raises EvidenceError if none is done."""
        self._begin()
        self._common_first(workers)
        running: dict[Future[dict[str, Any]], str] = {}
        started = 0  # since the last timing
        while True:
            batch = max(workers.size, BATCH) if self._timed_search else None
            while len(running) < workers.size and started != batch:
                name = self._next(running.values())
                if name is None:
                    break
                started += 1
                running[workers.submit(self._assignment(name).given())] = name
                self._look(running.values())
            if not running and started and started == batch:
                self._keep_times(lambda clock: clock.also)
                started = 0
                continue
            if not running:
                break
            for future in wait(running, PAUSE, FIRST_COMPLETED).done:
                self._ended(running.pop(future), future)
            self._look(running.values())
        if not any(branch.state == "done" for branch in self.branches.values()):
            raise EvidenceError(f"no branch came to its end: {self._reason()}")

    def time(self) -> None:
        """Time the bundles of all branches that are done, beside each other."""
        self._begin()
        self._keep_times(lambda clock: clock.together)

    @property
    def _timed_search(self) -> bool:
        search = self.job.sweep.file.search
        return search is not None and "latency" in search.goals

    def _keep_times(self, way: Callable[[Clock], Callable[..., Mapping[str, Interval]]]) -> None:
        done = {b.name: b.bundle for b in self.branches.values() if b.state == "done" and b.bundle}
        if not done:
            return
        digests = list(dict.fromkeys(done.values()))
        times = way(self.clock)(digests, self.shown.progress, self.shown.say)
        self.disturbed = len(self.clock.doubtful)
        for name, digest in done.items():
            self._keep(self.branches[name].model_copy(update={"latency": times[digest]}))

    def _expect(self, asked: Sequence[Variant]) -> None:
        """Take in variants: plan them, and see which have ended before."""
        began, said = time.monotonic(), f"planning {len(asked)} branches"
        slow = False
        for at, one in enumerate(asked):
            if time.monotonic() - began > SOON:
                if not slow:
                    self.shown.say(said, "dim")
                slow = True
                self.shown.progress(at, len(asked), said)
            self.branches[one.name] = Branch(name=one.name, values=one.values)
            try:
                loaded = variants.recipe(self.job.sweep, one)
                self._steps[one.name] = self._planned(loaded)
                self._recipes[one.name] = loaded
            except RarefyError as error:  # values that do not go together, or not on this machine
                self._refused = self._refused or error
                failed = {"state": "failed", "why": str(error)}
                self.branches[one.name] = self.branches[one.name].model_copy(update=failed)
                self._unkept.append(one.name)
        planned = [one.name for one in asked if one.name in self._steps]
        known = {name: self._found[name] for name in planned if self._still(name)}
        for name in planned:
            if name in known and self._is_over(known[name], known.values()):
                self.branches[name] = known[name]
                continue
            self._waiting.append(name)
            if name in self._found and name not in known:
                self._unkept.append(name)  # others would be judged by what it was

    def _check(self) -> None:
        """Raise the error of the first branch if none can run, RecipeError if none is measured."""
        sweep = self.job.sweep
        planned = list(self._steps.values())
        if self.trials is not None:
            try:
                planned.append(self._planned(sweep.recipe))
            except RarefyError:
                return  # values that are not asked for yet may fit all the same
        elif not planned:
            kind = type(self._refused) if self._refused else RecipeError
            raise kind(f"{sweep.path}: no combination of values can run: {self._reason()}")
        shared_steps.check(sweep, planned)

    def _planned(self, loaded: LoadedRecipe) -> Steps:
        """Plan a branch; raises what can be known before it runs."""
        plan = Plan(loaded, self.store, self.job.device, first=self.job.first)
        plan.threads = self.job.threads
        files = loaded.recipe.data.model_dump_json()
        if files in self._sources:  # large files are not hashed again for each branch
            plan.sources = self._sources[files]
        model = f"{loaded.recipe.allow_pickle} {loaded.recipe.model}"
        if model in self._models:  # nor are gigabytes of weights
            plan.located, plan.importer = self._models[model]
        planned = plan.steps()
        self._sources[files] = plan.sources
        self._models[model] = plan.located, plan.importer
        self._rows = plan.sources[NAME].sha256
        check_machine.check(plan, planned)
        return Steps.of(plan, planned)

    def _still(self, name: str) -> bool:
        """Return whether what is known of a branch comes from data and code as they are now."""
        found = self._found.get(name)
        if found is None or self._scored_on != self._rows:
            return False
        return self._steps[name].begin_with(found.steps)

    def _is_over(self, branch: Branch, known: Iterable[Branch]) -> bool:
        """Return whether a branch need not run (again)."""
        if branch.state == "done":
            return len(branch.steps) == len(self._steps[branch.name].keys)
        stops = self.job.sweep.file.stop  # they may have changed since
        return branch.state == "stopped" and hopeless(stops, branch, known) is not None

    def _begin(self) -> None:
        """Write what was found out when the branches were planned; protect what is done."""
        for name in self._unkept:
            self.folder.keep(self.branches[name])
        self._unkept.clear()
        if self._scored_on != self._rows:
            disk.write(self.job.out / ROWS, {"dev": self._rows})
            self._scored_on = self._rows
        for branch in self.branches.values():
            if branch.state == "done":
                self._protect(branch)

    def _next(self, running: Iterable[str]) -> str | None:
        """Return the branch to start now, None if there is none."""
        while not self._waiting and self.trials is not None:
            one = self.trials.ask(self.branches)
            if one is None:
                return None
            self._expect([one])  # it may be that it cannot run
            self._begin()
        if not self._waiting:
            return None
        name = self._order.next(self._waiting, running)
        self._waiting.remove(name)
        self.branches[name] = self.branches[name].model_copy(update={"state": "running"})
        return name

    def _assignment(self, name: str, until: str | None = None) -> Assignment:
        job, branch, loaded = self.job, self.branches[name], self._recipes[name]
        stops = [stop.model_dump(mode="json") for stop in job.sweep.file.stop]
        asked = Assignment(
            name=name,
            values=branch.values,
            text=loaded.text,
            threads=job.threads,
            device=job.device,
            store=job.store,
            first=job.first,
            stops=stops,
            environments=dict(self._steps[name].environments),
            until=until,
        )
        if not job.apart:
            return replace(
                asked,
                base=str(loaded.base),
                home=str(job.home.path.resolve()),
                folder=str(job.out.resolve()),
            )
        path = job.out / "recipes" / f"{name}.yaml"
        path.parent.mkdir(exist_ok=True)
        text = variants.without_budgets(loaded)  # the tags that they name are of our own store
        disk.write_text(path, text)
        others = [b for b in self.branches.values() if stops and b.steps]
        return replace(
            asked,
            text=text,
            source=recipe_source.send(path, str(job.store), loaded.base),
            others=[other.model_dump(mode="json", by_alias=True) for other in others],
        )

    def _common_first(self, workers: Workers) -> None:
        """Have one worker run what all branches share, if no lock keeps others from doing it too.

        Locks are files, which machines that share only a store do not see.
        """
        if not self.job.apart or not self._waiting or self.trials is not None:
            return
        name = self._waiting[0]
        until = shared_steps.common(list(self._steps.values()))
        if until is None or until in self._steps[name].made:
            return
        self.shown.say(f"first, what all branches share: the steps up to {until}", "dim")
        for attempt in range(TRIES):
            try:
                made = workers.submit(self._assignment(name, until).given()).result()
            except Exception:
                if attempt == TRIES - 1:
                    raise
            else:
                self._order.finished(name, [row["id"] for row in made["steps"]])
                return

    def _ended(self, name: str, future: Future[dict[str, Any]]) -> None:
        """Note what became of a branch; start it again if its worker died."""
        try:
            branch = Branch.model_validate(future.result())
        except Exception as error:
            self._tries[name] += 1
            why = redact(next(iter(str(error).splitlines()), type(error).__name__))
            branch = self.branches[name].model_copy(update={"state": "waiting", "step": None})
            if self._tries[name] < TRIES:
                self.shown.say(f"{name}: {why}; trying again", "yellow")
                self.branches[name] = branch
                self._waiting.appendleft(name)
                return
            branch = branch.model_copy(
                update={"state": "failed", "why": f"given up after {TRIES} attempts: {why}"}
            )
        self._order.finished(name, [step.id for step in branch.steps])
        self._keep(branch)
        self._protect(branch)

    def _protect(self, branch: Branch) -> None:
        """Keep a branch's bundle from ``gc`` until the sweep ends."""
        if branch.bundle is not None:
            self.store.use(branch.bundle, self._lease)

    def _keep(self, branch: Branch) -> None:
        self.branches[branch.name] = branch
        self.folder.keep(branch)

    def _look(self, running: Iterable[str]) -> None:
        """See how far the branches are, and show it."""
        for name in running:
            found = None if self.job.apart else self.folder.branch(name)
            if found is not None and found.state == "running":
                self.branches[name] = found
                self._order.finished(name, [step.id for step in found.steps])
        self.shown.update(self.branches.values())

    def _reason(self) -> str:
        failed = [b for b in self.branches.values() if b.state == "failed" and b.why]
        stopped = [b for b in self.branches.values() if b.state == "stopped" and b.why]
        first = next(iter([*failed, *stopped]), None)
        return f"{first.name}: {first.why}" if first else "nothing was to run"


def seconds(branches: Sequence[Branch]) -> float:
    """Return the seconds of all steps that branches made, and did not find in the store."""
    return sum(s.seconds for branch in branches for s in branch.steps if not s.cached)
