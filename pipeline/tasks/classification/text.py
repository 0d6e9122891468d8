"""Text classification: one label per sentence or sentence pair."""

from __future__ import annotations

import ast
import re
from collections import Counter
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, NamedTuple

from rarefy.pipeline.data.values import IGNORED, as_text, is_missing
from rarefy.pipeline.tasks.presentation import Marks
from rarefy.pipeline.tasks.sequence_task import SequenceTask
from rarefy.pipeline.tasks.shared import formulas, heads, labels
from rarefy.pipeline.tasks.shared.formulas import FORMULAS, Formula
from rarefy.pipeline.tasks.single_label import SingleLabel
from rarefy.pipeline.tasks.task import NOT_A_NUMBER, Row
from rarefy.pipeline.terms.errors import DataError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor

    from rarefy.pipeline.data.split import Split
    from rarefy.pipeline.data.table import Source

_NUMBER = re.compile(r"[-+]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][-+]?[0-9]+)?")


class Prediction(NamedTuple):
    """The predicted label, and the probability of each label; the probabilities sum to one."""

    label: str
    probabilities: dict[str, float]

    def columns(self) -> list[str]:
        """Return the answer as a line's columns."""
        shares = ", ".join(f"{name} {share:.3f}" for name, share in self.probabilities.items())
        return [self.label, shares]


