"""Find the pretrained model of a recipe on this machine, and what its files say about it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import yaml

from rarefy.pipeline.model import pooling, safe_loading
from rarefy.pipeline.model.architectures.families import SHIFTED, Config
from rarefy.pipeline.model.architectures.parts import of_unknown_heads
from rarefy.pipeline.model.runtime.bundle_files import check_tokenizer
from rarefy.pipeline.sources import references
from rarefy.pipeline.sources.hub import CARD, CONFIG, SIDECARS, TOKENIZER
from rarefy.pipeline.store.artifact import Kind, Source
from rarefy.pipeline.tasks import Task
from rarefy.pipeline.tasks.shared import heads
from rarefy.pipeline.terms.errors import ModelError, RarefyError

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
    own_labels: tuple[str, ...] = ()
    """What its head calls its labels, if ``config`` has the data's names for them."""

    def with_labels(self, task: Task, names: Sequence[str], data_labels: Sequence[str]) -> Located:
        """Return the model with the data's names for the labels of its head.

        Outputs that nobody has named, ``LABEL_0``, ``LABEL_1``, …, are the integers 0, 1, … if
        these are the data's labels.

        Args:
            task: the recipe's task.
            names: the labels in the order of the outputs, as the recipe says; () if it does not.
            data_labels: those that the training rows have.

        Raises:
            ModelError: ``names`` are more or fewer than the outputs.
        """
        labels_of_head = task.head.labels_of(self.config)
        if not labels_of_head:
            return self
        count = len(labels_of_head)
        integers = [str(index) for index in range(count)]
        if not names and labels_of_head == heads.unnamed(count) and set(data_labels) == {*integers}:
            names = integers
        if not names or list(names) == labels_of_head:
            return self
        if len(names) != count:
            raise ModelError(
                f"data.labels: {len(names)} labels, but the model's head has {count} outputs "
                f"({_some(labels_of_head)})"
            )
        labels = {
            "id2label": {str(index): name for index, name in enumerate(names)},
            "label2id": {name: index for index, name in enumerate(names)},
        }
        return replace(self, config=dict(self.config) | labels, own_labels=tuple(labels_of_head))

    def kind(self, task: Task, labels: Sequence[str]) -> Kind:
        """Return CHECKPOINT if the model has the task's head for these labels, else ENCODER."""
        labels_of_head = task.head.labels_of(self.config)
        has_head = labels_of_head is not None and set(labels_of_head) == set(labels)
        return Kind.CHECKPOINT if has_head else Kind.ENCODER

    def length_warnings(self, max_length: int) -> list[str]:
        """Return a warning if texts may be longer than those that the model was trained on."""
        if self.trained_length is None or max_length <= self.trained_length:
            return []
        return [
            f"model: data.max_length is {max_length} tokens, but the model is made for at most "
            f"{self.trained_length}"
        ]

    def warnings(self, task: Task, labels: Sequence[str]) -> list[str]:
        """Return a warning if the model's head is for another task or other labels.

        Of embeddings, if the model is made for another comparison of them, or for prompts.
        """
        if task.head.body_only:
            return self._of_embeddings()
        renamed = self._renamed(task)
        if renamed:
            return [renamed]
        labels_of_head = task.head.labels_of(self.config)
        if labels_of_head is None:
            head = heads.replaced(self.config, labels)
            if not head:
                return []
            return [
                f"model: its head ({head}) is not one for {task.name} and will be replaced by a "
                "new one"
            ]
        if not labels_of_head or self.kind(task, labels) is Kind.CHECKPOINT:
            return []
        differences = []
        in_head, in_data = set(labels_of_head), set(labels)
        in_head_alone = [name for name in labels_of_head if name not in in_data]
        if in_head_alone:
            differences.append(f"only it has {_some(in_head_alone)}")
        in_data_alone = [name for name in labels if name not in in_head]
        if in_data_alone:
            differences.append(f"only the data have {_some(in_data_alone)}")
        return [
            f"model: its head is for other labels ({'; '.join(differences)}) and will be replaced "
            "by a new one; to keep it, list the data's labels in the order of its outputs as "
            "data.labels"
        ]

    def _renamed(self, task: Task) -> str:
        """Return a warning if a head has other names for its labels than the recipe, else ""."""
        own = list(self.own_labels)
        if own == heads.unnamed(len(own)):
            return ""
        stated = task.head.labels_of(self.config) or []
        return (
            f"model: its outputs {_some(own)} are taken as {_some(stated)}, in this order, as "
            "data.labels says"
        )

    def _of_embeddings(self) -> list[str]:
        warnings = []
        if self.other_scores:
            warnings.append(f"model: {self.other_scores}")
        if self.prompts:
            prompts = [repr(prompt) for prompt in self.prompts]
            warnings.append(
                f"model: it has prompts ({_some(prompts)}), and none is put before texts here; if "
                "it was trained with them, write them into the data's texts and into those that "
                "the bundle is asked"
            )
        return warnings


