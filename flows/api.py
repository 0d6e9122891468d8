"""What rarefy offers to Python: load or build a recipe, plan, run, compare, validate, promote."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:  # loaded by the functions that need them, so that importing this is cheap
    from rarefy.flows.console.compared import ComparisonView
    from rarefy.flows.console.results import Result
    from rarefy.flows.console.views import PlanView
    from rarefy.flows.run.remeasure import Validated
    from rarefy.pipeline.recipe.recipe import LoadedRecipe
    from rarefy.pipeline.recipe.writing import Entry
    from rarefy.pipeline.release.predict import Bundle
    from rarefy.pipeline.release.promotion import Promotion
    from rarefy.pipeline.terms.budget import Budget
    from rarefy.pipeline.terms.recipe_parts import Data, Target


def load(path: Path | str) -> LoadedRecipe:
    """Read and check a recipe file.

    Args:
        path: the YAML file.

    Returns:
        The recipe, for ``plan``, ``run`` and ``validate``.

    Raises:
        RecipeError: the recipe is wrong; the message names the file, line and key, and a fix.
    """
    from rarefy.pipeline.recipe import recipe as recipes

    return recipes.load(Path(path))


def Recipe(  # noqa: N802 (a constructor)
    name: str,
    *,
    model: str,
    data: Data | Mapping[str, Any],
    stages: Iterable[Entry],
    targets: Iterable[Target | Mapping[str, Any]] = (),
    budgets: Iterable[Budget | Mapping[str, Any]] = (),
    base: Path | str = ".",
    **others: Any,
) -> LoadedRecipe:
    """Build a recipe in Python; ``.text`` holds the equivalent YAML, which runs record.

    Args:
        name: lower-case letters, digits, ``.``, ``_`` and ``-``.
        model: a directory, a model of the Hub (``owner/name`` or ``hub:owner/name@revision``) or
            ``package:import_name/sub/dir``.
        data: the splits and their columns.
        stages: in order. A stage is given by its parameters: ``Finetune(epochs=2)``. ``step(…)``
            gives it an id or another input. Names and mappings mean the same as in YAML.
        targets: machines to measure on; default: one CPU thread.
        budgets: limits that the bundle must meet.
        base: the folder that relative paths start from.
        others: the recipe's other keys: ``task``, ``seed``, ``allow_pickle``.

    Raises:
        RecipeError: a key or its value is invalid; the message names the key.
    """
    from rarefy.pipeline.recipe import writing

    return writing.build(
        name,
        model=model,
        data=data,
        stages=stages,
        targets=targets,
        budgets=budgets,
        base=base,
        **others,
    )


def plan(
    recipe: LoadedRecipe,
    *,
    home: Path | str | None = None,
    device: str = "auto",
    first: bool = False,
    baseline: str | None = None,
) -> PlanView:
    """Plan a run: its steps, which of them are cached, and about how long the others take.

    Args:
        recipe: from ``load`` or ``Recipe``.
        home: the state folder; default: ``RAREFY_HOME`` of the environment, or else ``.rarefy``.
        device: where training would run: ``cpu``, ``cuda``, or ``auto``.
        first: for a first release, skip budgets against a tag that does not exist yet.
        baseline: a tag, or ``URL#tag``, that replaces the tag in every budget against one.

    Returns:
        The plan, which prints as a table, and as HTML in a notebook. A provider that is missing
        here is among its warnings.

    Raises:
        RecipeError: the recipe cannot work.
        DataError: the data are missing or do not fit the task.
        ModelError: the model cannot be used for the recipe.
        ProviderError: a step does not fit the disk or the memory.
    """
    from rarefy.flows.console.views import PlanView
    from rarefy.pipeline.run.plan.plan import Plan
    from rarefy.pipeline.store.home import Home

    place, loaded = Home.of(home), _with_baseline(recipe, baseline)
    planned = Plan(loaded, place.store(), _device(device), first=first)
    return PlanView.from_plan(planned, place)


def run(
    recipe: LoadedRecipe,
    *,
    home: Path | str | None = None,
    engine: Literal["inline", "prefect"] = "inline",
    out: Path | str | None = None,
    device: str = "auto",
    threads: int | None = None,
    first: bool = False,
    baseline: str | None = None,
    fresh: bool = False,
    quiet: bool = False,
) -> Result:
    """Run a recipe from model to verdict; reuse finished stages from the store.

    Args:
        recipe: from ``load`` or ``Recipe``.
        home: the state folder; default: ``RAREFY_HOME`` of the environment, or else ``.rarefy``.
        engine: ``inline`` in this process, or ``prefect`` as a Prefect flow.
        out: folder for report and bundle; default: ``home/runs/<name>``.
        device: where to train: ``cpu``, ``cuda``, or ``auto``.
        threads: training threads; default: all cores.
        first: for a first release, skip budgets against a tag that does not exist yet.
        baseline: a tag, or ``URL#tag``, that replaces the tag in every budget against one; if there
            is none, `rarefy ci`'s three budgets are added.
        fresh: ignore cached results: compute and measure everything again.
        quiet: show no progress.

    Returns:
        Verdict, ledger, figures, report and bundle. A missed budget is a result, not an exception.

    Raises:
        RarefyError: the recipe cannot be run to its end; a subclass says why.
    """
    from rarefy.flows import start
    from rarefy.flows.console.display import Display
    from rarefy.flows.console.options import stderr
    from rarefy.flows.run.job import Job
    from rarefy.pipeline.store.home import Home

    # As in flows/cli.py: waiting threads sleep, or training beside other load is far slower.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    place, loaded = Home.of(home), _with_baseline(recipe, baseline)
    folder = str(Path(out).expanduser() if out else place.runs / loaded.recipe.name)
    flags = {"--first": first, "--fresh": fresh, "--device": device, "--threads": threads}
    flags |= {} if baseline is None else {"--out": folder}  # which `rarefy ci` needs
    job = Job(
        recipe=str(recipe.path or recipe.where.source),
        home=str(place.path),
        out=folder,
        device=_device(device),
        threads=threads,
        command=_command(recipe, baseline, flags),
        first=first,
        fresh=fresh,
        baseline=baseline,
    )
    with Display(stderr(), quiet=quiet) as display:
        return start.run(job, loaded, engine, display)


def compare(
    candidate: Bundle | Path | str,
    baseline: Bundle | Path | str,
    *,
    max_regression: float | None = None,
    recipe: LoadedRecipe | None = None,
    home: Path | str | None = None,
    threads: int = 1,
    seconds: float = 60.0,
    throughput: bool = False,
) -> ComparisonView:
    """Compare a candidate with a baseline on the same eval rows, timed side by side.

    The candidate runs on the provider that it was exported for.

    Args:
        candidate: a bundle, or the name of one.
        baseline: a bundle, or the name of one (a run, a folder, a tag, a digest, ``URL#tag``).
        max_regression: the largest share, e.g. 0.05 for 5%, by which accuracy, latency and size
            may be worse; None measures without judging.
        recipe: the recipe whose eval split is used; default: that of the candidate's run.
        home: the state folder; ignored if ``candidate`` is a ``Bundle``, which has its own.
        threads: intra-op threads of both sides.
        seconds: time limit for measuring latency.
        throughput: whether to compare rows a second too, for up to as long again.

    Returns:
        The measurements, and a ``verdict`` (None without ``max_regression``).

    Raises:
        RecipeError: an impossible ``max_regression`` or ``threads``.
        ModelError: the two have different labels.
        EvidenceError: a baseline whose predictions serve as labels predicts NaN or infinity.
        IntegrityError: files are damaged.
    """
    from rarefy.flows.console import compared

    return compared.compare(
        candidate,
        baseline,
        limit=max_regression,
        recipe=recipe,
        home=home,
        threads=threads,
        seconds=seconds,
        throughput=throughput,
    )


def validate(
    bundle: Path | str,
    *,
    recipe: LoadedRecipe | None = None,
    home: Path | str | None = None,
    device: str = "auto",
) -> Validated:
    """Measure a bundle again on this machine, judge it by a recipe's budgets, record the verdict.

    Args:
        bundle: a run, a folder, a tag or a digest.
        recipe: whose budgets judge it; default: the recipe that made the run ``bundle``.
        home: the state folder; default: ``RAREFY_HOME`` of the environment, or else ``.rarefy``.
        device: where PyTorch's models run: ``cpu``, ``cuda``, or ``auto``.

    Returns:
        The measurements and their verdict.

    Raises:
        RecipeError: the recipe has no budgets.
        EvidenceError: a budget compares with a checkpoint that is not in the store.
    """
    from rarefy.flows.run import remeasure
    from rarefy.pipeline.release import bundles
    from rarefy.pipeline.store.home import Home

    place = Home.of(home)
    return remeasure.validate(bundles.named(bundle), place, recipe=recipe, device=_device(device))


def promote(
    run: Path | str,
    tag: str = "production",
    *,
    store: str | None = None,
    home: Path | str | None = None,
) -> Promotion:
    """Point a tag at the bundle of a run that passed. After an error, the tag has not moved.

    Args:
        run: the name, folder or digest of a run's bundle.
        tag: the tag to move.
        store: the URL of a store to which the bundle is pushed, and where the tag moves, too.
        home: the state folder; default: ``RAREFY_HOME`` of the environment, or else ``.rarefy``.

    Returns:
        The tag, its digests now and before, the run, and the URL that was pushed to.

    Raises:
        BudgetError: a budget was missed.
        EvidenceError: the run has no passing verdict for another reason.
        IntegrityError: files are damaged.
    """
    from rarefy.pipeline.release import bundles, promotion
    from rarefy.pipeline.store.home import Home

    return promotion.promote(bundles.named(run), tag, Home.of(home), store)


def rollback(
    tag: str, *, artifact: str | None = None, home: Path | str | None = None
) -> tuple[str, str]:
    """Point a tag at the bundle it pointed at before.

    Args:
        tag: the tag to move, or ``URL#tag``.
        artifact: an older bundle of the tag's history, by the beginning of its digest.
        home: the state folder; default: ``RAREFY_HOME`` of the environment, or else ``.rarefy``.

    Returns:
        The digests before and after.

    Raises:
        RecipeError: the tag's history has no such bundle.
        IntegrityError: its files are missing or damaged.
    """
    from rarefy.pipeline.release import promotion
    from rarefy.pipeline.store.home import Home

    return promotion.rollback(tag, Home.of(home), artifact)


def _device(device: str) -> str:
    from rarefy.pipeline.measure.machine import default_device
    from rarefy.pipeline.terms.errors import ProviderError

    if device not in ("auto", "cpu", "cuda"):
        raise ProviderError(f"device {device!r}: expected 'auto', 'cpu' or 'cuda'")
    return default_device() if device == "auto" else device


def _command(recipe: LoadedRecipe, baseline: str | None, options: Mapping[str, Any]) -> str:
    """Return the command that a run is recorded with; `rarefy validate` finds the recipe by it."""
    from rarefy.flows.run import job as jobs

    if recipe.path is None:
        return jobs.IN_PYTHON
    given, path = jobs.words(options), str(recipe.path)
    gate = [path, "--baseline", str(baseline), *given]
    return shlex.join(["rarefy", *(["run", *given, path] if baseline is None else ["ci", *gate])])


def _with_baseline(recipe: LoadedRecipe, baseline: str | None) -> LoadedRecipe:
    from rarefy.pipeline.run.plan import baselines

    return recipe if baseline is None else baselines.with_baseline(recipe, baseline)
