"""One branch of a sweep: a variant's steps up to its last bundle, in whichever process has it.

A branch is given and answered as plain values, so that any task runner can carry them. It trains
with process-wide random generators and thread counts; of two branches in one process, the second
waits for the first.
"""

from __future__ import annotations

import contextlib
import json
import os
import platform
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flows import jobs, measuring, passing, recipe_source
from flows.jobs import Job
from pipeline.measure import fresh, machine, memory
from pipeline.recipe import recipe as recipes
from pipeline.recipe import yaml_source
from pipeline.recipe.places import Places
from pipeline.recipe.recipe import LoadedRecipe
from pipeline.store import shared
from pipeline.store.artifact import Artifact, Kind
from pipeline.store.home import DEFAULT, VARIABLE, Home
from pipeline.sweep import scoring
from pipeline.sweep.branch import Branch, Folder, StepRow, hopeless
from pipeline.sweep.sweep_file import Stop
from pipeline.terms.credentials import redact
from pipeline.terms.errors import EvidenceError, RarefyError, RecipeError
from stages.validate import Validate

if TYPE_CHECKING:
    from pipeline.run.engine import Finished, Run
    from pipeline.run.plan import Plan

_turn = threading.Lock()


@dataclass(frozen=True)
class Assignment:
    """What a worker is told of a branch, as plain values."""

    name: str
    values: dict[str, Any]
    text: str
    """The variant's recipe, in YAML."""
    threads: int
    device: str
    base: str | None = None
    """The folder that the recipe's paths start from; None: see ``source``."""
    source: str | None = None
    """Where the recipe and the files that it names are fetched from."""
    home: str | None = None
    """None: RAREFY_HOME of the worker, or ``.rarefy`` in its user's home folder."""
    folder: str | None = None
    """The sweep's folder, if worker and coordinator both see it."""
    store: str | None = None
    """The URL of the store through which workers share what they made."""
    first: bool = False
    stops: list[dict[str, Any]] = field(default_factory=list)
    others: list[dict[str, Any]] = field(default_factory=list)
    """Other branches, as they were when this one was handed out; used without ``folder``."""
    environments: dict[str, Any] = field(default_factory=dict)
    """What the steps depend on besides recipe and data, by id, on the coordinator's machine."""
    until: str | None = None
    """The last step to run; what comes after it is another assignment."""

    def given(self) -> dict[str, Any]:
        """Return the assignment as plain values."""
        return asdict(self)


class _Record:
    """What is known of a branch; written to the sweep's folder at every change."""

    def __init__(self, asked: Assignment) -> None:
        self.branch = Branch(
            name=asked.name,
            values=asked.values,
            state="running",
            started=_now(),
            worker=f"{platform.node()}:{os.getpid()}",
        )
        folder = Path(asked.folder) if asked.folder and not asked.until else None
        self._folder = Folder(folder) if folder is not None and folder.is_dir() else None
        self._others = [Branch.model_validate(each) for each in asked.others]
        self.update()

    def update(self, **changes: Any) -> None:
        self.branch = self.branch.model_copy(update=changes)
        if self._folder is not None:
            self._folder.keep(self.branch)

    @property
    def others(self) -> list[Branch]:
        """The other branches, as far as this worker knows them."""
        return self._others if self._folder is None else self._folder.branches()


def run(given: dict[str, Any]) -> dict[str, Any]:
    """Run a branch; return what became of it. An error of its recipe makes it a failed branch.

    Raises errors that may pass (``flows.passing``): the branch is worth another attempt.
    """
    asked = Assignment(**given)
    with _turn, _threads(asked.threads):
        record = _Record(asked)
        try:
            _check_folder(asked)
            with _recipe(asked) as loaded:
                _carry_out(asked, loaded, record)
        except Exception as error:
            if passing.may_pass(error):
                raise
            why = str(error) if isinstance(error, RarefyError) else _unexpected(error)
            record.update(state="failed", why=next(iter(why.splitlines()), ""), ended=_now())
    return record.branch.model_dump(mode="json", by_alias=True)


