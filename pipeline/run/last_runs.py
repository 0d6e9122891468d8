"""What the last runs of a step took on this machine: seconds and peak memory, from the store."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from rarefy.pipeline.measure.machine import fingerprint
from rarefy.pipeline.run.plan.plan import Plan
from rarefy.pipeline.stage import Stage
from rarefy.pipeline.store.store import Store
from rarefy.pipeline.terms.digests import value_sha256

LONG = 30
"""Characters of a value that is not shown where it has changed, such as a digest."""


@dataclass(frozen=True)
class LastRun:
    """The last run of a step, or of its stage as another step.

    ``seconds`` are those of the work alone. ``memory`` is that of the largest process at its peak
    in bytes, without a GPU's. ``parameters`` is a digest of the stage's parameters.
    ``dependencies``: all that its output depended on, by dotted name. ``lasts``: see
    ``Draft``.
    """

    recipe: str
    step: str
    seconds: float
    memory: int
    parameters: str
    dependencies: dict[str, str] = field(default_factory=dict)
    lasts: bool = True


def keep(
    plan: Plan,
    identifier: str,
    seconds: float,
    memory: int,
    dependencies: dict[str, Any] | None = None,
    *,
    lasts: bool = True,
) -> None:
    """Note what a step has just taken, in place of its run before and of its stage's.

    It is true of this machine alone, so it bypasses a store that is shared or trusts no notes.

    Args:
        plan: the plan of the run.
        identifier: the id of the step.
        seconds: the seconds that the step's work took.
        memory: the peak memory in bytes.
        dependencies: all that its output depends on (``Plan.dependencies``).
        lasts: whether the result is reused.
    """
    recipe = plan.loaded.recipe.name
    parameters = _parameters(plan.stage_of(identifier))
    flat = fingerprint.flat(dependencies or {})
    run = LastRun(recipe, identifier, seconds, memory, parameters, flat, lasts)
    for key in _keys(plan, identifier):
        Store.keep_note(plan.store, key, asdict(run))


def find(plan: Plan, identifier: str) -> LastRun | None:
    """Return the last run of a step of this recipe, or else of its stage in any recipe.

    Returns None if the stage has not run on this machine, with this device and number of threads.
    """
    for key in _keys(plan, identifier):
        run: LastRun | None
        run = Store.note(plan.store, key, LastRun)
        if run is not None:
            return run
    return None


def is_own(plan: Plan, identifier: str, run: LastRun) -> bool:
    """Return whether it was the run of this step of this recipe."""
    return run.recipe == plan.loaded.recipe.name and run.step == identifier


def changes(run: LastRun, dependencies: dict[str, Any]) -> list[str]:
    """Return what has changed since a run, one phrase each, such as ``libraries.torch: 2.1 → 2.2``.

    Of what is a digest or long, only the name is said.

    Args:
        run: the last run of a step of this recipe.
        dependencies: all that the step's output depends on now (``Plan.dependencies``).
    """
    now = fingerprint.flat(dependencies)
    if not run.dependencies:  # of an earlier version, which did not note them
        return []
    phrases = []
    for name in run.dependencies | now:
        old, new = run.dependencies.get(name, "none"), now.get(name, "none")
        if old == new:
            continue
        if max(len(old), len(new)) > LONG:
            phrases.append(name)
        else:
            phrases.append(f"{name}: {old} → {new}")
    return phrases


def origin(plan: Plan, identifier: str, run: LastRun) -> str:
    """Return which step's run it was: ``this step``, or the name of another recipe's step."""
    if not is_own(plan, identifier, run):
        return f"{run.step} of {run.recipe}"
    if run.parameters != _parameters(plan.stage_of(identifier)):
        return "this step, other parameters"
    return "this step"


def _keys(plan: Plan, identifier: str) -> tuple[str, str]:
    """Return the keys of the notes of a step of this recipe, and of its stage in any recipe."""
    place = {
        "stage": plan.stage_of(identifier).name,
        "machine": fingerprint.digest(fingerprint.fingerprint()),
        "device": plan.device,
        "threads": plan.threads,
    }
    step = place | {"recipe": plan.loaded.recipe.name, "step": identifier}
    return f"took-{value_sha256(step)}", f"took-{value_sha256(place)}"


def _parameters(stage: Stage) -> str:
    return value_sha256(stage.model_dump(mode="json"))
