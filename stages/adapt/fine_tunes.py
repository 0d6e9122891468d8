"""Merge fine-tunes of one start into a checkpoint with the mean of their weights."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from rarefy.pipeline.model import checkpoint
from rarefy.pipeline.model.architectures.description import Config
from rarefy.pipeline.model.quantization import plan as quantization
from rarefy.pipeline.model.safe_loading import WEIGHTS
from rarefy.pipeline.stage import Context, Draft
from rarefy.pipeline.store.artifact import Artifact, Metric
from rarefy.pipeline.terms.errors import ModelError
from rarefy.stages.adapt import soups
from rarefy.stages.training import run as training


def check_configs(models: Mapping[str, Config]) -> None:
    """Raise ModelError unless models, by step id, have one family, depth and width.

    A config may leave out a depth or a width that is not known before a run.
    """
    from rarefy.pipeline.model.architectures import parts

    (first, config), *others = models.items()
    for name, other in others:
        alike = config.get("model_type") == other.get("model_type")
        for size_of in (parts.depth, parts.width):
            sizes = {size_of(config), size_of(other)} - {None}
            alike = alike and len(sizes) <= 1
        if not alike:
            raise soups.differ(name, first, "architecture")


def merge(context: Context, models: Mapping[str, Artifact], *, greedy: bool) -> Draft:
    """Write the mean of some models to the stage's output.

    Args:
        context: of the stage.
        models: the checkpoints, by step id.
        greedy: whether the mean is of those that lower its loss on the development split.

    Raises:
        ModelError: the models are not alike, not of one start, or have a quantization plan.
    """
    folders = {name: artifact.directory for name, artifact in models.items()}
    _check(context, folders)
    first = next(iter(models.values()))
    chosen = list(folders)
    metrics: tuple[Metric, ...] = ()
    if greedy:
        chosen, loss = soups.greedy(folders, _loss_of_mean(context, first))
        metrics = (Metric(name="loss", split="dev", value=round(loss, 6)),)
    roles = _write_mean(first, [folders[name] for name in chosen], context.output)
    network = checkpoint.load(context.output)
    facts = checkpoint.describe(network) | {"merged": chosen}
    return Draft(roles, facts, metrics)


def _check(context: Context, folders: Mapping[str, Path]) -> None:
    for name, folder in folders.items():
        if quantization.read(folder) is not None:
            raise ModelError(
                f"merge.models: {name!r} has a quantization plan, and a mean has none; put "
                "'quantize' after 'merge'"
            )
    config = checkpoint.read_config(next(iter(folders.values())))
    decided = context.task.head.settings(config.to_dict())
    soups.check_alike(folders, frozenset(decided))
    soups.check_one_start(folders)


def _write_mean(first: Artifact, members: Sequence[Path], folder: Path) -> dict[str, str]:
    """Write a checkpoint with the mean weights of some; return the roles of its files.

    Args:
        first: the checkpoint whose other files are copied: they are the same for all.
        members: the folders of those that are averaged.
        folder: to write to.
    """
    folder.mkdir(exist_ok=True)
    roles = {}
    for entry in first.manifest.files:
        roles[entry.path] = entry.role
        if entry.path != WEIGHTS:
            shutil.copyfile(first.directory / entry.path, folder / entry.path)
    soups.average(members, folder / WEIGHTS)
    return roles


def _loss_of_mean(context: Context, first: Artifact) -> Callable[[Sequence[Path]], float]:
    """Return a function of some checkpoints' folders: the loss of their mean on dev.

    ``first``: one of the checkpoints, of which all files but the weights are used.
    """
    tokenizer = checkpoint.load_tokenizer(first.directory)
    rows = training.lessons(context, tokenizer, context.split("dev"))
    loss = context.task.objective.training_loss()
    judge = training.mean_loss(context, tokenizer, rows, loss)

    def loss_of_mean(members: Sequence[Path]) -> float:
        import torch

        folder = context.work / "candidate"
        _write_mean(first, members, folder)
        network = checkpoint.load(folder).to(context.device)
        with torch.no_grad():
            return judge(network)

    return loss_of_mean