def needed(plan: Plan) -> list[str]:
    """Return the ids of the steps of a branch, in order: no reports, unless a later step reads one.

    Measurements of a branch are made later, of all branches beside each other.
    """
    kinds, wanted = plan.kinds(), set[str]()
    ids = plan.loaded.ids
    for identifier in reversed(ids):
        if identifier in wanted or kinds[identifier] is not Kind.REPORT:
            wanted.update([identifier, *(parent for _, parent in plan.parents(identifier))])
    return [identifier for identifier in ids if identifier in wanted]


def environments(plan: Plan) -> dict[str, Any]:
    """Return what else the steps of a branch depend on, by id: on its targets or the CPU."""
    found = {each: plan.stage_of(each).environment(plan.asked) for each in needed(plan)}
    values: dict[str, Any] = json.loads(json.dumps(found))  # as they arrive at a worker
    return values


def open_run(asked: Assignment, loaded: LoadedRecipe) -> Run:
    """Plan a branch. Raises the errors that can be known before it runs."""
    home = _home(asked.home)
    job = Job(
        recipe=asked.name,
        home=str(home),
        out="",  # a branch makes no report
        device=asked.device,
        threads=asked.threads,
        command="rarefy sweep",
        first=asked.first,
        store=asked.store,
    )
    run = jobs.open_run(job, loaded)
    run.scored = False  # on eval, which chooses nothing
    return run


def _check_folder(asked: Assignment) -> None:
    """Raise RecipeError if this worker does not see the sweep's folder."""
    if asked.folder is not None and not Path(asked.folder).is_dir():
        raise RecipeError(
            f"{asked.folder}: {platform.node()} has no such folder; let workers share what they "
            "make through --store URL"
        )


def _check_machine(asked: Assignment, plan: Plan) -> None:
    """Raise RecipeError if a step would have another result on the coordinator's machine.

    There, the recipe that answers a question would make another bundle than the branch chosen.
    """
    here = environments(plan)
    for identifier, there in asked.environments.items():
        for fact, (first, second) in machine.differences(there, here[identifier]).items():
            raise RecipeError(
                f"the result of {identifier!r} depends on the machine, and {fact} is {first} where "
                f"the sweep was started and {second} on {platform.node()}; let workers be like the "
                "machine that starts the sweep"
            )


def _home(given: str | None) -> Path:
    return Home.of(given or os.environ.get(VARIABLE) or Path.home() / DEFAULT).path


def _carry_out(asked: Assignment, loaded: LoadedRecipe, record: _Record) -> None:
    run = open_run(asked, loaded)
    _check_machine(asked, run.plan)
    stops = [Stop.model_validate(each) for each in asked.stops]
    ids = needed(run.plan)
    for identifier in ids:
        record.update(step=identifier)
        finished = run.execute(identifier)
        _check_kept(run, finished)
        if asked.store is not None:
            shared.share(run.plan.store, [finished.artifact], asked.store)
        judged = any(stop.after == identifier for stop in stops)
        record.update(steps=[*record.branch.steps, _row(run, finished, judged, record)])
        if asked.until == identifier:
            record.update(state="waiting", step=None)
            return
        why = hopeless(stops, record.branch, record.others) if judged else None
        if why is not None:
            record.update(state="stopped", why=why, ended=_now())
            return
    record.update(**_model(run, ids), state="done", step=None, ended=_now())


def _check_kept(run: Run, finished: Finished) -> None:
    """Raise EvidenceError if a step's result is not found again, as it was timed while disturbed.

    Every other branch would make its own, and so would the run of the recipe that is chosen.
    """
    if run.plan.store.lookup(finished.artifact.manifest.stage.fingerprint) is None:
        raise EvidenceError(
            f"{finished.id}: its result is for this once (`lasts`), as of what was timed while "
            "something slowed the machine down each time; run the sweep again"
        )


def _row(run: Run, finished: Finished, judged: bool, record: _Record) -> StepRow:
    """Return a finished step's row; its model is scored on dev if a rule asks for it."""
    scored = scoring.on_dev(run.plan, finished.artifact, run.check) if judged else None
    if scored is not None:
        record.update(metric=scored[0])
    return StepRow(
        id=finished.id,
        digest=finished.artifact.digest,
        cached=finished.cached,
        seconds=finished.seconds,
        accuracy=scored[1] if scored else None,
    )


