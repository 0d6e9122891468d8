"""What a model's folder of others may say: the forms and bounds of its files.

Everything is checked before a library builds something of it: libraries raise what they like, and
reserve whatever memory a number asks for.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from math import prod
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from rarefy.pipeline.terms import bounds, json_text
from rarefy.pipeline.terms.errors import IntegrityError, ModelError
from rarefy.pipeline.terms.panics import first_line

Layers = Annotated[int, Field(ge=0, le=bounds.LAYERS)] | None
Width = Annotated[int, Field(ge=0, le=bounds.WIDTH)] | None
Tokens = Annotated[int, Field(ge=0, le=bounds.TOKENS)] | None
Scalar = str | int | float | bool


class Config(BaseModel):
    """The keys of a config.json that are read here, or that memory is reserved by."""

    model_config = ConfigDict(protected_namespaces=())

    model_type: str | None = None
    architectures: list[str] | None = None
    problem_type: str | None = None
    id2label: Annotated[dict[int, Scalar], Field(max_length=bounds.LABELS)] | None = None
    label2id: Annotated[dict[str, int], Field(max_length=bounds.LABELS)] | None = None
    num_labels: Annotated[int, Field(ge=0, le=bounds.LABELS)] | None = None
    pad_token_id: int | None = None
    num_hidden_layers: Layers = None
    n_layers: Layers = None
    n_layer: Layers = None
    num_layers: Layers = None
    encoder_layers: Layers = None
    hidden_size: Width = None
    dim: Width = None
    d_model: Width = None
    n_embd: Width = None
    embedding_size: Width = None
    intermediate_size: Width = None
    hidden_dim: Width = None
    d_ff: Width = None
    num_attention_heads: Width = None
    n_heads: Width = None
    n_head: Width = None
    type_vocab_size: Width = None
    vocab_size: Tokens = None
    max_position_embeddings: Tokens = None
    n_positions: Tokens = None

    def numbers(self, positions: int) -> int:
        """Return about how many numbers its matrices have; ``positions``: of a table."""
        hidden = self.hidden_size or self.dim or self.d_model or self.n_embd or 0
        layers = self.num_hidden_layers or self.n_layers or self.n_layer or self.num_layers or 0
        inner = self.intermediate_size or self.hidden_dim or self.d_ff or hidden
        tables = positions + (self.vocab_size or 0) + (self.type_vocab_size or 0)
        tables += self.num_labels or 0
        if self.model_type == "albert":
            layers = 1  # all share their weights
        return hidden * (tables + layers * (hidden + inner))


def read_config(path: Path) -> dict[str, Any]:
    """Return the content of a config.json. Raises ModelError if it has not the form of one."""
    values = json_text.foreign(path, dict[str, Any])
    json_text.foreign(path, Config)
    return values


def check_size(
    values: Mapping[str, Any], weights: Iterable[Path], *, pruned: bool, positions: int = 0
) -> None:
    """Check that a config asks for about as many numbers as its weights hold.

    Args:
        values: the config.
        weights: the files; pickled ones are not looked into.
        pruned: whether the config names the sizes from before a pruning.
        positions: the number of positions in a table.

    Raises:
        ModelError: it asks for many times more.
        IntegrityError: a file's header is damaged.
    """
    held = 0
    for path in weights:
        if path.suffix != ".safetensors":
            return
        held += _numbers(path)
    numbers = Config.model_validate(values).numbers(positions)
    beyond = bounds.BEYOND_PRUNED if pruned else bounds.BEYOND
    if numbers > bounds.SPARE + beyond * held:
        raise ModelError(
            f"config.json describes a model of {numbers:,} parameters, but the weights "
            f"hold {held:,}"
        )


def _numbers(path: Path) -> int:
    """Return how many numbers a file of safetensors holds. Raises IntegrityError by its header."""
    from safetensors import SafetensorError, safe_open

    total = 0
    try:
        with safe_open(path, framework="np") as file:
            for name in file.keys():  # noqa: SIM118 - it is no mapping
                total += prod(file.get_slice(name).get_shape())
    except (SafetensorError, OSError, ValueError, TypeError) as error:
        reason = first_line(error)
        raise IntegrityError(f"{path.name}: not a complete safetensors file: {reason}") from error
    return total
