"""Hidden states: what the layers of a network compute for each token."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from torch import Tensor

from pipeline.model import parts

States = dict[int, Tensor]
"""Hidden states by the index of their layer: (rows, tokens, width)."""


@contextmanager
def captured_states(network: Any, layers: Sequence[int]) -> Iterator[States]:
    """Record the outputs of some layers inside a ``with`` block.

    Args:
        network: a model whose parts are described.
        layers: indices of its encoder layers.

    Yields:
        The states of the latest forward pass; gradients flow through them.

    Raises:
        ModelError: if layers are named and the parts of the model's family are not described.
    """
    states: States = {}
    handles = []
    encoder = parts.encoder_layers(network) if layers else []
    try:
        for index in layers:
            hook = encoder[index].register_forward_hook(_recorder(states, index))
            handles.append(hook)
        yield states
    finally:
        for handle in handles:
            handle.remove()


def _recorder(states: States, index: int) -> Callable[..., None]:
    """Return a forward hook that puts a layer's output into ``states``."""

    def record(_: Any, __: Any, output: Any) -> None:
        states[index] = output[0] if isinstance(output, tuple) else output

    return record
