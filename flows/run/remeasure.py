"""Measure an existing bundle on this machine, with a recipe's data and references."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, field
from pathlib import Path

from rarefy.pipeline.measure import exclusive
from rarefy.pipeline.measure.measurements import Measurements
from rarefy.pipeline.measure.predictions import files as answers
from rarefy.pipeline.recipe.recipe import MODEL, LoadedRecipe
from rarefy.pipeline.release import bundles, origin, verdicts
from rarefy.pipeline.release.bundles import Bundle
from rarefy.pipeline.run import engine
from rarefy.pipeline.run.engine import Run
from rarefy.pipeline.run.plan import baselines
from rarefy.pipeline.run.plan.plan import Plan
from rarefy.pipeline.store.artifact import Artifact, Kind
from rarefy.pipeline.store.home import Home
from rarefy.pipeline.terms.errors import EvidenceError, RarefyError, RecipeError
from rarefy.pipeline.terms.progress import Progress, silent
from rarefy.pipeline.verdict import between_sessions, candidates
from rarefy.pipeline.verdict.history import FILE
from rarefy.pipeline.verdict.judge import judge
from rarefy.pipeline.verdict.verdict import Verdict
from rarefy.stages.validate import Validate


@dataclass(frozen=True)
class Validated:
    """A bundle measured again on this machine, and the verdict on a recipe's budgets."""

    bundle: Bundle
    verdict: Verdict
    measurements: Measurements
    warnings: list[str]
    absent: list[str] = field(default_factory=list)
    """Tags of budgets that do not exist yet, so nothing was compared with them."""
    unrecorded: RarefyError | None = None
    """Why a verdict that is not a pass could not be added to the history."""

    def exit_code(self, strict: bool) -> int:
        """Return the exit code of the verdict, but never 0 if it is missing in the history."""
        code = self.verdict.exit_code(strict)
        if code == 0 and self.unrecorded is not None:
            return self.unrecorded.exit_code
        return code


def validate(
    reference: str,
    home: Home,
    *,
    recipe: LoadedRecipe | Path | None = None,
    device: str = "cpu",
    first: bool = False,
    progress: Progress = silent,
) -> Validated:
    """Measure a bundle again, judge it by a recipe's budgets, and record the verdict.

    Args:
        reference: The bundle: its digest, tag, folder or run.
        home: The folder of the store and of the history.
        recipe: What has data and budgets; by default, the recipe of the run ``reference``.
        device: Where PyTorch's models run.
        first: Whether budgets are skipped that compare with a tag that does not exist yet.
        progress: Called with how far the measurement is.

    Raises:
        RecipeError: if the recipe has no budgets.
        RarefyError: also whatever ``measure`` raises.
    """
    bundle = bundles.find(reference, home)
    loaded = origin.recipe_of(reference, recipe, home)
    plan = Plan(loaded, home.store(), device, first=first)
    if not loaded.recipe.budgets:
        raise RecipeError(f"{loaded.where.source} has no budgets to judge the bundle by; add some")
    measured = measure(Run(plan), bundle, progress)
    past = home.path / FILE
    sessions = between_sessions.of_history(past, measured)
    targets = loaded.recipe.targets
    verdict = judge(plan.budgets, targets, measured, sessions)
    warnings = plan.warnings + candidates.notes(past, measured)
    unrecorded = verdicts.keep_validated(home.path, plan, bundle, verdict, measured)
    return Validated(bundle, verdict, measured, warnings, plan.absent, unrecorded)


def measure(run: Run, bundle: Bundle, progress: Progress) -> Measurements:
    """Measure a bundle next to the checkpoints of the recipe's chain that are in the store.

    Args:
        run: An open run of the recipe, of which no step is executed.
        bundle: What is measured.
        progress: Called with how far the measurement is.

    Raises:
        ModelError: if the labels of the bundle and of the data differ.
        EvidenceError: if a budget compares with a checkpoint that is not in the store.
        IntegrityError: if the bytes of the bundle or of a reference differ from their manifest: the
            verdict would name bytes that were not measured.
    """
    baselines.check(bundle.name, bundle.directory, run.plan.task)
    store = run.plan.store
    in_store = bundle.manifest and bundle.directory == store.directory(bundle.digest)
    if in_store:
        store.use(bundle.digest, run.lease)  # measuring takes minutes
    bundles.check_bytes(bundle)
    stage, references = _stage(run)
    for artifact in (*references.values(), *run.plan.baselines.values()):
        run.check(artifact)
    with (
        exclusive.measuring(exclusive.noted(progress)),
        engine.shared_folder(run.plan, stage) as work,
        tempfile.TemporaryDirectory(prefix="rarefy-validate-") as output,
    ):
        context = run.context(stage, references, work, Path(output), progress, work)
        # Only now, as the plan knows the recipe's own object, by which it finds its seed.
        # The probe needs the recipe's model, which is no reference, and says nothing of the bundle.
        changes = {"models": tuple(references), "probe": False}
        stage = stage.model_copy(update=changes)
        stage.run(context, bundle.artifact)
        return answers.load(Path(output))


def _stage(run: Run) -> tuple[Validate, dict[str, Artifact]]:
    """Return the recipe's validate stage (or the default one) and its available references.

    Raises EvidenceError if a budget compares with a checkpoint that is not in the store.
    """
    plan = run.plan
    planned = plan.steps()
    stage = Validate()
    names = [step.id for step in planned]
    for step in planned:
        if isinstance(step.stage, Validate):
            stage = step.stage
            ancestors = plan.loaded.ancestors(plan.loaded.step(step.id))
            names = [MODEL, *ancestors]
    if stage.models != "all":
        names = list(stage.models)
    references: dict[str, Artifact] = {}
    for step in planned:
        if step.kind is not Kind.CHECKPOINT or step.artifact is None:
            continue
        if step.id in names:
            references[step.id] = step.artifact
    available = references.keys() | plan.baselines.keys()
    for budget in plan.budgets:
        if budget.against and budget.against not in available:
            raise EvidenceError(
                f"a budget compares with {budget.against!r}, but this store has no such "
                f"checkpoint: run {plan.loaded.where.source} to create it"
            )
    return stage, references
