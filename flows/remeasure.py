"""Measure a bundle that exists already, on this machine, with a recipe's data and references."""

from __future__ import annotations

import json
import shlex
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from flows.bundles import Bundle
from flows.options import Home
from pipeline.artifact import Artifact, Kind
from pipeline.errors import EvidenceError, ModelError, RecipeError

if TYPE_CHECKING:
    from pipeline.engine import Run
    from pipeline.measure.measurements import Measurements
    from stages.validate import Validate

Progress = Callable[[float, float, str], None]


def recipe_of(reference: str, recipe: Path | None, home: Home) -> Path:
    """Return the recipe that was named, else the one that made the run ``reference``.

    Raises RecipeError where neither is there.
    """
    if recipe is not None:
        return recipe
    for folder in (home.runs / reference, Path(reference), Path(reference).parent):
        record = folder / "run.json"  # a bundle has one too, but of the stage that made it
        if record.is_file() and (command := json.loads(record.read_text()).get("command")):
            return Path(shlex.split(command)[-1])
    raise RecipeError(f"{reference}: is not a run, so say the recipe with --recipe")


def measure(run: Run, bundle: Bundle, progress: Progress) -> Measurements:
    """Measure a bundle beside those checkpoints of the recipe's chain that the store has.

    Raises ModelError where the bundle has other labels than the data, EvidenceError where a
    budget compares with a checkpoint that is not made yet.
    """
    from pipeline.measure.measurements import Measurements
    from pipeline.stage import Context

    check_labels(bundle, run.labels)
    stage, references = _stage(run)
    # One folder for all such runs: it keeps the references that were exported before.
    with (
        run.store.lock("validate"),
        tempfile.TemporaryDirectory(prefix="rarefy-validate-") as output,
    ):
        context = Context(
            task=run.task,
            splits={"eval": run.splits["eval"]},
            seed=run.loaded.recipe.seed,
            device=run.device,
            threads=run.threads,
            work=run.store.work("validate"),
            output=Path(output),
            artifacts=references,
            base=run.loaded.base,
            asked=run.asked,
            baselines=run.baselines,
            progress=progress,
        )
        draft = stage.run(context, bundle.artifact)
        name = next(name for name, role in draft.roles.items() if role == "measurements")
        return Measurements.model_validate_json((Path(output) / name).read_bytes())


def check_labels(bundle: Bundle, labels: list[str]) -> None:
    """Raise ModelError where a bundle does not answer with just these labels, in this order."""
    try:
        named = json.loads((bundle.directory / "config.json").read_text())["id2label"]
    except (OSError, ValueError, KeyError):
        raise ModelError(f"{bundle.name}: the bundle's config.json names no labels") from None
    own = [named[key] for key in sorted(named, key=int)]
    if own != labels:
        raise ModelError(
            f"{bundle.name}: answers with the labels {', '.join(own)}; "
            f"the other side has {', '.join(labels)}"
        )


def _stage(run: Run) -> tuple[Validate, dict[str, Artifact]]:
    """Return the recipe's own validate stage (or the default) and the references it can have."""
    from stages.validate import Validate

    planned = run.plan()
    wanted = [step for step in planned if isinstance(step.stage, Validate)]
    stage = wanted[-1].stage if wanted else Validate()
    assert isinstance(stage, Validate)
    chain = run.ancestors(run.loaded.step(wanted[-1].id)) if wanted else [s.id for s in planned]
    found = {
        step.id: step.artifact
        for step in planned
        if step.artifact is not None
        and step.kind is Kind.CHECKPOINT
        and step.id in (chain if stage.models == "all" else stage.models)
    }
    missing = [
        budget.against
        for budget in run.loaded.recipe.budgets
        if budget.against and budget.against not in found
    ]
    if missing:
        raise EvidenceError(
            f"a budget compares with {missing[0]!r}, which is no checkpoint in this store: "
            f"`rarefy run {run.loaded.path}` makes it"
        )
    return stage.model_copy(update={"models": tuple(found)}), found
