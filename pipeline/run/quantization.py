"""Carry a quantization plan along the chain, from the stage that writes it to the bundle.

A plan names modules and the ranges of their inputs, so it is valid only for the weights it was
made for. A stage declares in ``Policy.quantization`` whether it keeps the plan.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from rarefy.pipeline.model.quantization import four_bits
from rarefy.pipeline.model.quantization import plan as quantization
from rarefy.pipeline.model.safe_loading import WEIGHTS
from rarefy.pipeline.stage import Draft, Stage
from rarefy.pipeline.store.artifact import Artifact, Kind
from rarefy.pipeline.terms.digests import file_sha256
from rarefy.pipeline.terms.errors import ModelError, RarefyError

FACTS = "quantization"
"""The key of ``Draft.model`` under which a manifest describes the plan."""


def carry(stage: Stage, model: Artifact, output: Path, kind: Kind, draft: Draft) -> Draft:
    """Copy the input's plan to the output of a stage that keeps it; return the extended draft.

    Raises RarefyError if what the stage wrote contradicts its policy, and ModelError if
    it changed weights that the plan has in int4.
    """
    source = model.directory / quantization.FILE
    target = output / quantization.FILE
    has_plan = target.is_file()
    plans = stage.policy.quantization == "plans"
    if plans and not has_plan:
        raise RarefyError(
            f"the stage declares quantization = 'plans' but wrote no {quantization.FILE}"
        )
    keeps = stage.policy.quantization == "keeps" and source.is_file()
    if has_plan and not keeps and not plans:
        raise RarefyError(
            f"the stage wrote {quantization.FILE} but does not declare quantization = 'plans'"
        )
    if not keeps or kind is Kind.BUNDLE:
        return draft
    if not has_plan:  # else the stage took the plan's ranges again
        shutil.copyfile(source, target)
    roles = draft.roles | {quantization.FILE: "plan"}
    if (model.directory / four_bits.FILE).is_file():
        _carry_int4(model.directory, output)
        roles[four_bits.FILE] = "int4"
    facts = {}
    if FACTS in model.manifest.model:
        facts[FACTS] = model.manifest.model[FACTS]
    return replace(draft, roles=roles, model=facts | draft.model)


def _carry_int4(source: Path, output: Path) -> None:
    """Copy the weights in int4. Raises ModelError if the stage changed the weights in fp32."""
    before, after = source / WEIGHTS, output / WEIGHTS
    if not after.is_file() or file_sha256(before) != file_sha256(after):
        raise ModelError(
            "the stage changes weights that the plan has in int4; move 'quantize' behind it, "
            "or write quantize: {weights: int8}"
        )
    shutil.copyfile(source / four_bits.FILE, output / four_bits.FILE)


def check_bundle(draft: Draft, planner: str | None, artifacts: Mapping[str, Artifact]) -> None:
    """Raise ModelError if a bundle's precision is not that of the recipe's last plan.

    Args:
        draft: the draft of the bundle; not checked if it names no precision.
        planner: the id of the step that wrote the plan; None if there is no plan to implement, so
            that the precision is the stage's own choice.
        artifacts: the artifacts of the earlier steps, by id.
    """
    if planner is None:
        return
    plan = quantization.read(artifacts[planner].directory)
    shipped = draft.model.get("precision")
    if plan and shipped not in (None, plan.shipped):
        raise ModelError(
            f"the bundle is {shipped}, but the recipe's last plan, made by {planner!r}, asks for "
            f"{plan.shipped}"
        )
