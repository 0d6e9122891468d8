"""The references a bundle is compared with: its ancestor checkpoints in fp32, tagged bundles."""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from pipeline.stage import Context
from pipeline.stage.split import Split
from pipeline.store import disk
from pipeline.store.artifact import Artifact, Kind
from pipeline.terms.digests import file_sha256
from pipeline.terms.errors import ModelError, ProviderError
from pipeline.terms.progress import Progress
from stages import planning
from stages.steps import Steps

log = logging.getLogger(__name__)


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
    """Return the references by id in the recipe's order, then the tags that budgets name."""
    if models == "all":
        compared = _of_kind(Kind.CHECKPOINT, _ancestors(context, candidate))
    else:
        compared = {name: context.artifacts[name] for name in models}
    compared |= _of_kind(Kind.CHECKPOINT, context.baselines)
    chosen: dict[str, Artifact] = {}
    aliases: dict[str, str] = {}
    names: dict[frozenset[tuple[str, str]], str] = {}
    for name, artifact in compared.items():
        same = names.setdefault(_weights(artifact), name)
        if same == name:
            chosen[name] = artifact
        else:
            aliases[name] = same
    bundles = _of_kind(Kind.BUNDLE, context.baselines)
    return References(chosen, bundles, aliases)


def _of_kind(kind: Kind, artifacts: Mapping[str, Artifact]) -> dict[str, Artifact]:
    return {name: artifact for name, artifact in artifacts.items() if artifact.kind is kind}


def export(
    context: Context, checkpoints: Mapping[str, Artifact], provider: str, split: Split, steps: Steps
) -> dict[str, Path]:
    """Export each checkpoint in fp32 for a provider; reuse the exports that are whole.

    An export does not depend on budgets, targets or what else is measured, so it is kept for the
    next measurement: after an edit of a limit, only what is timed anew takes time.
    """
    folder = context.shared or context.work
    built = {}
    for name, artifact in checkpoints.items():
        progress = steps.next(f"exporting {name} as a reference")
        bundle = folder / "references" / provider / artifact.digest
        if not _whole(bundle):
            _build(artifact, bundle, context, provider, split, progress)
        built[name] = bundle
    return built


def export_fastest(
    context: Context, checkpoints: Mapping[str, Artifact], split: Split, steps: Steps
) -> dict[str, Path]:
    """Export checkpoints for OpenVINO as well; return nothing, and warn, if it cannot have them.

    It may compute in bf16 and give other answers, and no budget is judged by them.
    """
    try:
        return export(context, checkpoints, "openvino", split, steps)
    except (ModelError, ProviderError) as error:
        log.warning(
            "validate: the first reference is not measured in OpenVINO: %s; fastest_float: false "
            "does not try it",
            error,
        )
        return {}


def _build(
    artifact: Artifact,
    final: Path,
    context: Context,
    provider: str,
    split: Split,
    progress: Progress,
) -> None:
    """Export a checkpoint to the folder ``final``, and write the hashes of its files beside it.

    The hashes come last: an export without them is not whole.
    """
    from exporters.build import build

    partial = final.with_suffix(".partial")
    _sums(final).unlink(missing_ok=True)
    for left in (partial, final):
        shutil.rmtree(left, ignore_errors=True)
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
    hashes = _hashes(partial)
    disk.sync_tree(partial)
    partial.rename(final)
    disk.write(_sums(final), hashes)


def _whole(export: Path) -> bool:
    """Return whether an export's files are those that were written."""
    try:
        noted = json.loads(_sums(export).read_text())
    except (OSError, ValueError):
        return False
    return bool(noted == _hashes(export))


def _sums(export: Path) -> Path:
    """Return the file of an export's hashes: beside it, because its own files are measured."""
    return export.with_suffix(".json")


def _hashes(folder: Path) -> dict[str, str]:
    """Return relative path -> sha256 of all files in a folder."""
    hashes = {}
    for path in folder.rglob("*"):
        if path.is_file():
            name = path.relative_to(folder).as_posix()
            hashes[name] = file_sha256(path)
    return hashes


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
