"""Compress a transformer into an ONNX model that meets its budgets, from Python.

    import rarefy

    recipe = rarefy.load("demo.yaml")
    print(rarefy.plan(recipe))
    result = rarefy.run(recipe)
    model = rarefy.Bundle(result.bundle)
    model.predict(["A fine film."])

Everything public is listed in ``__all__`` and in docs/python.md. Importing this module is cheap,
because each name loads what it needs when it is first used.
"""

from __future__ import annotations

import ast
import functools
import importlib
import importlib.util
import os
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:  # what is public here is loaded on first use, by ``__getattr__``
    from collections.abc import Iterable, Mapping

    from flows.compared import ComparisonView
    from flows.planned import PlanView
    from flows.remeasure import Validated
    from flows.results import Result
    from pipeline.model import checkpoint
    from pipeline.recipe.recipe import LoadedRecipe
    from pipeline.recipe.writing import Entry, step
    from pipeline.release.answering import Bundle
    from pipeline.release.promotion import Promotion
    from pipeline.stage import Context, Draft, Policy, Requirements, Stage, StageCheck
    from pipeline.stage.split import Split
    from pipeline.stage.tasks.text_classification import Prediction
    from pipeline.store.artifact import Artifact, Kind, Metric
    from pipeline.terms.budget import Budget
    from pipeline.terms.errors import (
        BudgetError,
        DataError,
        EvidenceError,
        IntegrityError,
        ModelError,
        ProviderError,
        RarefyError,
        RecipeError,
    )
    from pipeline.terms.vocabulary import Data, Target
    from pipeline.verdict.verdict import BudgetResult, Verdict
    from stages.adapt import Adapt
    from stages.augment import Augment
    from stages.distill import Distill
    from stages.export import Export
    from stages.factorize import Factorize
    from stages.finetune import Finetune
    from stages.inject import Inject
    from stages.label import Label
    from stages.merge import Merge
    from stages.profile import Profile
    from stages.prune import Prune
    from stages.quantize import Quantize
    from stages.static import Static
    from stages.validate import Validate

__all__ = ["Budget", "Data", "Recipe", "Target", "load", "step"]
__all__ += ["Augment", "Distill", "Finetune", "Label", "Profile", "Static"]
__all__ += ["Adapt", "Export", "Factorize", "Inject", "Merge", "Prune", "Quantize"]
__all__ += ["BudgetResult", "Bundle", "Prediction", "Result", "Validate", "Verdict", "plan", "run"]
__all__ += ["compare", "promote", "rollback", "validate"]
__all__ += ["Artifact", "Context", "Draft", "Kind", "Metric", "Policy", "Requirements", "Split"]
__all__ += ["Stage", "StageCheck"]
__all__ += ["BudgetError", "DataError", "ModelError", "RarefyError", "RecipeError", "checkpoint"]
__all__ += ["EvidenceError", "IntegrityError", "ProviderError"]

FOLDERS = ("pipeline", "stages", "exporters", "flows")


@functools.cache
def _homes() -> dict[str, str]:
    """Return the module of each public name that the imports for type checkers name."""
    tree = ast.parse(Path(__file__).read_text(encoding="utf-8"))
    block = next(node for node in tree.body if isinstance(node, ast.If))
    imports = (node for node in block.body if isinstance(node, ast.ImportFrom))
    return {name.name: str(node.module) for node in imports for name in node.names}


