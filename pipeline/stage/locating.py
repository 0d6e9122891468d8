"""Find the pretrained model of a recipe on this machine, and what its files say about it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import yaml

from pipeline.model import no_code, pooling, pretrained, sources
from pipeline.model.architectures.description import Config
from pipeline.model.padding import SHIFTED
from pipeline.model.parts import of_unknown_heads
from pipeline.stage.tasks import Task, heads
from pipeline.store.artifact import Kind, Source
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
SIDECARS = ("shapes.json",)
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
    """The content of config.json; without the number of heads if some may have been removed."""
    positions: int | None
    """The maximum number of tokens; None if the model has no position table."""
    trained_length: int | None
    """The number of tokens beyond which its training says nothing; None if that is not known."""
    pooling: pooling.Pooling | None = None
    """How sentence-transformers makes embeddings of its outputs; None if it does not say."""
    other_texts: str | None = None
    """How it changes texts first, which nothing here does."""
    other_scores: str | None = None
    """That it compares embeddings otherwise than by cosine, as is done here."""
    prompts: tuple[str, ...] = ()
    """What it puts before queries or documents if it is asked to, which nothing here does."""

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
        """Return a warning if the model's head is for another task or other labels.

        Of embeddings, if the model is made for another comparison of them, or for prompts.
        """
        if task.body_only:
            return self._of_embeddings()
        own = task.head(self.config)
        if own is None and (other := heads.replaced(self.config, labels)):
            return [
                f"model: its head ({other}) is not one for {task.name} and will be replaced by a "
                "new one"
            ]
        if not own or self.kind(task, labels) is Kind.CHECKPOINT:
            return []
        known, given = set(own), set(labels)
        differ = [
            f"only {whose} {_some(names)}"
            for whose, names in (
                ("it has", [name for name in own if name not in given]),
                ("the data have", [name for name in labels if name not in known]),
            )
            if names
        ]
        return [
            f"model: its head is for other labels ({'; '.join(differ)}) and will be replaced by a "
            "new one; to keep it, let id2label in its config.json name the data's labels"
        ]

    def _of_embeddings(self) -> list[str]:
        found = [f"model: {self.other_scores}"] if self.other_scores else []
        if self.prompts:
            found.append(
                f"model: it has prompts ({_some(list(map(repr, self.prompts)))}), and none is put "
                "before texts here; if it was trained with them, write them into the data's texts "
                "and into those that the bundle is asked"
            )
        return found


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:5]) + (", …" if len(names) > 5 else "")


def locate(reference: str, base: Path, allow_pickle: bool, key: str = "model") -> Located:
    """Find a model and the files to import; ``key`` is what errors call it.

    A sentence-transformers directory may have the transformer in a folder of its own.

    Raises ModelError if the config, weights or tokenizer are missing, the model needs code of its
    own, or embeddings are made in a way that rarefy does not know; IntegrityError if the weights
    are pickled and the recipe does not allow that.
    """
    root, revision = sources.model_directory(reference, base, key)
    with _about(f"{key}: {reference}"):
        parts = pooling.layout(root)
    directory = parts.transformer
    config = directory / "config.json"
    try:
        values = json.loads(config.read_bytes())
    except FileNotFoundError:
        raise ModelError(f"{key}: {reference}: there is no config.json in {directory}") from None
    except ValueError as error:
        raise ModelError(f"{key}: {reference}: config.json is not JSON: {error}") from None
    if not isinstance(values, dict):
        raise ModelError(f"{key}: {reference}: config.json is not a JSON object")
    with _about(f"{key}: {reference}"):
        no_code.check(directory)
        if (directory / "adapter" / "adapter_config.json").is_file():
            raise ModelError("it has an adapter beside its weights; name what 'merge' made of it")
        setting = "allow_pickle: true" if key == "model" else None  # of no other model
        weights = pretrained.weight_files(directory, allow_pickle, setting=setting)
    tokenizer = [directory / name for name in TOKENIZER if (directory / name).is_file()]
    if not tokenizer:
        raise ModelError(f"{key}: {reference}: there is no tokenizer in {directory}")
    extra = [directory / name for name in SIDECARS if (directory / name).is_file()]
    return Located(
        source=Source(reference=reference, revision=revision, licence=_licence(root)),
        directory=directory,
        files=(config, *weights, *tokenizer, *extra, *(root / name for name in parts.files)),
        weights=tuple(weights),
        config=of_unknown_heads(values) if extra else values,
        positions=positions(values),
        trained_length=parts.max_length or (None if _has_table(values) else _stated(values)),
        pooling=parts.pooling,
        other_texts=parts.other_texts,
        other_scores=parts.other_scores,
        prompts=parts.prompts,
    )


@contextmanager
def _about(model: str) -> Iterator[None]:
    """Begin the text of errors with the model's key and reference."""
    try:
        yield
    except RarefyError as error:
        error.args = (f"{model}: {error}",)
        raise


def positions(config: Config) -> int | None:
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


def _stated(config: Config) -> int | None:
    found = (config.get(name) for name in POSITIONS)
    return next((value for value in found if isinstance(value, int)), None)


def _has_table(config: Config) -> bool:
    """Return whether a model looks its positions up in a table, which ends.

    Rotary and relative positions can be computed for any length. What the config states is then
    the length that the model was trained on.
    """
    relative = config.get("position_biased_input") is False
    rotary = config.get("model_type") in TABLELESS or any(key in config for key in ROTARY)
    return not (relative or rotary)


def _licence(directory: Path) -> str | None:
    """Return the licence named in the model card's front matter; None if there is none."""
    card = directory / "README.md"
    if not card.is_file():
        return None
    text = card.read_text(encoding="utf-8", errors="replace")
    front = re.match(r"---\n(.*?)^---$", text, re.DOTALL | re.MULTILINE)
    try:
        named = yaml.safe_load(front[1])["license"] if front else None
    except (yaml.YAMLError, KeyError, TypeError, ValueError, RecursionError):
        return None
    if isinstance(named, list) and len(named) == 1:
        (named,) = named
    return named if isinstance(named, str) else None
