"""One branch of a sweep: a variant's steps up to its last bundle.

A branch is given and returned as plain values, so that any task runner can carry them. It runs in a
process of its own (``run_in_process``): training uses random generators and thread counts that a
whole process has in common.
"""

from __future__ import annotations

import contextlib
import json
import os
import platform
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, Field

from rarefy.flows.run import job as jobs
from rarefy.flows.run.job import Job
from rarefy.flows.server import measuring, retry
from rarefy.flows.sharing import recipe_source
from rarefy.pipeline.data.development_split import NAME
from rarefy.pipeline.measure import fresh_process, machine
from rarefy.pipeline.measure.memory import memory
from rarefy.pipeline.recipe import recipe as recipes
from rarefy.pipeline.recipe import yaml_file
from rarefy.pipeline.recipe.recipe import LoadedRecipe
from rarefy.pipeline.recipe.yaml_file import Places
from rarefy.pipeline.store.artifact import Artifact, Kind
from rarefy.pipeline.store.home import DEFAULT, VARIABLE, Home
from rarefy.pipeline.store.remote import shared_store
from rarefy.pipeline.sweep import fields, scoring
from rarefy.pipeline.sweep.branch import Branch, Folder, StepRow, hopeless
from rarefy.pipeline.sweep.file import Stop
from rarefy.pipeline.terms.credentials import redact
from rarefy.pipeline.terms.errors import EvidenceError, RarefyError, RecipeError
from rarefy.stages.validate import Validate

if TYPE_CHECKING:
    from rarefy.pipeline.run.engine import Finished, Run
    from rarefy.pipeline.run.plan.plan import Plan


class Assignment(BaseModel):
    """What a worker needs to run a branch."""

    name: str
    values: dict[str, Any]
    text: str = Field(description="the variant's recipe, in YAML, without budgets")
    threads: int
    device: str
    base: Path | None = Field(
        default=None, description="the folder that the recipe's paths start from; None: see source"
    )
    source: str | None = Field(
        default=None, description="where the files that the recipe names are fetched from"
    )
    home: Path | None = Field(
        default=None, description="None: RAREFY_HOME of the worker, or .rarefy in its user's home"
    )
    folder: Path | None = Field(
        default=None, description="the sweep's, if worker and coordinator both see it"
    )
    store: str | None = Field(
        default=None, description="the store through which workers share what they made"
    )
    stops: tuple[Stop, ...] = ()
    others: list[Branch] = Field(
        default=[],
        description="other branches, as they were when this one was handed out; without folder",
    )
    environments: dict[str, Any] = Field(
        default={},
        description="what the steps depend on besides recipe and data, where the sweep was started",
    )


class _Record:
    """What is known of a branch; written to the sweep's folder at every change."""

    def __init__(self, assignment: Assignment) -> None:
        self._others = assignment.others
        self._folder: Folder | None = None
        if assignment.folder is not None and assignment.folder.is_dir():
            self._folder = Folder(assignment.folder)
        self.branch = Branch(
            name=assignment.name,
            values=assignment.values,
            state="running",
            worker=f"{platform.node()}:{os.getpid()}",
        )
        self.update()

    def update(self, **changes: Any) -> None:
        """Change some fields of the branch."""
        self.branch = self.branch.model_copy(update=changes)
        if self._folder is not None:
            self._folder.write(self.branch)

    @property
    def others(self) -> list[Branch]:
        """The other branches, as far as this worker knows them."""
        if self._folder is None:
            return self._others
        return self._folder.branches()


def run(values: dict[str, Any]) -> dict[str, Any]:
    """Run a branch in this process, whose threads it sets: results depend on their number.

    Dask and Ray set the environment variables of their workers to one thread, others to none.

    Args:
        values: The fields of an ``Assignment``.

    Returns:
        The fields of a ``Branch``. An error of its recipe makes it a failed branch.

    Raises:
        Exception: An error that may pass (``rarefy.flows.server.retry``): the branch is worth
        another attempt.
    """
    import torch
    from threadpoolctl import threadpool_limits

    assignment = Assignment.model_validate(values)
    record = _Record(assignment)
    try:
        _check_folder(assignment)
        torch.set_num_threads(assignment.threads)
        with threadpool_limits(assignment.threads), _recipe(assignment) as loaded:
            _run_steps(assignment, loaded, record)
    except Exception as error:
        if retry.may_pass(error):
            raise
        reason = str(error)
        if not isinstance(error, RarefyError):
            reason = redact(f"unexpected {type(error).__name__}: {error}")
        record.update(state="failed", why=reason.partition("\n")[0])
    return record.branch.model_dump(mode="json", by_alias=True)


def environments(plan: Plan) -> dict[str, Any]:
    """Return what else the steps of a branch depend on, by id: on its targets or the CPU."""
    values = {}
    for identifier in fields.steps_of_branch(plan.loaded):
        values[identifier] = plan.stage_of(identifier).environment(plan.requirements)
    plain: dict[str, Any] = json.loads(json.dumps(values))  # as they arrive at a worker
    return plain


def open_run(assignment: Assignment, loaded: LoadedRecipe) -> Run:
    """Plan a branch. Raises the errors that can be known before it runs."""
    job = Job(
        recipe=assignment.name,
        home=str(_home(assignment.home).path),
        out="",  # a branch makes no report
        device=assignment.device,
        threads=assignment.threads,
        command="rarefy sweep",
        store=assignment.store,
    )
    run = jobs.open_run(job, loaded)
    run.scored = False  # on eval, which chooses nothing
    return run


def _check_folder(assignment: Assignment) -> None:
    """Raise RecipeError if this worker does not see the sweep's folder."""
    folder = assignment.folder
    if folder is not None and not folder.is_dir():
        raise RecipeError(
            f"{folder}: {platform.node()} has no such folder; let workers share results "
            "through --store URL"
        )


