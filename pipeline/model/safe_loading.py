"""Read a model's folder with transformers, without running code from it.

What its files say is checked before a library builds something of it: libraries raise what they
like, and reserve whatever memory a number asks for.
Our own bag of tokens is registered with transformers when a config names it: its module imports
torch.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from math import prod
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from rarefy.pipeline.sources import hub
from rarefy.pipeline.terms import bounds, json_text
from rarefy.pipeline.terms.errors import IntegrityError, ModelError, first_line
from rarefy.pipeline.terms.recipe_parts import BAG_OF_TOKENS

PREFIX = "BagOfTokens"
"""How the names of our own classes begin."""
WEIGHTS = hub.WEIGHTS
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
