"""Passes through a model whose first layers give what they gave before, without computing it again.

To try each layer alone, most of a model need not run: layers before it answer as they did.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from torch import nn

from rarefy.pipeline.model.architectures import parts
from rarefy.pipeline.terms.errors import ModelError

Pass = Callable[[], Any]
"""Runs the same rows through the model in the same order, each time."""


def layers_of(model: nn.Module) -> list[nn.Module]:
    """Return the layers in the order in which they run, if each runs once for an input.

    Else, as with the shared layers of ALBERT, and for families that are not described: none.
    """
    try:
        layers = list(parts.encoder_layers(model))
    except ModelError:
        return []
    return layers if parts.depth(parts.unwrapped(model).config) == len(layers) else []


class Replay:
    """What the layers before one of a model's gave in an exact pass."""

    def __init__(self, model: nn.Module) -> None:
        self.layers = layers_of(model)
        self.skipped = 0
        self.outputs: list[Any] = []

    def before(self, module: nn.Module, run: Pass) -> None:
        """Skip all layers before the one that holds a module; none if no layer holds it.

        The weights must be exact now. A few passes of ``run`` are made if more layers are skipped
        than before.
        """
        holders = (at for at, layer in enumerate(self.layers) if module in set(layer.modules()))
        wanted = next(holders, 0)
        if wanted < self.skipped:
            self.skipped, self.outputs = 0, []
        if wanted == self.skipped:
            return
        outputs = list[Any]()
        hook = self.layers[wanted - 1].register_forward_hook(lambda *seen: outputs.append(seen[-1]))
        try:
            with self.skipping():
                run()
        finally:
            hook.remove()
        self.skipped, self.outputs = wanted, outputs

    @contextmanager
    def skipping(self) -> Iterator[None]:
        """Let the skipped layers answer what they did, in one pass inside a ``with`` block.

        The last of them gives its own outputs; nothing else reads those of the others.
        """
        at = 0

        def last(*_: Any, **__: Any) -> Any:
            nonlocal at
            at += 1
            return self.outputs[at - 1]

        skipped = self.layers[: self.skipped]
        own = [vars(layer).get("forward") for layer in skipped]
        try:
            for layer in skipped:
                layer.forward = lambda *_, **__: self.outputs[at]  # type: ignore[method-assign]
            if skipped:
                skipped[-1].forward = last  # type: ignore[method-assign]
            yield
        finally:
            for layer, forward in zip(skipped, own, strict=True):
                del layer.forward
                if forward is not None:  # somebody had put one there
                    layer.forward = forward
