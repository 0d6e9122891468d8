"""Heads of an attention that reads some columns of a table which all layers share.

MPNet adds the same relative positions to the scores of all layers, with a number for each head.
A layer that has lost heads reads the numbers of those that it kept: its attention has their places
as a buffer, and takes them from the table's output before each pass.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

NAME = "kept_heads"
PLACE = 2
"""The place of the table's output among the arguments: hidden states, mask, positions."""


def keep(attention: nn.Module, retained: Tensor) -> None:
    """Let an attention read only the heads ``retained``, places among those that it has now."""
    before = getattr(attention, NAME, None)
    if before is None:
        heads = retained.to(torch.int64)
    else:
        heads = before[retained.to(before.device)]
    prepare(attention, heads)


def prepare(attention: nn.Module, heads: Tensor) -> None:
    """Give an attention the places of its heads in the table; a loader fills them in later."""
    if not hasattr(attention, NAME):
        attention.register_forward_pre_hook(_taken, with_kwargs=True)
    attention.register_buffer(NAME, heads)


def count(attention: nn.Module) -> int | None:
    """Return the number of heads that an attention kept; None if it reads the whole table."""
    heads = getattr(attention, NAME, None)
    if heads is None:
        return None
    return len(heads)


def _taken(module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    if "position_bias" in kwargs:
        table = kwargs["position_bias"]
    else:
        table = args[PLACE]
    if table is None:
        return args, kwargs
    table = table[:, getattr(module, NAME)]
    if "position_bias" in kwargs:
        return args, {**kwargs, "position_bias": table}
    return (*args[:PLACE], table, *args[PLACE + 1 :]), kwargs
