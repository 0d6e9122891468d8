"""Import the pretrained model into the store: the first artifact of every run."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from pipeline.model import no_code, pooling, pretrained, sources
from pipeline.model.architectures.description import Config
from pipeline.stage import Context, Draft, Stage
from pipeline.stage.resources import PROCESS, Resources, Span, Workload, weights
from pipeline.stage.tasks import Task
from pipeline.store.artifact import Artifact, Kind, Manifest, Source
from pipeline.terms.digests import file_sha256
from pipeline.terms.errors import ModelError, RarefyError

TOKENIZER = (
    "tokenizer.json",
    "tokenizer.model",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.txt",
    "vocab.json",
    "merges.txt",
    "bpe.codes",
    "spiece.model",
    "spm.model",
    "sentencepiece.bpe.model",
)
LEFT_OUT, NEW = "left_out", "new"
"""Keys of the manifest's ``model``: the weights left out, and the parameters drawn at random."""
SIDECARS = ("shapes.json",)
SHIFTED = (
    *("roberta", "xlm-roberta", "camembert", "mpnet", "longformer", "data2vec-text"),
    *("roberta-prelayernorm", "xlm-roberta-xl", "xmod"),
)
"""Model types whose positions start after the padding id."""
POSITIONS = ("max_position_embeddings", "n_positions")
ROTARY = ("rope_theta", "rope_parameters", "rope_scaling", "global_rope_theta", "rotary_pct")
"""Keys of a config that only models with rotary positions have."""
TABLELESS = ("modernbert", "llama", "mistral", "qwen2", "qwen3", "gemma", "gemma2", "eurobert")
"""Model types with rotary positions whose config may leave out those keys."""


@dataclass(frozen=True)
class Located:
    """A model found on this machine, before its import into the store."""

    source: Source
    directory: Path
    files: tuple[Path, ...]
    weights: tuple[Path, ...]
    """The subset of ``files`` that holds weights."""
    config: Config
    """The content of config.json."""
    positions: int | None
    """The maximum number of tokens; None if the model has no position table."""
    trained_length: int | None
    """The number of tokens beyond which its training says nothing; None if that is not known."""
    pooling: pooling.Pooling | None = None
    """How sentence-transformers makes embeddings of its outputs; None if it does not say."""

    def kind(self, task: type[Task], labels: Sequence[str]) -> Kind:
        """Return CHECKPOINT if the model has the task's head for these labels, else ENCODER."""
        own = task.head(self.config)
        return Kind.CHECKPOINT if own is not None and set(own) == set(labels) else Kind.ENCODER

    def length_warnings(self, max_length: int) -> list[str]:
        """Return a warning if texts may be longer than those that the model was trained on."""
        if self.trained_length is None or max_length <= self.trained_length:
            return []
        return [
            f"model: data.max_length is {max_length} tokens, but the model is made for at most "
            f"{self.trained_length}"
        ]

    def warnings(self, task: type[Task], labels: Sequence[str]) -> list[str]:
        """Return a warning if the model's head is for other labels and will be replaced."""
        own = task.head(self.config)
        if not own or self.kind(task, labels) is Kind.CHECKPOINT:
            return []
        return [
            f"model: its head is for other labels ({', '.join(own[:5])}"
            f"{', …' if len(own) > 5 else ''}) and will be replaced by a new one"
        ]


def locate(reference: str, base: Path, allow_pickle: bool) -> Located:
    """Find a model and the files to import.

    A sentence-transformers directory may have the transformer in a folder of its own.

    Raises ModelError if the config, weights or tokenizer are missing, the model needs code of its
    own, or embeddings are made in a way that rarefy does not know; IntegrityError if the weights
    are pickled and the recipe does not allow that.
    """
    root, revision = sources.model_directory(reference, base)
    with _about(reference):
        parts = pooling.layout(root)
    directory = parts.transformer
    config = directory / "config.json"
    try:
        values = json.loads(config.read_text())
    except FileNotFoundError:
        raise ModelError(f"model: {reference}: there is no config.json in {directory}") from None
    except ValueError as error:
        raise ModelError(f"model: {reference}: config.json is not JSON: {error}") from None
    if not isinstance(values, dict):
        raise ModelError(f"model: {reference}: config.json is not a JSON object")
    with _about(reference):
        no_code.check(directory)
        weights = pretrained.weight_files(directory, allow_pickle)
    tokenizer = [directory / name for name in TOKENIZER if (directory / name).is_file()]
    if not tokenizer:
        raise ModelError(f"model: {reference}: there is no tokenizer in {directory}")
    extra = [directory / name for name in SIDECARS if (directory / name).is_file()]
    return Located(
        source=Source(reference=reference, revision=revision, licence=_licence(root)),
        directory=directory,
        files=(config, *weights, *tokenizer, *extra, *(root / name for name in parts.files)),
        weights=tuple(weights),
        config=values,
        positions=_positions(values),
        trained_length=parts.max_length or (None if _has_table(values) else _stated(values)),
        pooling=parts.pooling,
    )


@contextmanager
def _about(reference: str) -> Iterator[None]:
    """Begin the text of errors with the model's reference."""
    try:
        yield
    except RarefyError as error:
        error.args = (f"model: {reference}: {error}",)
        raise


