"""Average the weights of fine-tunes of one start, tensor by tensor.

Wortsman et al. 2022 (arXiv 2203.05482), "Model soups".
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from rarefy.pipeline.model.safe_loading import WEIGHTS
from rarefy.pipeline.store.artifact import Metric
from rarefy.pipeline.terms.errors import ModelError

if TYPE_CHECKING:
    from torch import Tensor

CONFIG: Final = "config.json"
VOCABULARY: Final = "tokenizer.json"
WORDS: Final = {
    "architectures": "architecture",
    "model_type": "architecture",
    "id2label": "labels",
    "label2id": "labels",
    "vocab_size": "vocabulary",
}
"""What errors call keys of config.json; others are called by their name."""
PASSING: Final = frozenset({"_name_or_path", "transformers_version"})
"""Keys of config.json that do not change what a model computes."""
ALIKE: Final = 0.5
"""The least cosine of a weight matrix of two fine-tunes of one start; as a rule it is above 0.99.

It is near 0 for heads that were drawn twice, and for models that were pruned to other units.
"""


def check_alike(models: Mapping[str, Path], decided: frozenset[str] = frozenset()) -> None:
    """Raise ModelError unless models have the same config, vocabulary and tensors.

    Args:
        models: the folders of checkpoints by id; all are compared with the first.
        decided: keys of config.json that are decided for each model, such as thresholds.
    """
    (first, source), *others = models.items()
    for name, folder in others:
        difference = _difference(source, folder, PASSING | decided)
        if difference:
            raise differ(name, first, difference)


def differ(name: str, first: str, difference: str) -> ModelError:
    """Return the error for two models that have no mean, since they differ in something."""
    return ModelError(
        f"merge.models: {name!r} and {first!r} differ in {difference}; name fine-tunes of one model"
    )


def _difference(source: Path, other: Path, ignored: frozenset[str]) -> str | None:
    """Return what two checkpoints differ in, besides weights and keys of config; None if alike."""
    config, other_config = _read(source / CONFIG), _read(other / CONFIG)
    for key in sorted((config.keys() | other_config.keys()) - ignored):
        if config.get(key) != other_config.get(key):
            return WORDS.get(key, key)
    if _read(source / VOCABULARY) != _read(other / VOCABULARY):
        return "vocabulary"
    tensors = Header.read(source / WEIGHTS).tensors
    other_tensors = Header.read(other / WEIGHTS).tensors
    for name in sorted(tensors.keys() | other_tensors.keys()):
        if tensors.get(name) != other_tensors.get(name):
            return f"the shape of {name}"
    return None


def _read(path: Path) -> dict[str, Any]:
    values: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return values


@dataclass(frozen=True)
class Header:
    """The beginning of a safetensors file: eight bytes with its size, and JSON."""

    text: bytes

    @classmethod
    def read(cls, path: Path) -> Header:
        with path.open("rb") as file:
            size = int.from_bytes(file.read(8), "little")
            return cls(file.read(size))

    @property
    def tensors(self) -> dict[str, tuple[str, list[int]]]:
        """The type and shape of each tensor, in the order of the file."""
        entries = json.loads(self.text)
        entries.pop("__metadata__", None)
        ordered = sorted(entries.items(), key=lambda entry: entry[1]["data_offsets"])
        return {name: (entry["dtype"], entry["shape"]) for name, entry in ordered}


def average(folders: Sequence[Path], output: Path) -> None:
    """Write the mean of the weights of several checkpoints, one tensor after another.

    In memory are two tensors at a time, however many models there are.

    Args:
        folders: of the checkpoints, which are alike (``check_alike``).
        output: the safetensors file to write.
    """
    header = Header.read(folders[0] / WEIGHTS)
    with output.open("wb") as file:
        file.write(len(header.text).to_bytes(8, "little"))
        file.write(header.text)
        for _, tensors in _together(folders):
            file.write(_mean(tensors).numpy().tobytes())


def _mean(tensors: Iterator[Tensor]) -> Tensor:
    """Return the mean of tensors of fractions; the first of others, such as positions."""
    total = next(tensors)
    if not total.is_floating_point():
        return total
    count = 1
    for tensor in tensors:
        total += tensor
        count += 1
    return total / count


def check_one_start(models: Mapping[str, Path]) -> None:
    """Raise ModelError if a weight matrix of a model is not near that of the first.

    Equal shapes do not tell that two models descend from one, and the mean of others is worth
    nothing.
    """
    (first, source), *others = models.items()
    for name, folder in others:
        tensor, cosine = _least_cosine(source, folder)
        if cosine < ALIKE:
            raise ModelError(
                f"merge.models: {name!r} and {first!r} do not descend from one model (the cosine "
                f"of their {tensor} is {cosine:.2f}); name fine-tunes of the same model"
            )


def _least_cosine(source: Path, other: Path) -> tuple[str, float]:
    """Return the name and the cosine of the matrix that differs most in two checkpoints."""
    import torch

    least = ("", 1.0)
    for name, tensors in _together([source, other]):
        first, second = tensors
        if first.dim() > 1:
            cosine = torch.nn.functional.cosine_similarity(first.flatten(), second.flatten(), dim=0)
            least = min(least, (name, float(cosine)), key=lambda entry: entry[1])
    return least


def _together(folders: Sequence[Path]) -> Iterator[tuple[str, Iterator[Tensor]]]:
    """Yield each tensor's name, and it as each of the checkpoints has it, in the file's order."""
    from safetensors import safe_open

    names = Header.read(folders[0] / WEIGHTS).tensors
    with ExitStack() as stack:
        files = []
        for folder in folders:
            opened = safe_open(folder / WEIGHTS, framework="pt")
            files.append(stack.enter_context(opened))
        for name in names:
            yield name, (file.get_tensor(name) for file in files)


def greedy(
    models: Mapping[str, Path], score: Callable[[Sequence[Path]], Metric | None]
) -> tuple[list[str], Metric]:
    """Choose the models whose mean has a high score: the best, and each other that does not harm.

    Wortsman et al. 2022, recipe 1.

    Args:
        models: the folders of checkpoints by id.
        score: of the mean of some of them, on held-out rows; more is better, None worst.

    Returns:
        The ids of the chosen, best first, and the score of their mean.

    Raises:
        ModelError: no model has a score.
    """
    alone = {}
    for name, folder in models.items():
        metric = score([folder])
        if metric is not None:
            alone[name] = metric
    if not alone:
        raise ModelError("merge.models: none has a score on dev; write method: soup")
    best, *others = sorted(alone, key=lambda name: alone[name].value, reverse=True)
    chosen, highest = [best], alone[best]
    for name in others:
        candidate = score([models[one] for one in (*chosen, name)])
        if candidate is not None and candidate.value >= highest.value:
            chosen.append(name)
            highest = candidate
    return chosen, highest
