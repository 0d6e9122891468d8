"""The first artifact of every run: the pretrained model, found and brought into the store."""

from __future__ import annotations

import json
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from pipeline.model import pretrained, sources
from pipeline.stage import Context, Draft, Stage
from pipeline.stage.resources import PROCESS, Resources, Span, Workload, weights
from pipeline.store.artifact import Artifact, Kind, Manifest, Source
from pipeline.terms.digests import file_sha256
from pipeline.terms.errors import ModelError, RarefyError

HEAD = "ForSequenceClassification"
TOKENIZER = (
    "tokenizer.json",
    "tokenizer.model",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.txt",
    "vocab.json",
    "merges.txt",
    "spiece.model",
    "sentencepiece.bpe.model",
)
LEFT_OUT, NEW = "left_out", "new"
"""Keys of the manifest's ``model``."""
SIDECARS = ("shapes.json",)
SHIFTED = ("roberta", "xlm-roberta", "camembert", "mpnet", "longformer")


@dataclass(frozen=True)
class Located:
    """A model found on this machine, before it is in the store."""

    source: Source
    directory: Path
    files: tuple[Path, ...]
    weights: tuple[Path, ...]
    """Those of the files that hold weights."""
    labels: tuple[str, ...]
    positions: int | None
    """The most tokens that the model has positions for; None where it has no table of them."""

    def kind(self, labels: list[str]) -> Kind:
        """A checkpoint if it has a head for just these labels, else an encoder."""
        return Kind.CHECKPOINT if set(self.labels) == set(labels) else Kind.ENCODER

    def warnings(self, labels: list[str]) -> list[str]:
        """Return what the user should know before the import: a head that is for other labels."""
        if not self.labels or self.kind(labels) is Kind.CHECKPOINT:
            return []
        return [
            f"model: its head is for other labels ({', '.join(self.labels[:5])}"
            f"{', …' if len(self.labels) > 5 else ''}); a fresh head replaces it"
        ]


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
    try:
        weights = pretrained.weight_files(directory, allow_pickle)
    except RarefyError as error:
        error.args = (f"model: {reference}: {error}",)
        raise
    tokenizer = [directory / name for name in TOKENIZER if (directory / name).is_file()]
    if not tokenizer:
        raise ModelError(f"model: {reference}: there is no tokenizer in {directory}")
    extra = [directory / name for name in SIDECARS if (directory / name).is_file()]
    return Located(
        source=Source(reference=reference, revision=revision, licence=_licence(directory)),
        directory=directory,
        files=(config, *weights, *tokenizer, *extra),
        weights=tuple(weights),
        labels=_labels(values),
        positions=_positions(values),
    )


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
    """Bring a pretrained model into the store. Added by the engine, not named in a recipe."""

    name: ClassVar[str] = "import"
    version: ClassVar[int] = 2
    consumes: ClassVar[frozenset[Kind]] = frozenset()
    reads: ClassVar[frozenset[str]] = frozenset()

    reference: str
    revision: str | None
    files_sha256: dict[str, str]

    @classmethod
    def of(cls, located: Located) -> ImportModel:
        """Make the stage of a located model: its parameters name every byte that is read."""
        digests = {path.name: file_sha256(path) for path in located.files}
        return cls(
            reference=located.source.reference,
            revision=located.source.revision,
            files_sha256=digests,
        )

    def resources(self, work: Workload) -> Resources:
        """Return what importing needs: the weights on disk; in memory the file's and the model's.

        Surely half: a head that is left out may not be known by its name.
        """
        whole = weights(work.shape)
        return Resources(
            disk=Span(whole.least // 2, whole.most),
            memory=PROCESS + Span(whole.least // 2, 3 * whole.most),
            shape=work.shape,
            effort=work.shape.parameters,
        )

    def bring(self, located: Located, context: Context) -> Draft:
        """Load model and tokenizer as others saved them, and write both in our own form."""
        from pipeline.model import checkpoint

        answers = located.kind(list(context.task.labels)) is Kind.CHECKPOINT
        context.progress(0, 1, "reading the weights")
        found = pretrained.load(located.directory, located.weights, complete=answers)
        with tempfile.TemporaryDirectory(prefix="rarefy-tokenizer-") as folder:
            for path in located.files:  # and no other file: these are in the fingerprint
                if path.name in (*TOKENIZER, "config.json"):
                    shutil.copyfile(path, Path(folder) / path.name)
            tokenizer = checkpoint.load_tokenizer(Path(folder))
            roles = checkpoint.save(found.model, tokenizer, context.output)
        context.progress(1, 1, "written")
        description = checkpoint.describe(checkpoint.load(context.output))
        changes = {LEFT_OUT: list(found.left_out), NEW: list(found.new)}
        return Draft(roles, description | {key: names for key, names in changes.items() if names})

    def run(self, context: Context, model: Artifact) -> Draft:
        raise NotImplementedError("the engine calls bring: an import has no input")


def warnings(manifest: Manifest) -> list[str]:
    """Return what the user should know of an import: weights left out, and parts that are new."""
    model = manifest.model
    said = []
    if left_out := model.get(LEFT_OUT):
        said.append(
            f"model: {', '.join(left_out)} left out: {model['architecture']} has no place for it"
        )
    if new := model.get(NEW):
        said.append(f"model: no weights for {', '.join(new)}: drawn at random, for training to set")
    return said


def _licence(directory: Path) -> str | None:
    """Return the licence that the model card's front matter names."""
    card = directory / "README.md"
    if not card.is_file():
        return None
    for line in card.read_text(encoding="utf-8", errors="replace").splitlines()[:40]:
        if line.startswith("license:"):
            return line.partition(":")[2].strip() or None
    return None
