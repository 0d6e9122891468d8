"""Find a model class by the name in config.json: one of transformers, or our own static model.

Our own is registered with transformers when a config names it, since its module imports torch.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pipeline.terms.vocabulary import STATIC

PREFIX = "Static"


def register(directory: Path) -> None:
    """Make transformers know our model if the config.json in a folder is of its type."""
    try:
        values = json.loads((directory / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return  # whoever reads the config says what is wrong with it
    if isinstance(values, dict) and values.get("model_type") == STATIC:
        from pipeline.model import static  # noqa: F401


def class_named(name: str) -> Any:
    """Return the class with this name; None if there is none."""
    import transformers

    if name.startswith(PREFIX):
        from pipeline.model import static

        if name in static.CLASSES:
            return static.CLASSES[name]
    return getattr(transformers, name, None)
