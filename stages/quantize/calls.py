"""Which calls of a layer read the text.

DeBERTa calls the layers of queries and keys twice: then with its table of positions, which is no
input of an exported layer. So in a family that is described, the first call of a pass counts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from rarefy.pipeline.model.architectures import ARCHITECTURES


@contextmanager
def of_text(model: Any) -> Iterator[Callable[[str], bool]]:
    """Yield ``reads_text(name)``, to be asked once at each call of a layer of this model."""
    kind = getattr(getattr(model, "config", None), "model_type", None)
    once, seen = kind in ARCHITECTURES, set[str]()

    def reads_text(name: str) -> bool:
        first = name not in seen
        if once:
            seen.add(name)
        return first

    hook = model.register_forward_pre_hook(lambda *_: seen.clear())
    try:
        yield reads_text
    finally:
        hook.remove()
