"""Follow a quantization plan along the chain, from the stage that writes it to the bundle.

A plan names modules and the ranges of their inputs, so it is valid only for the weights it was
made for. A stage declares in ``Stage.quantization`` whether it keeps the plan.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from pipeline.model import blockwise, checkpoint, quantization
from pipeline.recipe.recipe import LoadedRecipe, Step
from pipeline.stage import Draft, Stage
from pipeline.store.artifact import MODELS, Artifact, Kind
from pipeline.terms.digests import file_sha256
from pipeline.terms.errors import ModelError, RarefyError

FACTS = "quantization"
"""The key of ``Draft.model`` under which a manifest describes the plan."""


def follow(loaded: LoadedRecipe, kinds: Mapping[str, Kind]) -> dict[str, str | None]:
    """Return for each step the id of the step whose plan its output carries; None if no plan.

    A bundle implements the plan, so steps after it have none. Raises RecipeError if a step would
    lose a plan or cannot carry it out.
    """
    planners: dict[str, str | None] = dict.fromkeys(kinds)
    for step in loaded.steps:
        if kinds[step.input] is Kind.BUNDLE and planners[step.input]:
            _check(loaded, step, step.input)
        given = None if kinds[step.input] is Kind.BUNDLE else planners[step.input]
        if step.stage.quantization == "plans":
            planners[step.id] = step.id
        elif given is None or kinds[step.id] not in MODELS:
            continue
        elif step.stage.quantization == "keeps":
            planners[step.id] = given
            _check(loaded, step, given)
        else:
            lost = f"would lose the quantization plan of {given!r}"
            raise loaded.error(step, f"{lost}; move {given!r} after it")
    return planners


def _check(loaded: LoadedRecipe, step: Step, maker: str) -> None:
    """Raise RecipeError if a step cannot have what the step ``maker`` makes."""
    given = (loaded.step(maker).stage, loaded.recipe.targets)
    if problem := loaded.asked(step.stage.misfit, *given):
        raise loaded.error(step, problem)


def carry(stage: Stage, model: Artifact, output: Path, kind: Kind, draft: Draft) -> Draft:
    """Copy the input's plan to the output of a stage that keeps it; return the extended draft.

    Raises RarefyError if what the stage wrote contradicts its ``quantization``, and ModelError if
    it changed weights that the plan has in int4.
    """
    there = (output / quantization.FILE).is_file()
    source = model.directory / quantization.FILE
    if stage.quantization == "plans" and not there:
        raise RarefyError(
            f"the stage declares quantization = 'plans' but wrote no {quantization.FILE}"
        )
    keeps = stage.quantization == "keeps" and source.is_file()
    if there and not keeps and stage.quantization != "plans":
        raise RarefyError(
            f"the stage wrote {quantization.FILE} but does not declare quantization = 'plans'"
        )
    if not keeps or kind is Kind.BUNDLE:
        return draft
    if not there:  # else the stage took the plan's ranges again
        shutil.copyfile(source, output / quantization.FILE)
    roles = {quantization.FILE: "plan"}
    if (model.directory / blockwise.FILE).is_file():
        before, after = (each / checkpoint.WEIGHTS for each in (model.directory, output))
        if not after.is_file() or file_sha256(before) != file_sha256(after):
            raise ModelError(
                "the stage changes weights that the plan has in int4; move 'quantize' behind it, "
                "or write quantize: {weights: int8}"
            )
        shutil.copyfile(model.directory / blockwise.FILE, output / blockwise.FILE)
        roles[blockwise.FILE] = "int4"
    facts = {FACTS: model.manifest.model[FACTS]} if FACTS in model.manifest.model else {}
    return replace(draft, roles=draft.roles | roles, model=facts | draft.model)


def check_bundle(draft: Draft, planner: str | None, made: Mapping[str, Artifact]) -> None:
    """Raise ModelError if a bundle's precision is not that of the recipe's last plan.

    Args:
        draft: the draft of the bundle; not checked if it names no precision.
        planner: the id of the step that wrote the plan; None if there is no plan to implement, so
            that the precision is the stage's own choice.
        made: the artifacts of the earlier steps, by id.
    """
    plan = quantization.read(made[planner].directory) if planner else None
    shipped = draft.model.get("precision")
    if plan and shipped not in (None, plan.shipped):
        raise ModelError(
            f"the bundle is {shipped}, but the recipe's last plan, made by {planner!r}, asks for "
            f"{plan.shipped}"
        )
