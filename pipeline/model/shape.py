"""The dimensions of a model, read without loading it."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from math import prod
from pathlib import Path
from typing import Any

from pipeline.model import parts

HEADS = ("cls.", "lm_head.", "vocab_", "generator_", "discriminator_")
"""Name prefixes of the weights of pretraining heads, which an import leaves out."""
_NAMES = {
    "layers": parts.DEPTH,
    "hidden": parts.WIDTH,
    "heads": ("num_attention_heads", "n_heads", "n_head", "num_heads"),
    "intermediate": ("intermediate_size", "hidden_dim", "d_ff", "d_inner", "n_inner"),
    "vocabulary": ("vocab_size",),
}


@dataclass(frozen=True)
class Shape:
    """The dimensions that determine memory, disk space and time for training and inference.

    ``heads`` and ``intermediate`` are those of the widest layer. ``embeddings``: the weights of
    tables, of which a token reads a row; None means vocabulary × hidden. ``exact`` is False for a
    model that does not exist yet and may turn out smaller.
    """

    parameters: int
    layers: int
    hidden: int
    heads: int
    intermediate: int
    vocabulary: int
    embeddings: int | None = None
    exact: bool = True

    @property
    def body(self) -> int:
        """Number of parameters that every token uses: all but the embeddings."""
        tables = self.embeddings
        if tables is None:
            tables = self.vocabulary * self.hidden
        return max(1, self.parameters - tables)

    @property
    def linear(self) -> int:
        """Number of weights in the encoder's linear layers: attention 4·h², feed-forward 2·h·i."""
        attention = 4 * self.hidden**2
        feed_forward = 2 * self.hidden * self.intermediate
        return self.layers * (attention + feed_forward)

    def with_layers(self, count: int) -> Shape:
        """Return the shape with ``count`` layers of 4·h² + 2·h·i weights and 9·h + i biases."""
        weights = 4 * self.hidden**2
        weights += 2 * self.hidden * self.intermediate
        weights += 9 * self.hidden + self.intermediate
        removed = (self.layers - count) * weights
        left = max(0, self.parameters - removed)
        return replace(self, parameters=left, layers=count)

    def shrunk(self, gone: float) -> Shape:
        """Return an inexact shape with about ``gone`` fewer weights."""
        left = max(0, self.parameters - round(gone))
        return replace(self, parameters=left, exact=False)


def of_manifest(model: dict[str, Any]) -> Shape | None:
    """Return the shape in a manifest's ``model`` entry. Returns None if the entry is incomplete."""
    try:
        return Shape(
            parameters=int(model["parameters"]),
            layers=int(model["layers"]),
            hidden=int(model["hidden"]),
            heads=max(model["heads"], default=1),
            intermediate=max(model["intermediate"], default=4 * int(model["hidden"])),
            vocabulary=int(model["vocabulary"]),
            embeddings=int(model["embeddings"]),
        )
    except (KeyError, TypeError, ValueError):
        return None


def of_directory(directory: Path, files: tuple[Path, ...]) -> Shape | None:
    """Return the shape from config.json and the weight files. Returns None if it is incomplete.

    Pickled files have no header, so their size is divided by four bytes per parameter.
    """
    try:
        config = json.loads((directory / "config.json").read_bytes())
        sizes: dict[str, Any] = {}
        for key, names in _NAMES.items():
            sizes[key] = next(int(config[name]) for name in names if name in config)
        exact = all(path.suffix != ".bin" for path in files)
        parameters = sum(map(_parameters, files))
        return Shape(parameters=parameters, exact=exact, **sizes)
    except (OSError, ValueError, TypeError, KeyError, StopIteration):
        return None


def _parameters(path: Path) -> int:
    """Count the weights in a file. Safetensors start with the header's length and a JSON header."""
    if path.suffix == ".bin":
        return path.stat().st_size // 4
    if path.suffix != ".safetensors":
        return 0
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if length > path.stat().st_size:
            raise ValueError(f"{path}: not a safetensors file")  # such as Git LFS's pointer to one
        header = json.loads(file.read(length))
    count = 0
    for name, tensor in header.items():
        if name != "__metadata__" and not name.startswith(HEADS):
            count += prod(tensor["shape"])
    return count