def _check_machine(assignment: Assignment, plan: Plan) -> None:
    """Raise RecipeError if a step would have another result on the coordinator's machine.

    There, the recipe that answers a question would make another bundle than the branch chosen.
    """
    here = environments(plan)
    for identifier, there in assignment.environments.items():
        differences = machine.differences(there, here[identifier])
        for fact, (theirs, ours) in differences.items():
            node = platform.node()
            raise RecipeError(
                f"the result of {identifier!r} depends on the machine, and {fact} is {theirs} "
                f"where the sweep was started and {ours} on {node}; use workers with the same CPU "
                "and libraries as the machine that starts the sweep"
            )


def _run_steps(assignment: Assignment, loaded: LoadedRecipe, record: _Record) -> None:
    run = open_run(assignment, loaded)
    _check_machine(assignment, run.plan)
    record.update(rows=run.plan.sources[NAME].sha256)
    steps = fields.steps_of_branch(loaded)
    stops = assignment.stops
    judged = {stop.after for stop in stops}
    for identifier in steps:
        record.update(step=identifier)
        finished = run.execute(identifier)
        _check_lasts(run, finished)
        if assignment.store is not None:
            shared_store.share(run.plan.store, [finished.artifact], assignment.store)
        row = StepRow(
            id=identifier,
            digest=finished.artifact.digest,
            cached=finished.cached,
            seconds=finished.seconds,
        )
        if identifier in judged:
            score = _score(run, finished.artifact)
            row.accuracy = score.get("accuracy")
            record.update(metric=score.get("metric"))
        record.update(steps=[*record.branch.steps, row])
        reason = identifier in judged and hopeless(stops, record.branch, record.others)
        if reason:
            record.update(state="stopped", why=reason)
            return
    record.update(**_result(run, steps), state="done", step=None)


def _check_lasts(run: Run, finished: Finished) -> None:
    """Raise EvidenceError if a step's result is not found again, as it was timed while disturbed.

    Every other branch would make its own, and so would the run of the recipe that is chosen.
    """
    fingerprint = finished.artifact.manifest.stage.fingerprint
    if run.plan.store.lookup(fingerprint) is None:
        raise EvidenceError(
            f"{finished.id}: timing was disturbed in every attempt, so the result was not stored; "
            "run the sweep again on a quiet machine"
        )


def _score(run: Run, artifact: Artifact) -> dict[str, Any]:
    """Return the main metric of a model and its value on the development rows."""
    scored = scoring.on_dev(run.plan, artifact, run.check)
    if scored is None:
        return {}
    return {"metric": scored[0], "accuracy": scored[1]}


def _result(run: Run, steps: Sequence[str]) -> dict[str, Any]:
    """Return what branches are compared by, of the bundle that the recipe's own run delivers.

    It delivers what its last ``validate`` measures, or else the last
    (``rarefy.pipeline.run.outcome``). A
    branch without ``export`` has only a score, of its last model.
    """
    bundle = None
    for identifier in steps:
        artifact = run.finished[identifier].artifact
        if artifact.kind is Kind.BUNDLE:
            bundle = artifact
    for step in run.plan.loaded.steps:
        if isinstance(step.stage, Validate):
            bundle = run.finished[step.input].artifact
    if bundle is None:
        scores = (_score(run, run.finished[identifier].artifact) for identifier in reversed(steps))
        return next(filter(None, scores), {})
    run.check(bundle)  # its files may still be in a remote store
    size = memory.size(bundle.directory)
    return _score(run, bundle) | {"bundle": bundle.digest, "size": size}


@contextmanager
def _recipe(assignment: Assignment) -> Iterator[LoadedRecipe]:
    """Read a variant's recipe; fetch the files that it names if they are elsewhere."""
    with tempfile.TemporaryDirectory(prefix="rarefy-sweep-") as folder:
        base = assignment.base or Path()
        if assignment.source is not None:
            base = recipe_source.fetch(assignment.source, Path(folder)).parent
        document = yaml_file.parse(assignment.text.encode(), assignment.name)
        places = Places(assignment.name, document.lines)
        yield recipes.check(document.values, assignment.text, base, places, None)


def end_with(parent: int) -> None:
    """End this process when its parent has died: nobody waits for its branch any more."""

    def watch() -> None:
        while os.getppid() == parent:
            threading.Event().wait(1.0)
        os._exit(1)

    if os.name != "nt":  # on Windows, a parent's number stays
        threading.Thread(target=watch, daemon=True).start()


def run_in_process(values: dict[str, Any], tick: Callable[[], None]) -> dict[str, Any]:
    """Run a branch in a fresh process; see ``run``.

    Args:
        values: The fields of an ``Assignment``.
        tick: Called a few times per second meanwhile; may raise to end the process.

    Raises:
        EvidenceError: The process died.
    """
    return fresh_process.call(
        __name__,
        {"values": values, "parent": os.getpid()},
        what=f"branch {values['name']}",
        timeout=float("inf"),
        threads=values["threads"],
        tick=tick,
    )


def serve(request: dict[str, Any]) -> dict[str, Any]:
    """Run a branch in the process that ``run_in_process`` starts."""
    end_with(request["parent"])
    values = request["values"]
    with contextlib.suppress(KeyboardInterrupt), measuring.limited(_home(values["home"])):
        return run(values)
    raise SystemExit(130)


def _home(path: Path | str | None) -> Home:
    return Home.of(path or os.environ.get(VARIABLE) or Path.home() / DEFAULT)


if __name__ == "__main__":
    fresh_process.serve(serve)