def __getattr__(name: str) -> Any:
    """Load a public name when it is first used."""
    if name not in __all__:
        raise AttributeError(f"module 'rarefy' has no attribute {name!r}")
    home = _homes()[name]
    value = getattr(importlib.import_module(home), name, None)
    if value is None:  # some public names are modules
        value = importlib.import_module(f"{home}.{name}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


def foreign() -> list[str]:
    """Return where Python would import packages named like rarefy's from; empty if none."""
    here = Path(__file__).resolve().parent
    places = []
    for name in FOLDERS:
        spec = importlib.util.find_spec(name)
        locations = [*(spec.submodule_search_locations or ())] if spec else []
        place = Path(locations[0]).resolve() if locations else None
        if place != here / name:
            places.append(str(place or (spec and spec.origin) or f"no package {name!r}"))
    return places


if _others := foreign():
    _hidden = (
        f"other packages shadow rarefy's own packages of the same name: {', '.join(_others)}; "
        "run from another folder, remove that folder from PYTHONPATH, or uninstall that package"
    )
    if Path(sys.argv[0]).stem == "rarefy":  # the command prints one line, not a traceback
        sys.stderr.write(f"rarefy: {_hidden}\n")
        sys.exit(5)
    raise ImportError(_hidden)


def load(path: Path | str) -> LoadedRecipe:
    """Read and check a recipe file.

    Raises RecipeError, which names the file, line and key, and suggests a fix.
    """
    from pipeline.recipe import recipe as recipes

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
        model: a directory, ``hub:owner/name@revision`` or ``package:import_name/sub/dir``.
        data: the splits and their columns.
        stages: in order. A stage is given by its parameters: ``Finetune(epochs=2)``. ``step(…)``
            gives it an id or another input. Names and mappings mean the same as in YAML.
        targets: machines to measure on; default: one CPU thread.
        budgets: limits that the bundle must meet.
        base: the folder that relative paths start from.
        others: the recipe's other keys: ``task``, ``seed``, ``allow_pickle``.

    Raises RecipeError, which names the key, if a key or its value is invalid.
    """
    from pipeline.recipe import writing

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
    """Return what ``run`` would do with these arguments: its steps, and which are cached.

    It prints as a table, and as HTML in a notebook. Raises RecipeError, DataError or ModelError for
    every fault that can be found before a run, and ProviderError if a step does not fit the disk or
    the memory; a provider that is missing here is a warning.
    """
    from flows.planned import PlanView
    from pipeline.run.plan import Plan
    from pipeline.store.home import Home

    place, loaded = Home.of(home), _with_baseline(recipe, baseline)
    made = Plan(loaded, place.store(), _device(device), first=first)
    return PlanView.from_plan(made, place.runs / loaded.recipe.name)


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
        fresh: compute and measure everything again, and believe nothing that the store has cached.
        quiet: show no progress.

    Returns:
        Verdict, ledger, figures, report and bundle. A missed budget is a result, not an exception.

    Raises a subclass of RarefyError if the recipe cannot be run to its end.
    """
    from flows import compress
    from flows.display import Display
    from flows.jobs import Job
    from flows.options import stderr
    from pipeline.store.home import Home

    # As in flows.cli: waiting threads sleep, or training beside any other load is far slower.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    place, loaded = Home.of(home), _with_baseline(recipe, baseline)
    folder = str(Path(out).expanduser() if out else place.runs / loaded.recipe.name)
    given = {"--first": first, "--fresh": fresh, "--device": device, "--threads": threads}
    given |= {} if baseline is None else {"--out": folder}  # which `rarefy ci` needs
    job = Job(
        recipe=str(recipe.path or recipe.where.source),
        home=str(place.path),
        out=folder,
        device=_device(device),
        threads=threads,
        command=_command(recipe, baseline, given),
        first=first,
        fresh=fresh,
        baseline=baseline,
    )
    with Display(stderr(), quiet=quiet) as display:
        return compress.run(job, loaded, engine, display)


def compare(
    candidate: Bundle | Path | str,
    baseline: Bundle | Path | str,
    *,
    max_regression: float | None = None,
    recipe: LoadedRecipe | None = None,
    home: Path | str | None = None,
    threads: int = 1,
    seconds: float = 60.0,
) -> ComparisonView:
    """Compare a candidate with a baseline on the same eval rows, timed side by side.

    The candidate runs on the provider that it was exported for.

    Args:
        candidate: a bundle, or the name of one.
        baseline: a bundle, or the name of one (a run, a folder, a tag, a digest, ``URL#tag``).
        max_regression: the largest share, e.g. 0.05 for 5 %, by which accuracy, latency and size
            may be worse; None measures without judging.
        recipe: the recipe whose eval split is used; default: that of the candidate's run.
        home: the state folder; ignored if ``candidate`` is a ``Bundle``, which has its own.
        threads: intra-op threads of both sides.
        seconds: time limit for measuring latency.

    Returns:
        The measurements, and a ``verdict`` (None without ``max_regression``).

    Raises RecipeError for an impossible ``max_regression`` or ``threads``, ModelError if the two
    have different labels, EvidenceError if the answers of a baseline that is the truth are not
    numbers, IntegrityError if files are damaged.
    """
    from flows import compared

    return compared.compare(
        candidate,
        baseline,
        limit=max_regression,
        recipe=recipe,
        home=home,
        threads=threads,
        seconds=seconds,
    )


def validate(
    bundle: Path | str,
    *,
    recipe: LoadedRecipe | None = None,
    home: Path | str | None = None,
    device: str = "auto",
) -> Validated:
    """Measure a bundle again on this machine, judge it by a recipe's budgets, record the verdict.

    ``recipe`` defaults to the one that made the run ``bundle``. Raises RecipeError if it has no
    budgets, EvidenceError if a budget compares with a checkpoint that is not in the store.
    """
    from flows import remeasure
    from pipeline.release import bundles
    from pipeline.store.home import Home

    place = Home.of(home)
    return remeasure.validate(bundles.named(bundle), place, recipe=recipe, device=_device(device))


def promote(
    run: Path | str,
    tag: str = "production",
    *,
    to: str | None = None,
    home: Path | str | None = None,
) -> Promotion:
    """Point a tag at the bundle of a run that passed, and push it to the store ``to`` if given.

    Raises BudgetError if a budget was missed, EvidenceError if the run has no passing verdict for
    another reason, IntegrityError if files are damaged. The tag then does not move.
    """
    from pipeline.release import bundles, promotion
    from pipeline.store.home import Home

    return promotion.promote(bundles.named(run), tag, Home.of(home), to)


def rollback(tag: str, *, to: str | None = None, home: Path | str | None = None) -> tuple[str, str]:
    """Point a tag at the bundle it pointed at before; return the digests before and after.

    ``to`` selects an older one by the beginning of its digest. Raises RecipeError if the tag's
    history has none, IntegrityError if its files are missing or damaged.
    """
    from pipeline.release import promotion
    from pipeline.store.home import Home

    return promotion.rollback(tag, Home.of(home), to)


def main() -> None:
    """Run the command line."""
    from flows.cli import main as cli

    cli()


def _device(device: str) -> str:
    from pipeline.run.engine import default_device
    from pipeline.terms.errors import ProviderError

    if device not in ("auto", "cpu", "cuda"):
        raise ProviderError(f"device {device!r}: expected 'auto', 'cpu' or 'cuda'")
    return default_device() if device == "auto" else device


def _command(recipe: LoadedRecipe, baseline: str | None, options: Mapping[str, Any]) -> str:
    """Return the command that a run is recorded with; `rarefy validate` finds the recipe by it."""
    from flows import jobs

    if recipe.path is None:
        return jobs.IN_PYTHON
    given, path = jobs.words(options), str(recipe.path)
    gate = [path, "--baseline", str(baseline), *given]
    return shlex.join(["rarefy", *(["run", *given, path] if baseline is None else ["ci", *gate])])


def _with_baseline(recipe: LoadedRecipe, baseline: str | None) -> LoadedRecipe:
    from pipeline.run import baselines

    return recipe if baseline is None else baselines.with_baseline(recipe, baseline)


if __name__ == "__main__":
    main()