def _model(run: Run, ids: Sequence[str]) -> dict[str, Any]:
    """Return what branches are compared by, of the bundle to deliver or else the last model."""
    made = {identifier: run.finished[identifier].artifact for identifier in ids}
    bundle = _delivered(run, made)
    known: dict[str, Any] = {}
    if bundle is not None:
        known |= {"bundle": bundle.digest, "size": memory.size(_here(run, bundle))}
    for artifact in list(made.values())[::-1] if bundle is None else [bundle]:
        scored = scoring.on_dev(run.plan, artifact, run.check)
        if scored is not None:
            return known | {"metric": scored[0], "accuracy": scored[1]}
    return known


def _delivered(run: Run, made: Mapping[str, Artifact]) -> Artifact | None:
    """Return the bundle that the recipe's own run will deliver; None if no step makes one.

    It delivers what its last ``validate`` measures, or else the last (``pipeline.run.outcome``).
    """
    measured = [step.input for step in run.plan.loaded.steps if isinstance(step.stage, Validate)]
    bundles = [name for name, artifact in made.items() if artifact.kind is Kind.BUNDLE]
    chosen = (measured or bundles)[-1:]
    return made[chosen[0]] if chosen else None


def _here(run: Run, artifact: Artifact) -> Path:
    """Return the folder of an artifact, whose files may still be in a remote store."""
    run.check(artifact)
    return artifact.directory


@contextmanager
def _recipe(asked: Assignment) -> Iterator[LoadedRecipe]:
    """Read a variant's recipe; fetch the files that it names if they are elsewhere."""
    if asked.source is None:
        yield parsed(asked.text, Path(asked.base or "."), asked.name)
        return
    with tempfile.TemporaryDirectory(prefix="rarefy-sweep-") as folder:
        path = recipe_source.fetch(asked.source, Path(folder))
        yield parsed(asked.text, path.parent, asked.name)


def parsed(text: str, base: Path, name: str) -> LoadedRecipe:
    """Return the recipe in a text, whose paths start from ``base``; ``name`` is for errors."""
    document = yaml_source.parse(text.encode(), name)
    return recipes.check(document.values, text, base, Places(name, document.lines), None)


@contextmanager
def _threads(count: int) -> Iterator[None]:
    """Let torch and the BLAS libraries use ``count`` threads; results depend on their number.

    Dask and Ray set the environment variables of their workers to one thread, others to none.
    """
    import torch
    from threadpoolctl import threadpool_limits

    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        with threadpool_limits(count):
            yield
    finally:
        torch.set_num_threads(before)


def end_with(parent: int) -> None:
    """End this process when its parent has died: nobody waits for its branch any more."""

    def look() -> None:
        while os.getppid() == parent:
            threading.Event().wait(1.0)
        os._exit(1)

    if hasattr(os, "getppid") and os.name != "nt":  # on Windows, a parent's number stays
        threading.Thread(target=look, daemon=True).start()


def in_process(given: dict[str, Any], tick: Callable[[], None]) -> dict[str, Any]:
    """Run a branch in a fresh process; ``tick`` is called meanwhile, and may raise to end it.

    Raises EvidenceError if the process dies.
    """
    return fresh.call(
        __name__,
        {"given": given, "parent": os.getpid()},
        what=f"branch {given['name']}",
        timeout=float("inf"),
        threads=given["threads"],
        tick=tick,
    )


def _serve(request: dict[str, Any]) -> dict[str, Any]:
    end_with(request["parent"])
    home = Home(_home(request["given"].get("home")))
    with contextlib.suppress(KeyboardInterrupt), measuring.limited(home):
        return run(request["given"])
    raise SystemExit(130)


def _unexpected(error: Exception) -> str:
    return redact(f"unexpected {type(error).__name__}: {error}")


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")


if __name__ == "__main__":
    fresh.serve(_serve)
