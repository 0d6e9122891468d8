"""Which hidden states of a teacher a student can learn: layers, and rows of the same tokens."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

from pipeline.model.architectures.description import Config
from pipeline.terms.errors import ModelError
from stages.parameters import Row

if TYPE_CHECKING:
    from pipeline.model.architectures.description import Architecture

LayerMap = Literal["uniform", "last"] | tuple[tuple[int, int], ...]
"""Which layers of student and teacher are compared: a rule, or pairs of indices."""


def require_parts(config: Config, key: str, advice: str) -> Architecture:
    """Return the description of a model's parts.

    Args:
        config: the model's config.json.
        key: the parameter of ``distill`` that needs the description.
        advice: what to do instead.

    Raises:
        ModelError: if the parts of the model's family are not described.
    """
    from pipeline.model import parts

    try:
        return parts.named(config)
    except ModelError as error:
        raise ModelError(f"distill.{key}: {error}; {advice}") from error


def map_layers(layer_map: LayerMap, depth: int, teacher_depth: int) -> list[tuple[int, int]]:
    """Return the pairs (student's layer, teacher's layer) that a map asks for.

    Raises ModelError if a pair names a layer that does not exist.
    """
    if layer_map == "last":
        return [(depth - 1, teacher_depth - 1)]
    if layer_map == "uniform":
        return spread_layers(depth, teacher_depth)
    for layer, teacher_layer in layer_map:
        if not (0 <= layer < depth and 0 <= teacher_layer < teacher_depth):
            raise ModelError(
                f"distill.hidden_map: {[layer, teacher_layer]}: the student has layers 0 to "
                f"{depth - 1}, the teacher 0 to {teacher_depth - 1}"
            )
    return list(layer_map)


def spread_layers(depth: int, teacher_depth: int) -> list[tuple[int, int]]:
    """Return (layer, teacher's layer) for every layer, both at the same share of their depths.

    Layer l of L learns from the teacher's layer ⌈l · N / L⌉ of N, counted from 1 (TinyBERT, Jiao et
    al. 2020, arXiv 1909.10351, §3.1). The last always learns from the last.
    """
    pairs = []
    for layer in range(depth):
        rounded_up = -(-(layer + 1) * teacher_depth // depth)
        pairs.append((layer, rounded_up - 1))
    return pairs


def same_tokens(
    tokenizer: Any, rows: Sequence[Row], other: Any, other_rows: Sequence[Row]
) -> list[bool]:
    """Return for each row whether two tokenizers split it into the same tokens; ids may differ.

    If they split texts into different numbers of rows, no row is the same.

    Args:
        tokenizer: the student's.
        rows: the texts as the student reads them.
        other: the teacher's tokenizer.
        other_rows: the same texts as the teacher reads them.
    """
    if len(rows) != len(other_rows):
        return [False] * len(rows)
    same_ids = tokenizer.get_vocab() == other.get_vocab()
    special, other_special = set(tokenizer.all_special_ids), set(other.all_special_ids)
    same = []
    for row, other_row in zip(rows, other_rows, strict=True):
        ids, other_ids = row["input_ids"], other_row["input_ids"]
        if same_ids and ids == other_ids:
            same.append(True)
            continue
        tokens = _tokens(tokenizer, ids, special)
        other_tokens = _tokens(other, other_ids, other_special)
        same.append(tokens == other_tokens)
    return same


def _tokens(tokenizer: Any, ids: list[int], special: set[int]) -> list[str | None]:
    """Return the tokens of some ids; None for special tokens, whose names may differ."""
    tokens = tokenizer.convert_ids_to_tokens(ids)
    return [None if i in special else token for i, token in zip(ids, tokens, strict=True)]