@dataclass(frozen=True)
class TextClassification(SingleLabel, SequenceTask):
    """Sequence classification; ``labels`` are in the order of the model's outputs."""

    name: ClassVar[str] = "text-classification"
    linear: ClassVar[Literal["classes", "flags", "scores"] | None] = "classes"
    scores: ClassVar[Mapping[str, Formula]] = FORMULAS
    counted: ClassVar[bool] = True
    by_class: ClassVar[bool] = True
    answers_itself: ClassVar[bool] = True
    probable: ClassVar[bool] = True

    @classmethod
    def check_column(cls, values: Iterable[Any], column: str, source: Source) -> None:
        """Raise DataError if a column holds scores or sets of labels instead of one class per row.

        A CSV file has no types, so its text is interpreted: the column is rejected if any value is
        a list, or if all values are numbers and one is not an integer. In other formats, any text
        is a class name.
        """
        present = [value for value in values if not is_missing(value)]
        if source.ending in (".csv", ".tsv"):
            parsed = [_literal(value) for value in present]
            if any(isinstance(value, str) for value in parsed):
                parsed = [value if isinstance(value, list) else "a name" for value in parsed]
        else:
            parsed = present
        for value, shown in zip(parsed, present, strict=True):
            if isinstance(value, (str, int)) or (isinstance(value, float) and value.is_integer()):
                continue
            kinds = {float: "numbers that are not integers", list: "lists", dict: "mappings"}
            what = kinds.get(type(value), f"values of type {type(value).__name__}")
            example = shown if isinstance(shown, str) else repr(shown)
            raise DataError(
                f"{source.reference}: column {column!r} contains {what} ({example[:40]}); "
                "text-classification needs one class per row, a name or an integer; other tasks "
                "take scores (regression) and several labels (multi-label-classification)"
            )

    @classmethod
    def target(cls, values: tuple[Any, ...]) -> str | None:
        """Return the name of the row's class."""
        return None if is_missing(values[0]) else as_text(values[0])

    @classmethod
    def stratum(cls, target: Any) -> Hashable:
        """Return the class: a development split has about the same share of each."""
        return int(target)

    @classmethod
    def names(cls, targets: Iterable[str], source: Source) -> list[str]:
        """Return the classes in a stable order: integers by value, names alphabetically."""
        names = labels.ordered(targets, source)
        if len(names) < 2:
            raise DataError(
                f"{source.reference}: train has only the class {names[0]!r}; at least two are "
                "needed"
            )
        return names

    @classmethod
    def indexed(cls, targets: Sequence[str], names: Sequence[str], source: Source) -> list[int]:
        """Return each row's class as an index into ``names``."""
        place = labels.places(set(targets), names, source)
        return [place[label] for label in targets]

    @classmethod
    def counts(cls, targets: Iterable[str], names: Sequence[str]) -> dict[str, int]:
        """Return the number of rows of each class."""
        counted = Counter(targets)
        return {label: counted[label] for label in names}

    @classmethod
    def head(cls, config: Mapping[str, Any]) -> list[str] | None:
        """Return the classes of a sequence classifier with one class per row."""
        return heads.labels(config, heads.SEQUENCE, "single_label_classification", fewest=2)

    def examples(self, tokenizer: Any, split: Split, rows: Sequence[int]) -> list[Row]:
        """Return rows with the class index as ``labels``, or -100 without labels."""
        encoded = self.encode(tokenizer, split, rows)
        labels = [split.labels[row] if split.labels else IGNORED for row in rows]
        return [row | {"labels": label} for row, label in zip(encoded, labels, strict=True)]

    def load_model(self, directory: str) -> Any:
        """Return the sequence classifier that transformers builds for the body in ``directory``.

        An existing head is kept if it has the same labels in the same order. Otherwise the whole
        head is initialized from torch's random generator, and BERT's pooler too if the body has
        none. A pruned or factorized body keeps its shapes.

        Raises ModelError if the model is incomplete or transformers has no classifier for it,
        IntegrityError if its weights are pickled or truncated.
        """
        return heads.load(Path(directory), self.name, self.labels, "single_label_classification")

    def loss(
        self, outputs: Tensor, batch: Mapping[str, Tensor], *, total: bool, smoothing: float = 0.0
    ) -> Tensor:
        """Return the cross-entropy of logits (rows × labels) with the classes."""
        from rarefy.pipeline.tasks.shared import losses

        return losses.hard(outputs, batch["labels"], smoothing, total=total)

    def imitation(self, outputs: Tensor, goal: Tensor, temperature: float) -> Tensor:
        """Return the divergence from the teacher's softened answers; see ``losses.soft``."""
        from rarefy.pipeline.tasks.shared import losses

        return losses.soft(outputs, goal, temperature)

    trivial: ClassVar[str] = "the most frequent label"

    @classmethod
    def floor(cls, truth: Sequence[Any]) -> float | None:
        """Return the share of the most frequent label: the accuracy of answering it always.

        None if there is one label only: such rows cannot tell whether anything was learned.
        """
        counts = Counter(truth)
        return max(counts.values()) / len(truth) if len(counts) > 1 else None

    @classmethod
    def right(cls, answers: NDArray[np.float64], truth: Sequence[Any]) -> NDArray[np.bool_]:
        """Return whether the most probable label is the true one."""
        import numpy as np

        return np.asarray(formulas.answers(answers) == np.asarray(truth))

    @classmethod
    def missed(
        cls, answers: NDArray[np.float64], truth: Sequence[Any]
    ) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Return a right row of each label, and the most frequent other label as its answer."""
        import numpy as np

        labels, each = answers.shape[1], np.asarray(truth)
        often = np.argsort(-np.bincount(each, minlength=labels), kind="stable")
        right = np.flatnonzero(cls.right(answers, truth))
        found, first = np.unique(each[right], return_index=True)
        return right[first], np.eye(labels)[np.where(found == often[0], often[1], often[0])]

    def targets_of(self, answers: NDArray[np.float64], split: Split) -> list[int]:
        """Return the index of each row's most probable label."""
        return list(formulas.answers(answers).tolist())

    @classmethod
    def nats(cls, ours: NDArray[np.float64], theirs: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the divergence of each row's probabilities from theirs."""
        import numpy as np

        summed: NDArray[np.float64] = formulas.relative(theirs, ours).sum(axis=1)
        return np.clip(summed, 0, None)

    @classmethod
    def marks(
        cls, tables: Sequence[NDArray[np.float64]], truth: Sequence[Any], labels: Sequence[str]
    ) -> Marks:
        """Return the most probable labels and the true one, rows × labels."""
        import numpy as np

        each = np.arange(len(labels))
        given = [formulas.answers(table)[:, None] == each for table in tables]
        return Marks(labels, np.asarray(truth)[:, None] == each, given)

    def predictions(self, answers: NDArray[np.float64]) -> list[Prediction]:
        """Return the most probable label of each row, with all probabilities."""
        return [
            Prediction(
                self.labels[int(row.argmax())],
                dict(zip(self.labels, row.tolist(), strict=True)),
            )
            for row in answers
        ]

    def parts(self, split: Split) -> list[str] | None:
        """Return each row's true class."""
        return None if split.labels is None else self.wanted(split)

    def said(self, answers: NDArray[np.float64], split: Split) -> list[str]:
        """Return each row's most probable label."""
        names = [*self.labels, NOT_A_NUMBER]  # answers() gives -1
        return [names[label] for label in formulas.answers(answers).tolist()]

    def wanted(self, split: Split) -> list[str]:
        """Return each row's true label."""
        return [self.labels[label] for label in split.labels or ()]


def _literal(text: str) -> Any:
    """Return the number or list that a CSV field represents, else the text itself."""
    if text.lstrip()[:1] == "[":
        try:
            return list(ast.literal_eval(text.strip()))
        except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
            return text
    return float(text) if _NUMBER.fullmatch(text.strip()) else text
