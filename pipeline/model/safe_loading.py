"""Read a model's folder with transformers, without running code from it.

Our own bag of tokens is registered with transformers when a config names it: its module imports
torch.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import BaseModel

from rarefy.pipeline.sources import model_files
from rarefy.pipeline.terms import json_text
from rarefy.pipeline.terms.errors import IntegrityError, ModelError
from rarefy.pipeline.terms.recipe_parts import BAG_OF_TOKENS

PREFIX = "BagOfTokens"
"""How the names of our own classes begin."""
WEIGHTS = model_files.WEIGHTS
"""The name of a model's weights, if they are in one file."""


class _Index(BaseModel):
    """Which shard each weight is in."""

    weight_map: dict[str, str]


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


def check(directory: Path) -> None:
    """Raise ModelError if config.json needs code from the folder (``auto_map``) to be understood.

    Code for a model type that transformers knows is ignored: its own classes are used.
    """
    try:
        values = json_text.parse((directory / "config.json").read_bytes())
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
        values = json_text.parse((directory / "config.json").read_bytes())
    except (OSError, ValueError):
        return  # whoever reads the config says what is wrong with it
    if isinstance(values, dict) and values.get("model_type") == BAG_OF_TOKENS:
        from rarefy.pipeline.model import bag_of_tokens  # noqa: F401


def class_named(name: str) -> Any:
    """Return the class with this name; None if there is none."""
    import transformers

    if name.startswith(PREFIX):
        from rarefy.pipeline.model import bag_of_tokens

        if name in bag_of_tokens.CLASSES:
            return bag_of_tokens.CLASSES[name]
    return getattr(transformers, name, None)


def weight_files(
    directory: Path, allow_pickle: bool = False, *, setting: str | None = None
) -> list[Path]:
    """Return the weight files: safetensors, single or sharded, else pickled ones if allowed.

    Raises ModelError if there are no weights, IntegrityError if there are only pickled ones and
    they are not allowed; ``setting``: what of the recipe would allow them, if something does.
    """
    weights = _whole_or_shards(directory, WEIGHTS)
    if weights:
        return weights
    pickled = _whole_or_shards(directory, "pytorch_model.bin")
    if pickled and not allow_pickle:
        raise IntegrityError(
            f"{pickled[0].name} is a pickle file, which can run code when loaded; "
            "convert it to safetensors"
            + (
                f", or set {setting!r} in the recipe (rarefy init: --allow-pickle)"
                if setting
                else ""
            )
        )
    if not pickled:
        raise ModelError(
            f"there are no weights in {directory}; expected model.safetensors, single or sharded"
        )
    return pickled


def _whole_or_shards(directory: Path, name: str) -> list[Path]:
    """Return a file of weights, or the shards that its index names: others may be older ones.

    Raises ModelError if one of them is missing, or if there is no index and they are not of one
    model.
    """
    whole = directory / name
    index = directory / f"{name}.index.json"
    if whole.is_file():
        return [whole]
    if index.is_file():
        named = _named_in(index)
        if missing := [shard for shard in named if not (directory / shard).is_file()]:
            raise ModelError(f"{missing[0]} is missing, one of {len(named)} in {index.name}")
        return [directory / shard for shard in named]
    shards = sorted(directory.glob(f"{whole.stem}-*-of-*{whole.suffix}"))
    counts = {shard.stem.rpartition("-")[2] for shard in shards}
    if shards and counts != {f"{len(shards):05}"}:
        raise ModelError(
            f"the shards in {directory} are not those of one model, e.g. {shards[0].name}; keep "
            f"its own ones, or {index.name}"
        )
    return shards


def _named_in(index: Path) -> list[str]:
    try:
        shards = json_text.foreign(index, _Index).weight_map.values()
    except ModelError as error:
        raise ModelError(f"{index.name}: not an index of shards: {error}") from None
    named = sorted(set(shards))
    if not named or any(Path(shard).name != shard for shard in named):
        raise ModelError(f"{index.name}: its shards are not files next to it")
    suffix = Path(index.name.removesuffix(".index.json")).suffix
    if others := [shard for shard in named if Path(shard).suffix != suffix]:
        raise ModelError(f"{index.name}: {others[0]} is not a {suffix} file")
    return named