def _positions(config: dict[str, Any]) -> int | None:
    """Return the number of usable positions; None if there is no table of them.

    RoBERTa and its relatives start counting after the padding id, so they can use fewer positions
    than the config states.
    """
    stated = _stated(config)
    if stated is None or not _has_table(config):
        return None
    padding = config.get("pad_token_id")
    shifted = config.get("model_type") in SHIFTED
    return stated - (1 if padding is None else int(padding)) - 1 if shifted else stated


def _stated(config: dict[str, Any]) -> int | None:
    found = (config.get(name) for name in POSITIONS)
    return next((value for value in found if isinstance(value, int)), None)


def _has_table(config: dict[str, Any]) -> bool:
    """Return whether a model looks its positions up in a table, which ends.

    Rotary and relative positions can be computed for any length. What the config states is then
    the length that the model was trained on.
    """
    relative = config.get("position_biased_input") is False
    rotary = config.get("model_type") in TABLELESS or any(key in config for key in ROTARY)
    return not (relative or rotary)


class ImportModel(Stage):
    """Import a pretrained model into the store. The engine adds this stage to every recipe."""

    name: ClassVar[str] = "import"
    version: ClassVar[int] = 4
    consumes: ClassVar[frozenset[Kind]] = frozenset()
    reads: ClassVar[frozenset[str]] = frozenset()

    reference: str
    revision: str | None
    files_sha256: dict[str, str]

    @classmethod
    def of(cls, located: Located) -> ImportModel:
        """Return the stage for a located model, with the digest of every file that it reads."""
        digests = {_name(path, located): file_sha256(path) for path in located.files}
        return cls(
            reference=located.source.reference,
            revision=located.source.revision,
            files_sha256=digests,
        )

    def resources(self, work: Workload) -> Resources:
        """Return what importing needs: the weights twice on disk; in memory, file and model.

        On disk they are copied first. The lower bound is half the weights each: a file may hold
        them in half precision, and a head that will be left out cannot always be recognized by its
        name.
        """
        whole = weights(work.shape)
        return Resources(
            disk=Span(2 * (whole.least // 2), 2 * whole.most),
            memory=PROCESS + Span(whole.least // 2, 3 * whole.most),
            shape=work.shape,
            effort=work.shape.parameters,
        )

    def bring(self, located: Located, context: Context) -> Draft:
        """Load the model and tokenizer as published, and save both in the store's own format."""
        from pipeline.model import checkpoint

        task = context.task
        answers = located.kind(type(task), task.labels) is Kind.CHECKPOINT
        context.progress(0, 1, "reading the weights")
        with tempfile.TemporaryDirectory(dir=context.work) as folder:
            copied = self._copy(located, Path(folder))
            weights = [copied / path.name for path in located.weights]
            try:
                found = pretrained.load(copied, weights, complete=answers and not task.body_only)
                tokenizer = checkpoint.load_tokenizer(copied)
            except RarefyError as error:  # name the user's folder
                error.args = (str(error).replace(str(copied), str(located.directory)),)
                raise
            model = found.model.base_model if task.body_only else found.model
            if located.pooling is not None:
                pooling.note(model.config, located.pooling)
            if getattr(model.config, "pad_token_id", 0) is None:
                model.config.pad_token_id = tokenizer.pad_token_id  # decoders read it
            roles = checkpoint.save(model, tokenizer, context.output)
        context.progress(1, 1, "written")
        description = checkpoint.describe(checkpoint.load(context.output))
        changes = {LEFT_OUT: list(found.left_out), NEW: list(found.new)}
        return Draft(roles, description | {key: names for key, names in changes.items() if names})

    def _copy(self, located: Located, folder: Path) -> Path:
        """Copy the files in the fingerprint, and no others; return the folder.

        Raises ModelError if one has changed since it was hashed.
        """
        for path in located.files:
            name = _name(path, located)
            copy = folder / name
            copy.parent.mkdir(exist_ok=True)
            shutil.copyfile(path, copy)
            if file_sha256(copy) != self.files_sha256[name]:
                raise ModelError(f"{path}: the file changed after the run was planned; run again")
        return folder

    def run(self, context: Context, model: Artifact) -> Draft:
        raise NotImplementedError("an import has no input; the engine calls bring() instead")


def _name(path: Path, located: Located) -> str:
    """Return a file's name, after that of its folder if it is not beside config.json.

    The transformer may be in the directory of sentence-transformers or in a folder in it.
    """
    inside = path.parent in (located.directory, located.directory.parent)
    return path.name if inside else f"{path.parent.name}/{path.name}"


def warnings(manifest: Manifest) -> list[str]:
    """Return warnings about an import: weights left out, and parameters drawn at random."""
    model = manifest.model
    sentences = []
    if left_out := model.get(LEFT_OUT):
        sentences.append(
            f"model: {', '.join(left_out)} left out, because {model['architecture']} does not "
            "use it"
        )
    if new := model.get(NEW):
        sentences.append(
            f"model: no weights for {', '.join(new)}; initialized at random, to be trained"
        )
    return sentences


def _licence(directory: Path) -> str | None:
    """Return the licence named in the model card's front matter; None if there is none."""
    card = directory / "README.md"
    if not card.is_file():
        return None
    for line in card.read_text(encoding="utf-8", errors="replace").splitlines()[:40]:
        if line.startswith("license:"):
            return line.partition(":")[2].strip() or None
    return None
