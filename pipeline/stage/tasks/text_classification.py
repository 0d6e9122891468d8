"""Text classification: one label per sentence or sentence pair."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from pipeline.model import pretrained
from pipeline.stage.formulas import FORMULAS, Formula
from pipeline.terms.errors import ModelError

if TYPE_CHECKING:
    from pipeline.stage.data import Split


@dataclass(frozen=True)
class TextClassification:
    """Sequence classification; ``labels`` are in the order of the model's outputs."""

    labels: tuple[str, ...]
    max_length: int
    text_columns: tuple[str, ...]
    name: ClassVar[str] = "text-classification"
    scores: ClassVar[Mapping[str, Formula]] = FORMULAS

    def encode(
        self, tokenizer: Any, split: Split, rows: Sequence[int] | None = None
    ) -> list[dict[str, list[int]]]:
        """Tokenize rows (default: all), truncated to ``max_length``, unpadded: one dict per row."""
        chosen = range(len(split)) if rows is None else rows
        if not len(chosen):
            return []
        texts, pairs = _texts(split, chosen)
        encoded = tokenizer(texts, pairs, truncation=True, max_length=self.max_length)
        return [
            {key: encoded[key][row] for key in encoded} for row in range(len(encoded["input_ids"]))
        ]

    def lengths(self, tokenizer: Any, split: Split, rows: Sequence[int]) -> list[int]:
        """Return the number of tokens in each row before ``encode`` truncates it."""
        texts, pairs = _texts(split, rows)
        encoded = tokenizer(texts, pairs, truncation=False, verbose=False)
        return [len(ids) for ids in encoded["input_ids"]]

    def load_model(self, directory: str) -> Any:
        """Return the sequence classifier that transformers builds for the body in ``directory``.

        An existing head is kept if it has the same labels in the same order. Otherwise the whole
        head is initialized from torch's random generator, and BERT's pooler too if the body has
        none. A pruned or factorized body keeps its shapes.

        Raises ModelError if the model is incomplete or transformers has no classifier for it,
        IntegrityError if its weights are pickled or truncated.
        """
        from optimum.exporters.tasks import TasksManager

        found = pretrained.load(Path(directory), pretrained.weight_files(Path(directory))).model
        config = found.config
        try:
            model_class = pretrained.class_for(
                TasksManager.get_model_class_for_task(self.name), config
            )
        except ValueError as error:
            raise ModelError(
                f"{directory}: transformers has no classifier for this model: {error}"
            ) from error
        own = [config.id2label.get(index) for index in range(config.num_labels)]
        names = dict(enumerate(self.labels))
        config.id2label, config.label2id = names, {label: index for index, label in names.items()}
        config.problem_type = "single_label_classification"
        if type(found) is model_class and own == list(self.labels):
            return found
        return pretrained.with_body(model_class, found).eval()


def _texts(split: Split, rows: Sequence[int]) -> tuple[list[str], list[str] | None]:
    pairs = [split.pairs[row] for row in rows] if split.pairs is not None else None
    return [split.texts[row] for row in rows], pairs
