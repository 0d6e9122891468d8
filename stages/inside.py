"""What a student learns of its teacher besides the answers: the parameters, and which layers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field, model_validator

from pipeline.model.architectures.description import Config
from pipeline.terms.errors import ModelError, RecipeError
from stages.parameters import Row, Training, refuse_unread
from stages.schedule import Scheduled

if TYPE_CHECKING:
    from pipeline.model.architectures.description import Architecture
    from stages.aims import Aim

WEIGHTS = ("hidden_weight", "relation_weight", "attention_weight")
HEADS = 12
"""Heads of relations, as in MiniLM, if they divide the widths."""


class Inside(Training):
    """Base of distillation: what is learned of the states inside a teacher."""

    transfer: str | None = Field(
        default=None,
        description="id of an augment or label stage, whose texts the teacher labels as well",
    )
    hidden_weight: Scheduled = Field(
        default=0.0,
        description="weight of the hidden states, or [first, last]: evenly from one to the other",
    )
    hidden_loss: Literal["mse", "cosine", "patience"] = Field(
        default="mse",
        description="of hidden states: squared difference, angle, or that of the first token",
    )
    hidden_map: Literal["uniform", "last"] | tuple[tuple[int, int], ...] = Field(
        default="uniform",
        description="each layer learns from the teacher's at the same share of the depth, or only "
        "the last from the last, or pairs of layers",
    )
    relation_weight: Scheduled = Field(
        default=0.0,
        description="weight, or [first, last], of the last layers' relations of tokens (MiniLM), "
        "without rotary or relative positions",
    )
    attention_weight: Scheduled = Field(
        default=0.0,
        description="weight, or [first, last], of the last layers' scores of attention (TinyBERT), "
        "without rotary or relative positions",
    )
    relation_heads: int | None = Field(
        default=None,
        ge=1,
        le=256,
        description="heads of relations and attention; default: 12, or the most that divide 12 and "
        "the widths of both models",
    )

    @model_validator(mode="after")
    def _maps_something(self) -> Inside:
        if not self.hidden_map:
            raise ValueError("'hidden_map' has no pair of layers; hidden_weight: 0 learns none")
        refuse_unread(self, ("hidden_map", "hidden_loss"), "hidden_weight")
        refuse_unread(self, ("relation_heads",), "relation_weight", "attention_weight")
        return self

    @property
    def weighed(self) -> list[str]:
        """The weights of states inside the teacher that are not 0."""
        return [name for name in WEIGHTS if getattr(self, name)]

    def check_described(self, *configs: Config) -> None:
        """Raise ModelError if states are asked for that a model has not, or that are not known."""
        for name in self.weighed:
            for config in configs:
                heads = need_parts(config, name, "only the answers can be learned").heads
                if name != "hidden_weight" and not heads.told_apart:
                    raise ModelError(
                        f"distill.{name}: queries, keys and values of a model of type "
                        f"{config['model_type']!r} cannot be compared; hidden states can"
                    )

    def check_answers_only(self) -> None:
        """Raise RecipeError if states are asked for, which a transfer set with answers lacks."""
        if self.weighed:
            raise RecipeError(
                f"{self.weighed[0]}: {self.transfer!r} has the teachers' answers without their "
                "hidden states; name the augment stage as transfer, or remove the weight"
            )

    def aims(self, student: Any, teacher: Any, alike: bool) -> list[Aim]:
        """Return what the student learns besides the answers.

        Raises ModelError if the parts of either are not described, or no row is split ``alike``.
        """
        from pipeline.model import checkpoint, parts
        from stages import aims

        if not alike:
            raise ModelError(
                f"distill.{self.weighed[0]}: the tokenizers of teacher and student split every row "
                "differently, so their states cannot be compared; remove the weight"
            )
        models = (student, teacher)
        depth, other = (len(checkpoint.encoder_layers(each)) for each in models)
        found: list[Aim] = []
        if self.hidden_weight:
            widths = (student.config.hidden_size, teacher.config.hidden_size)
            pairs = self._pairs(depth, other)
            found += aims.of_hidden(pairs, self.hidden_weight, self.hidden_loss, widths)
        last, heads = (depth - 1, other - 1), 0
        if self.relation_weight or self.attention_weight:
            of_heads = [parts.head_counts(each)[-1] * parts.head_size(each) for each in models]
            self._check_heads(*of_heads)
            heads = self.relation_heads or math.gcd(HEADS, *of_heads)
        if self.relation_weight:
            found.append(aims.of_relations(*last, self.relation_weight, heads))
        if self.attention_weight:
            found.append(aims.of_attention(*last, self.attention_weight, heads))
        return found

    def check_widths(self, *configs: Config) -> None:
        """Raise ModelError if ``relation_heads`` do not divide a width, as far as is known."""
        from pipeline.model import parts

        if self.relation_weight or self.attention_weight:
            self._check_heads(*(parts.attention_width(each) for each in configs))

    def _check_heads(self, *widths: int | None) -> None:
        for width in widths:
            if width and self.relation_heads and width % self.relation_heads:
                raise ModelError(
                    f"distill.relation_heads: {self.relation_heads} heads do not divide the width "
                    f"of the last layer's attention, {width}"
                )

    def check_layers(self, depth: int | None, other: int | None) -> None:
        """Raise ModelError if a layer of ``hidden_map`` does not exist, as far as is known."""
        if depth and other and self.hidden_weight:
            self._pairs(depth, other)

    def _pairs(self, depth: int, other: int) -> list[tuple[int, int]]:
        """Return pairs (student's layer, teacher's layer) whose outputs should agree.

        Raises ModelError if one of those that were given does not exist.
        """
        if self.hidden_map == "last":
            return [(depth - 1, other - 1)]
        if self.hidden_map == "uniform":
            return layer_pairs(depth, other)
        pairs = list(self.hidden_map)
        if wrong := [each for each in pairs if not (0 <= each[0] < depth and 0 <= each[1] < other)]:
            raise ModelError(
                f"distill.hidden_map: {list(wrong[0])}: the student has layers 0 to {depth - 1}, "
                f"the teacher 0 to {other - 1}"
            )
        return pairs


def need_parts(config: Config, key: str, otherwise: str) -> Architecture:
    """Return the description of a model's parts.

    Raises ModelError, with what to do ``otherwise``, if they are not described.
    """
    from pipeline.model import parts

    try:
        return parts.named(config)
    except ModelError as error:
        raise ModelError(f"distill.{key}: {error}; {otherwise}") from error


def layer_pairs(depth: int, teacher_depth: int) -> list[tuple[int, int]]:
    """Return (layer, teacher's layer) for every layer, both at the same share of their depths.

    Layer l of L learns from the teacher's layer ⌈l · N / L⌉ of N, counted from 1 (TinyBERT, Jiao et
    al. 2020, arXiv 1909.10351, §3.1). The last always learns from the last.
    """
    return [(layer, -(-(layer + 1) * teacher_depth // depth) - 1) for layer in range(depth)]


def same_tokens(
    tokenizer: Any, rows: Sequence[Row], other: Any, other_rows: Sequence[Row]
) -> list[bool]:
    """Return for each row whether two tokenizers split it into the same tokens; ids may differ.

    If they split texts into different numbers of rows, no row is the same.
    """
    if len(rows) != len(other_rows):
        return [False] * len(rows)
    same_ids = tokenizer.get_vocab() == other.get_vocab()
    special, other_special = set(tokenizer.all_special_ids), set(other.all_special_ids)

    def names(of: Any, ids: list[int], hidden: set[int]) -> list[str | None]:
        tokens = of.convert_ids_to_tokens(ids)
        return [None if i in hidden else token for i, token in zip(ids, tokens, strict=True)]

    def alike(row: Row, other_row: Row) -> bool:
        ids, other_ids = row["input_ids"], other_row["input_ids"]
        if same_ids and ids == other_ids:
            return True
        return names(tokenizer, ids, special) == names(other, other_ids, other_special)

    return [alike(row, other_row) for row, other_row in zip(rows, other_rows, strict=True)]
