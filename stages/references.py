"""The references a bundle is compared with: its ancestor checkpoints in fp32, tagged bundles."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from pipeline.measure.measurements import CANDIDATE, FASTEST_FLOAT
from pipeline.stage import Context
from pipeline.stage.split import Split
from pipeline.store.artifact import Artifact, Kind
from pipeline.terms.errors import RecipeError
from stages import planning
from stages.steps import Steps

RESERVED = {CANDIDATE: "the bundle", FASTEST_FLOAT: "the first reference in OpenVINO"}
"""Names of measured models that are no references by id, and what they are."""


@dataclass(frozen=True)
class References:
    """References by name: ``checkpoints`` to export in fp32, ``bundles`` to measure as they are.

    ``aliases`` maps a stage id to the checkpoint here that has the same weights.
    """

    checkpoints: dict[str, Artifact] = field(default_factory=dict)
    bundles: dict[str, Artifact] = field(default_factory=dict)
    aliases: dict[str, str] = field(default_factory=dict)

    @property
    def all(self) -> dict[str, Artifact]:
        return self.checkpoints | self.bundles


def choose(
    models: tuple[str, ...] | Literal["all"], context: Context, candidate: Artifact
) -> References:
    """Return the references by id in the recipe's order, then the tags that budgets compare with.

    Raises RecipeError if ``models`` names something that is not a checkpoint.
    """
    if models == "all":
        family = _ancestors(context, candidate)
        compared = {n: a for n, a in family.items() if a.kind is Kind.CHECKPOINT}
    else:
        compared = {name: context.artifacts[name] for name in models}
    tagged = context.baselines
    compared |= {name: a for name, a in tagged.items() if a.kind is Kind.CHECKPOINT}
    for name, artifact in compared.items():
        if artifact.kind is not Kind.CHECKPOINT:
            raise RecipeError(f"validate.models: {name!r} has kind {artifact.kind}, not checkpoint")
        if name in RESERVED:
            raise RecipeError(
                f"validate.models: {name!r} is reserved for {RESERVED[name]}; rename that stage"
            )
    chosen: dict[str, Artifact] = {}
    aliases: dict[str, str] = {}
    names: dict[frozenset[tuple[str, str]], str] = {}
    for name, artifact in compared.items():
        same = names.setdefault(_weights(artifact), name)
        if same == name:
            chosen[name] = artifact
        else:
            aliases[name] = same
    bundles = {name: a for name, a in tagged.items() if a.kind is Kind.BUNDLE}
    return References(chosen, bundles, aliases)


def export(
    context: Context, checkpoints: Mapping[str, Artifact], provider: str, split: Split, steps: Steps
) -> dict[str, Path]:
    """Export each checkpoint in fp32 for a provider; reuse complete exports of a killed run."""
    from exporters.build import build

    built = {}
    for name, artifact in checkpoints.items():
        progress = steps.next(f"exporting {name} as a reference")
        final = context.work / "references" / provider / artifact.digest
        if not final.exists():
            partial = final.with_suffix(".partial")
            shutil.rmtree(partial, ignore_errors=True)
            partial.mkdir(parents=True)
            build(
                artifact.directory,
                partial,
                task=context.task,
                split=split,
                form="reference",
                target_provider=provider,
                samples=False,
                progress=progress,
            )
            partial.rename(final)
        built[name] = final
    return built


def _ancestors(context: Context, model: Artifact) -> dict[str, Artifact]:
    """Return the bundle's ancestors, teachers included, by stage id in the recipe's order.

    The context may hold artifacts of other branches, which are not part of this bundle's
    fingerprint.
    """
    by_digest = {artifact.digest: artifact for artifact in context.artifacts.values()}
    parents: set[str] = set()
    ahead = [model]
    while ahead:
        for parent in ahead.pop().manifest.parents:
            if parent.digest in by_digest and parent.digest not in parents:
                parents.add(parent.digest)
                ahead.append(by_digest[parent.digest])
    return {
        name: artifact for name, artifact in context.artifacts.items() if artifact.digest in parents
    }


def _weights(artifact: Artifact) -> frozenset[tuple[str, str]]:
    """Return what determines a checkpoint's fp32 bundle: all its files but those of a plan."""
    return frozenset(
        (f.path, f.sha256) for f in artifact.manifest.files if f.path not in planning.FILES
    )
