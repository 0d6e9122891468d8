"""Read a model's folder with transformers, without running code from it.

Our own static model is registered with transformers when a config names it: its module imports
torch.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pipeline.terms.errors import ModelError
from pipeline.terms.vocabulary import STATIC

PREFIX = "Static"
"""How the names of our own classes begin."""


def from_folder(auto: Any, directory: Path, **options: Any) -> Any:
    """Return what one of transformers' Auto classes reads from a folder; never from the network.

    Without ``trust_remote_code=False``, transformers asks at a terminal whether to run the code.
    Raises ModelError if the model needs code of its own; otherwise what transformers raises.
    """
    check(directory)
    register(directory)
    return auto.from_pretrained(
        str(directory), local_files_only=True, trust_remote_code=False, **options
    )


def check_plain(directory: Path) -> None:
    """Raise ModelError if transformers would apply an adapter that lies beside the weights.

    It is in no fingerprint, and may be a pickle.
    """
    if (directory / "adapter_config.json").is_file():
        raise ModelError(
            f"{directory}: there is an adapter beside the weights (adapter_config.json); give the "
            "model without it, or with it merged"
        )


def check(directory: Path) -> None:
    """Raise ModelError if config.json needs code from the folder (``auto_map``) to be understood.

    Code for a model type that transformers knows is ignored: its own classes are used.
    """
    try:
        values = json.loads((directory / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return  # whoever reads the config says what is wrong with it
    if not isinstance(values, dict) or "auto_map" not in values:
        return
    from transformers import CONFIG_MAPPING

    kind = values.get("model_type")
    if kind not in CONFIG_MAPPING:
        raise ModelError(
            f"{directory}/config.json: the model type {kind!r} needs code from this folder "
            "(auto_map), and rarefy runs no code of a model; use a type that transformers has"
        )


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
