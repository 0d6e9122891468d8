"""The first artifact of every run: the pretrained model, copied into the store."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from pipeline.model import sources
from pipeline.stage import Context, Draft, Stage
from pipeline.store.artifact import Artifact, Kind, Source
from pipeline.terms.digests import file_sha256
from pipeline.terms.errors import IntegrityError, ModelError

HEAD = "ForSequenceClassification"
TOKENIZER = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.txt",
    "vocab.json",
    "merges.txt",
    "spiece.model",
    "sentencepiece.bpe.model",
)
SIDECARS = ("shapes.json",)
SHIFTED = ("roberta", "xlm-roberta", "camembert", "mpnet", "longformer")


@dataclass(frozen=True)
class Located:
    """A model found on this machine, before it is in the store."""

    source: Source
    directory: Path
    files: tuple[Path, ...]
    labels: tuple[str, ...]
    positions: int | None
    """The most tokens that the model has positions for; None where it has no table of them."""

    def kind(self, labels: list[str]) -> Kind:
        """A checkpoint if it has a head for just these labels, else an encoder."""
        return Kind.CHECKPOINT if set(self.labels) == set(labels) else Kind.ENCODER


def locate(reference: str, base: Path, allow_pickle: bool) -> Located:
    """Find a model and the files of it that are used.

    Raises ModelError where config, weights or tokenizer are missing, IntegrityError for weights
    that are pickled, unless the recipe allows them.
    """
    directory, revision = sources.model_directory(reference, base)
    config = directory / "config.json"
    try:
        values = json.loads(config.read_text())
    except FileNotFoundError:
        raise ModelError(f"model: {reference}: there is no config.json in {directory}") from None
    except ValueError as error:
        raise ModelError(f"model: {reference}: config.json is not JSON: {error}") from None
    if not isinstance(values, dict):
        raise ModelError(f"model: {reference}: config.json is no JSON object")
    weights = _weights(directory, "model.safetensors")
    pickled = _weights(directory, "pytorch_model.bin")
    if not weights and pickled and not allow_pickle:
        raise IntegrityError(
            f"model: {reference}: {pickled[0].name} is pickled, which can run code when loaded; "
            "convert it to safetensors, or say 'allow_pickle: true' in the recipe"
        )
    if not weights and not pickled:
        raise ModelError(
            f"model: {reference}: there are no weights (model.safetensors, whole or in shards) "
            f"in {directory}"
        )
    tokenizer = [directory / name for name in TOKENIZER if (directory / name).is_file()]
    if not tokenizer:
        raise ModelError(f"model: {reference}: there is no tokenizer in {directory}")
    extra = [directory / name for name in SIDECARS if (directory / name).is_file()]
    return Located(
        source=Source(reference=reference, revision=revision, licence=_licence(directory)),
        directory=directory,
        files=(config, *(weights or pickled), *tokenizer, *extra),
        labels=_labels(values),
        positions=_positions(values),
    )


def _weights(directory: Path, name: str) -> list[Path]:
    """Return a file of weights, or its shards where it was saved in several; [] for neither."""
    whole = directory / name
    shards = sorted(directory.glob(f"{whole.stem}-*-of-*{whole.suffix}"))
    return [whole] if whole.is_file() else shards


def _labels(config: dict[str, Any]) -> tuple[str, ...]:
    architecture = next(iter(config.get("architectures") or [""]))
    named = config.get("id2label") or {}
    if not architecture.endswith(HEAD):
        return ()
    return tuple(str(named[key]) for key in sorted(named, key=int))


def _positions(config: dict[str, Any]) -> int | None:
    """RoBERTa and its kin count positions from the padding id, so they have fewer than they say."""
    said = config.get("max_position_embeddings")
    if not isinstance(said, int):
        return None
    shifted = config.get("model_type") in SHIFTED
    return said - int(config.get("pad_token_id", 1)) - 1 if shifted else said


class ImportModel(Stage):
    """Copy a pretrained model into the store. Added by the engine, not named in a recipe."""

    name: ClassVar[str] = "import"
    consumes: ClassVar[frozenset[Kind]] = frozenset()
    reads: ClassVar[frozenset[str]] = frozenset()
    libraries: ClassVar[tuple[str, ...]] = ()

    reference: str
    revision: str | None
    files_sha256: dict[str, str]

    @classmethod
    def of(cls, located: Located) -> ImportModel:
        """Make the stage of a located model: its parameters name every byte that is copied."""
        digests = {path.name: file_sha256(path) for path in located.files}
        return cls(
            reference=located.source.reference,
            revision=located.source.revision,
            files_sha256=digests,
        )

    def bring(self, located: Located, context: Context) -> Draft:
        """Copy the files; check that vocabulary and model fit together by loading both."""
        from pipeline.model import checkpoint

        weights = [path for path in located.files if path.suffix in (".safetensors", ".bin")]
        for path in located.files:
            if path.name == checkpoint.WEIGHTS or path not in weights:
                shutil.copyfile(path, context.output / path.name)
                context.progress(1, 1, path.name)
        if not (context.output / checkpoint.WEIGHTS).exists():
            _gather(weights, context.output / checkpoint.WEIGHTS, context)
        model = checkpoint.load(context.output)
        description = checkpoint.describe(model)
        checkpoint.check_vocabulary(
            checkpoint.load_tokenizer(context.output), description["vocabulary"]
        )
        roles = {
            path.name: "tokenizer" if path.name in TOKENIZER else "config"
            for path in context.output.iterdir()
        }
        roles |= {name: "weights" for name in roles if name.endswith(".safetensors")}
        return Draft(roles=roles, model=description)

    def run(self, context: Context, model: Artifact) -> Draft:
        raise NotImplementedError("the engine calls bring: an import has no input")


def _gather(paths: list[Path], target: Path, context: Context) -> None:
    """Write weights that are pickled, or lie in several files, as one file of safetensors."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file, save_file

    state: dict[str, Any] = {}
    for path in paths:
        try:
            state |= _unpickle(path) if path.suffix == ".bin" else load_file(path)
        except SafetensorError as error:
            raise IntegrityError(f"{path.name}: not a whole safetensors file: {error}") from error
        context.progress(1, 1, path.name)
    save_file({name: tensor.clone().contiguous() for name, tensor in state.items()}, target)


def _unpickle(path: Path) -> dict[str, Any]:
    """Read a pickled state dict without running code in it."""
    import torch

    try:
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        reason = str(error).splitlines()[0]
        raise IntegrityError(f"{path.name}: holds more than plain weights: {reason}") from error
    if not isinstance(state, dict) or not all(torch.is_tensor(value) for value in state.values()):
        raise ModelError(f"{path.name}: is no state dict (a mapping of names to tensors)")
    return state


def _licence(directory: Path) -> str | None:
    """Return the licence that the model card's front matter names."""
    card = directory / "README.md"
    if not card.is_file():
        return None
    for line in card.read_text(encoding="utf-8", errors="replace").splitlines()[:40]:
        if line.startswith("license:"):
            return line.partition(":")[2].strip() or None
    return None
