"""Measure a bundle that exists already, on this machine, with a recipe's data and references."""

from __future__ import annotations

import hashlib
import json
import shlex
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from flows.bundles import Bundle
from flows.options import Home
from pipeline import baselines
from pipeline.artifact import Artifact, Kind, canonical_json, file_sha256
from pipeline.errors import EvidenceError, IntegrityError, RecipeError
from pipeline.versions import distribution_version

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
        if record.is_file() and (command := _command(record)):
            words = shlex.split(command)
            return Path(words[2] if words[1] == "ci" else words[-1])
    raise RecipeError(f"{reference}: is not a run, so say the recipe with --recipe")


def _command(record: Path) -> str | None:
    try:
        found: str | None = json.loads(record.read_text()).get("command")
    except (ValueError, AttributeError):
        raise IntegrityError(f"{record}: damaged; say the recipe with --recipe") from None
    return found


def measure(run: Run, bundle: Bundle, progress: Progress) -> Measurements:
    """Measure a bundle beside those checkpoints of the recipe's chain that the store has.

    Raises ModelError where the bundle has other labels than the data, EvidenceError where a
    budget compares with a checkpoint that is not made yet, IntegrityError where the bundle's bytes
    are not those that its manifest, and so the verdict, names.
    """
    from pipeline.measure.measurements import Measurements
    from pipeline.stage import Context

    baselines.check(bundle.name, bundle.directory, run.labels)
    check_bytes(bundle)
    for baseline in run.baselines.values():
        run.check(baseline)
    stage, references = _stage(run)
    # A folder for all runs like this one: it keeps the references that were exported before.
    work = _work(run, stage)
    with (
        run.store.lock("validate"),  # what is timed runs alone
        run.store.lock(work),
        tempfile.TemporaryDirectory(prefix="rarefy-validate-") as output,
    ):
        context = Context(
            task=run.task,
            splits={"eval": run.splits["eval"]},
            seed=run.loaded.recipe.seed,
            device=run.device,
            threads=run.threads,
            work=run.store.work(work),
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


def _work(run: Run, stage: Validate) -> str:
    """Name what the export of a reference depends on beside the reference's own bytes."""
    value = {
        "version": stage.version,
        "rarefy": distribution_version("rarefy"),
        "libraries": {name: distribution_version(name) for name in stage.libraries},
        "task": run.loaded.recipe.task,
        "labels": run.labels,
        "reading": run.reading,
    }
    return f"validate-{hashlib.sha256(canonical_json(value)).hexdigest()}"


def check_bytes(bundle: Bundle) -> None:
    """Raise IntegrityError where a file of a bundle is not what its manifest says, if it has one.

    Hashed and not trusted: a store's bundle is opened by its sizes alone.
    """
    for entry in bundle.manifest.files if bundle.manifest else ():
        path = bundle.directory / entry.path
        if not path.is_file() or file_sha256(path) != entry.sha256:
            raise IntegrityError(
                f"{bundle.name}: {entry.path} is not the file that the bundle's manifest.json "
                "names: what is measured would not be what the verdict says"
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
        for budget in run.budgets
        if budget.against and budget.against not in found | run.baselines
    ]
    if missing:
        raise EvidenceError(
            f"a budget compares with {missing[0]!r}, which is no checkpoint in this store: "
            f"`rarefy run {run.loaded.path}` makes it"
        )
    return stage.model_copy(update={"models": tuple(found)}), found
