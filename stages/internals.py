"""What a network computes inside: hidden states of layers, and queries, keys and values.

They are what a student may learn besides its teacher's answers.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Literal, NamedTuple

from torch import Tensor

from pipeline.model import parts
from pipeline.terms.errors import ModelError

HIDDEN, QUERY, KEY, VALUE = "hidden", "query", "key", "value"
PROJECTED = (QUERY, KEY, VALUE)


class Internal(NamedTuple):
    """One state for each token: the output of a layer, or what its attention makes of the input."""

    kind: Literal["hidden", "query", "key", "value"]
    layer: int


class Captured:
    """What a forward pass computed, by ``Internal``: rows × tokens × width."""

    def __init__(self) -> None:
        self._found: dict[Internal, Tensor] = {}

    def __getitem__(self, wanted: Internal) -> Tensor:
        return self._found[wanted]

    def note(self, wanted: Internal, state: Tensor) -> None:
        self._found[wanted] = state

    def forget(self, wanted: Internal) -> None:
        self._found.pop(wanted, None)

    def __contains__(self, wanted: Internal) -> bool:
        return wanted in self._found

    def all(self, wanted: Sequence[Internal]) -> list[Tensor]:
        """Return several states, in their order."""
        return [self._found[each] for each in wanted]


def width(network: Any, wanted: Internal) -> int:
    """Return the size of a state for each token: of heads, those that are left."""
    if wanted.kind == HIDDEN:
        return int(network.config.hidden_size)
    return parts.head_counts(network)[wanted.layer] * parts.head_size(network)


@contextmanager
def captured(network: Any, wanted: Sequence[Internal]) -> Iterator[Captured]:
    """Note the states of forward passes inside the ``with`` block; gradients flow through them.

    Raises ModelError if the family's parts are not described, or its layer makes queries, keys and
    values in another way than one after the other.
    """
    found, handles = Captured(), []
    layers = parts.encoder_layers(network) if wanted else []

    def note_hidden(each: Internal) -> Any:
        def hook(_: Any, __: Any, output: Any) -> None:
            found.note(each, output[0] if isinstance(output, tuple) else output)

        return hook

    def note_projected(each: Internal, share: int, of: int) -> Any:
        def hook(_: Any, __: Any, output: Tensor) -> None:
            # DeBERTa projects its table of positions by the same layer, after the text.
            if each not in found:
                found.note(each, output.chunk(of, dim=-1)[share])

        return hook

    def forget(each: Internal) -> Any:
        return lambda *_: found.forget(each)

    try:
        for each in wanted:
            layer = layers[each.layer]
            if each.kind == HIDDEN:
                handles.append(layer.register_forward_hook(note_hidden(each)))
                continue
            module, share, of = _maker(network, layer, each.kind)
            handles.append(layer.register_forward_pre_hook(forget(each)))
            handles.append(module.register_forward_hook(note_projected(each, share, of)))
        yield found
    finally:
        for handle in handles:
            handle.remove()


def _maker(network: Any, layer: Any, kind: str) -> tuple[Any, int, int]:
    """Return the linear layer that makes queries, keys or values, and which part of how many."""
    heads, place = parts.of(network).heads, PROJECTED.index(kind)
    makers = heads.of_text
    if not heads.told_apart or len(makers) not in (1, len(PROJECTED)):
        raise ModelError(
            f"queries, keys and values of a model of type {network.config.model_type!r} cannot be "
            "compared"
        )
    if len(makers) == 1:
        return layer.get_submodule(makers[0].path), place, len(PROJECTED)
    return layer.get_submodule(makers[place].path), 0, 1