def _some(names: Sequence[str]) -> str:
    shown = ", ".join(names[:5])
    return f"{shown}, …" if len(names) > 5 else shown


def locate(reference: str, base: Path, allow_pickle: bool, key: str = "model") -> Located:
    """Find a model and the files to import.

    A sentence-transformers directory may have the transformer in a folder of its own.

    Args:
        reference: a directory, ``hub:…`` or ``package:…``, as in a recipe.
        base: the folder that relative paths start from.
        allow_pickle: whether pickled weights may be loaded.
        key: the key of the recipe that errors name.

    Raises:
        ModelError: the config, weights or tokenizer are missing, the model needs code of its own,
            or embeddings are made in a way that rarefy does not know.
        IntegrityError: the weights are pickled and the recipe does not allow that.
    """
    model = f"{key}: {reference}"
    root, revision = references.model_directory(reference, base, key)
    with _about(model):
        parts = pooling.layout(root)
    directory = parts.transformer
    values = _read_config(directory, model)
    with _about(model):
        safe_loading.check(directory)
        for folder in (directory, directory / "adapter"):
            if (folder / "adapter_config.json").is_file():
                raise ModelError("an adapter is next to its weights; name the output of 'merge'")
        setting = "allow_pickle: true" if key == "model" else None  # of no other model
        weights = safe_loading.weight_files(directory, allow_pickle, setting=setting)
        pruned = (directory / SIDECARS[0]).is_file()
        safe_loading.check_size(values, weights, pruned=pruned, positions=positions(values) or 0)
        if (directory / "tokenizer.json").is_file():
            check_tokenizer(directory / "tokenizer.json")
    tokenizer = _existing(directory, TOKENIZER)
    if not tokenizer:
        raise ModelError(f"{model}: there is no tokenizer in {directory}")
    sidecars = _existing(directory, SIDECARS)
    pooling_files = [root / name for name in parts.files]
    config = directory / CONFIG
    trained_length = parts.max_length
    if not trained_length and not _has_table(values):
        trained_length = _stated(values)
    return Located(
        source=Source(
            reference=references.model_reference(reference, base),
            revision=revision,
            licence=_licence(root),
        ),
        directory=directory,
        files=(config, *weights, *tokenizer, *sidecars, *pooling_files),
        weights=tuple(weights),
        config=of_unknown_heads(values) if sidecars else values,
        positions=positions(values),
        trained_length=trained_length or None,
        pooling=parts.pooling,
        other_texts=parts.other_texts,
        other_scores=parts.other_scores,
        prompts=parts.prompts,
    )


def _read_config(directory: Path, model: str) -> Config:
    """Return the content of config.json. Raises ModelError, which begins with ``model``."""
    path = directory / "config.json"
    if not path.exists():
        raise ModelError(f"{model}: there is no config.json in {directory}")
    with _about(model):
        values = safe_loading.read_config(path)
    if not values.get("model_type"):
        raise ModelError(f"{model}: config.json has no model_type")
    return values


def _existing(directory: Path, names: Sequence[str]) -> list[Path]:
    paths = [directory / name for name in names]
    return [path for path in paths if path.is_file()]


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
    if config.get("model_type") not in SHIFTED:
        return stated
    padding = config.get("pad_token_id")
    padding = 1 if padding is None else int(padding)
    return stated - padding - 1


def _stated(config: Config) -> int | None:
    values = [config.get(name) for name in POSITIONS]
    return next((value for value in values if isinstance(value, int)), None)


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
    card = directory / CARD
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
