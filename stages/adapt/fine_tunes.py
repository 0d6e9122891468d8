"""Merge fine-tunes of one start into a checkpoint with the mean of their weights."""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from rarefy.pipeline.model import checkpoint
from rarefy.pipeline.model.architectures.families import Config
from rarefy.pipeline.model.quantization import plan as quantization
from rarefy.pipeline.model.safe_loading import WEIGHTS
from rarefy.pipeline.stage import Context, Draft
from rarefy.pipeline.store.artifact import Artifact, Metric
from rarefy.pipeline.terms.errors import ModelError
from rarefy.pipeline.terms.progress import silent
from rarefy.stages.adapt import soups


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
        greedy: whether the mean is of those that do not lower its score on the development split.

    Raises:
        ModelError: the models are not alike, not of one start, or have a quantization plan.
    """
    folders = {name: artifact.directory for name, artifact in models.items()}
    _check(context, folders)
    first = next(iter(models.values()))
    chosen = list(folders)
    metrics: tuple[Metric, ...] = ()
    if greedy:
        most = 2 * len(folders) - 1  # each alone, and each but the best with those chosen so far
        judge = _score_of_mean(context, first, most)
        chosen, score = soups.greedy(folders, judge)
        metrics = (score,)
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


def _score_of_mean(
    context: Context, first: Artifact, calls: int
) -> Callable[[Sequence[Path]], Metric | None]:
    """Return a function of some checkpoints' folders: the main score of their mean on dev.

    Args:
        context: of the stage.
        first: one of the checkpoints, of which all files but the weights are used.
        calls: how often the function is called at most, for the progress.
    """
    from rarefy.pipeline.measure.predictions import predict

    task, split = context.task, context.split("dev")
    numbers = itertools.count()

    def score_of_mean(members: Sequence[Path]) -> Metric | None:
        context.progress(next(numbers), calls, "scoring means on dev")
        folder = context.work / "candidate"
        _write_mean(first, members, folder)
        outputs = predict.checkpoint_outputs(folder, task, split, silent, context.device)
        config = checkpoint.read_config(folder).to_dict()
        if task.head.chooses:
            config |= task.head.choose(outputs, split)
        predictions = task.of_model(config).head.predictions(outputs)
        return predict.main_score(task, predictions, split)

    return score_of_mean
