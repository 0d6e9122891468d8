"""The files of a transfer set: texts to distill with, and perhaps teachers' answers to them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeGuard

from pydantic import Field

from rarefy.pipeline.data.development_split import picked
from rarefy.pipeline.data.split import Split, Texts
from rarefy.pipeline.stage import Stage
from rarefy.pipeline.store.artifact import Artifact
from rarefy.pipeline.terms.digests import file_sha256
from rarefy.pipeline.terms.errors import DataError, RecipeError

if TYPE_CHECKING:
    from torch import Tensor

    from rarefy.pipeline.stage import Context

FILE, ANSWERS = "texts.jsonl", "answers.safetensors"
TRANSFER = "transfer"
"""The role of a transfer set in ``Stage.references``, and the name of its rows as a split."""
TEXTS = "texts"
"""The key of ``Draft.model`` under which a manifest has the number of a transfer set's texts."""

ROWS = "rows/"
"""What the name of a tensor begins with that has the rows of a split that are answered."""
CHUNK = 10_000
"""Outputs that are looked at together."""
LARGEST = 64.0
"""The largest raw output that is kept in fp16, whose steps are then 1/32."""


class Answering(Stage):
    """Base of stages whose transfer set has teachers' answers: to the recipe's rows as well."""

    transfer: str | None = Field(
        default=None, description="ID of an augment stage whose texts are labeled"
    )

    @property
    def predictions_file(self) -> tuple[str, str | None] | None:
        """The file of another system's predictions, and its column of ids, if they are from one."""
        return None


Pair = tuple[str, str | None]
"""A row's text, and its second text if rows are pairs."""


def rows(split: Split) -> Iterator[Pair]:
    """Yield a split's rows as pairs of texts."""
    for place in range(len(split)):
        yield pair(split, place)


def pair(split: Split, place: int) -> Pair:
    """Return a row of a split as a pair of texts."""
    text = split.texts[place]
    if split.pairs is None:
        return text, None
    return text, split.pairs[place]


def write(directory: Path, rows: Iterable[Pair]) -> dict[str, str]:
    """Write the rows to ``directory``; return path -> role."""
    with (directory / FILE).open("w", encoding="utf-8") as file:
        for text, pair in rows:
            row = {"text": text} if pair is None else {"text": text, "pair": pair}
            file.write(json.dumps(row, ensure_ascii=False) + "\n")
    return {FILE: "texts"}


def splits(artifact: Artifact | None, folder: Path) -> list[Split]:
    """Return its texts as ``split`` does; nothing if it has none besides answers, or is None."""
    if artifact is None or not (artifact.directory / FILE).is_file():
        return []
    return [split(artifact, folder)]


def learned(context: Context, artifact: Artifact | None) -> list[Split]:
    """Return all texts that a student learns: the recipe's own, and those of a transfer set."""
    names = ("train", "unlabelled", "corpus")
    own = [context.splits[name] for name in names if name in context.splits]
    return [answered(artifact, split) for split in own] + splits(artifact, context.work)


def answered(artifact: Artifact | None, split: Split) -> Split:
    """Return the rows of a split that a transfer set has answers to.

    That is all, unless it has some and they are from a file.
    """
    if not has_answers(artifact):
        return split
    places = _tensors(artifact).get(ROWS + split.name)
    if places is None:
        return split
    return picked(split, places.tolist(), split.name, split.sha256)


def named(context: Context, step: str) -> Split:
    """Return the texts that a step made. Raises DataError if it has answers to none."""
    texts = splits(context.artifacts[step], context.work)
    if not texts:
        raise DataError(no_texts(step))
    return texts[0]


def check_texts(stages: Mapping[str, Stage], transfer: str | None) -> None:
    """Raise RecipeError if ``transfer`` names a stage that only answers the recipe's own rows.

    ``stages``: all earlier stages, by id.
    """
    stage = stages.get(transfer or "")
    if transfer and isinstance(stage, Answering) and not stage.transfer:
        raise RecipeError(f"{TRANSFER}: {no_texts(transfer)}")


def no_texts(step: str) -> str:
    """Return that a step made none, to end an error message."""
    return f"{step!r} has answers but no texts; name an augment stage"


def split(artifact: Artifact, folder: Path) -> Split:
    """Return the rows as a split without labels; ``folder``: where its texts are kept."""
    folder.mkdir(parents=True, exist_ok=True)
    texts, pairs = Texts(folder), Texts(folder)
    for row in _read(artifact.directory):
        texts.append(row["text"])
        if "pair" in row:
            pairs.append(row["pair"])
    return Split(
        TRANSFER, artifact.short, artifact.digest, texts, pairs if len(pairs) else None, None
    )


def same_texts(one: Artifact, other: Artifact) -> bool:
    """Return whether two have the same rows in the same order."""
    return file_sha256(one.directory / FILE) == file_sha256(other.directory / FILE)


def write_answers(
    directory: Path, answers: dict[str, Tensor], rows: Mapping[str, Sequence[int]] | None = None
) -> dict[str, str]:
    """Write answers; return path -> role.

    Args:
        directory: where to.
        answers: split -> raw outputs (units × width). In fp16, unless it would lose more than a
            thousandth of one, as it does of large scores.
        rows: the rows of those splits of which not all have answers.
    """
    import torch
    from safetensors.torch import save_file

    def fits(value: Tensor) -> bool:
        half = value.half().float()
        near = torch.allclose(half, value, rtol=1e-3, atol=1e-3, equal_nan=True)
        too_large = value.abs().nan_to_num() > LARGEST
        return near and not too_large.any()

    def narrow(value: Tensor) -> Tensor:
        fit = all(fits(part) for part in value.split(CHUNK))
        return (value.half() if fit else value).contiguous()

    narrowed = {name: narrow(value) for name, value in answers.items()}
    for name, places in (rows or {}).items():
        narrowed[ROWS + name] = torch.tensor(places, dtype=torch.int64)
    save_file(narrowed, directory / ANSWERS)
    return {ANSWERS: "answers"}


def has_answers(artifact: Artifact | None) -> TypeGuard[Artifact]:
    """Return whether it has teachers' answers."""
    return artifact is not None and (artifact.directory / ANSWERS).is_file()


def answers(artifact: Artifact) -> dict[str, Tensor]:
    """Return split -> raw outputs of the teachers, if it has answers, as they are in the file.

    Units × width, in fp16 or fp32, memory-mapped by safetensors.
    """
    tensors = _tensors(artifact)
    return {name: value for name, value in tensors.items() if not name.startswith(ROWS)}


def _tensors(artifact: Artifact) -> dict[str, Tensor]:
    from safetensors.torch import load_file

    return load_file(artifact.directory / ANSWERS)


def _read(directory: Path) -> Iterator[dict[str, Any]]:
    with (directory / FILE).open(encoding="utf-8") as file:
        for line in file:
            yield json.loads(line)
