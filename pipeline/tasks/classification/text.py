"""Text classification: one label per sentence or sentence pair."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Hashable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, NamedTuple

from rarefy.pipeline.data.table import IGNORED, as_text, is_missing
from rarefy.pipeline.tasks import bases
from rarefy.pipeline.tasks.bases import (
    SequenceEncoder,
    SingleLabelPresenter,
    SingleLabelScorer,
    SoftmaxHead,
    SoftmaxObjective,
)
from rarefy.pipeline.tasks.shared import formulas, heads
from rarefy.pipeline.tasks.shared.formulas import FORMULAS, Formula
from rarefy.pipeline.tasks.task import ALL_SPLITS, NOT_A_NUMBER, LabelTable, RareRows, Reader, Task
from rarefy.pipeline.terms import json_text
from rarefy.pipeline.terms.errors import DataError
from rarefy.pipeline.terms.recipe_parts import THRESHOLDS

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor

    from rarefy.pipeline.data.split import Split
    from rarefy.pipeline.data.table import Source

UNDECIDED = "(undecided)"
"""What a row without a label is called in words."""
_NUMBER = re.compile(r"[-+]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][-+]?[0-9]+)?")
_KINDS = {float: "numbers that are not integers", list: "lists", dict: "mappings"}


class Prediction(NamedTuple):
    """The predicted label, and the probability of each label; the probabilities sum to one.

    The label is None if no label's probability reaches its threshold (``export: {threshold}``).
    """

    label: str | None
    probabilities: dict[str, float]

    def columns(self) -> list[str]:
        """Return the columns of a printed line."""
        return [self.label or UNDECIDED, shares_in_words(self.probabilities)]


def shares_in_words(probabilities: Mapping[str, float]) -> str:
    """Return labels with their probabilities: ``no 0.250, yes 0.750``."""
    return ", ".join(f"{name} {share:.3f}" for name, share in probabilities.items())


class ClassReader(Reader):
    """Reads the class of each row, a name or an integer."""

    self_labelled = ALL_SPLITS

    def check_column(self, values: Iterable[Any], column: str, source: Source) -> None:
        """Raise DataError if a column holds scores or sets of labels instead of one class per row.

        A CSV file has no types, so its text is interpreted: the column is rejected if any value is
        a list, or if all values are numbers and one is not an integer. In other formats, any text
        is a class name.
        """
        present = [value for value in values if not is_missing(value)]
        parsed = present
        if source.ending in (".csv", ".tsv"):
            parsed = _parse(present)
        for value, original in zip(parsed, present, strict=True):
            if isinstance(value, (str, int)):
                continue
            if isinstance(value, float) and value.is_integer():
                continue
            kind = _KINDS.get(type(value), f"values of type {type(value).__name__}")
            example = original if isinstance(original, str) else repr(original)
            raise DataError(
                f"{source.reference}: column {column!r} contains {kind} ({example[:40]}); "
                "text-classification needs one class per row, a name or an integer; other tasks "
                "take scores (regression) and several labels (multi-label-classification)"
            )

    def target(self, values: tuple[Any, ...]) -> str | None:
        """Return the name of the row's class."""
        if is_missing(values[0]):
            return None
        return as_text(values[0])

    def stratum(self, target: Any) -> Hashable:
        """Return the class: a development split has about the same share of each."""
        return int(target)

    def labels(self, targets: Iterable[str], source: Source) -> list[str]:
        """Return the classes in a stable order: integers by value, names alphabetically."""
        names = bases.ordered_labels(targets, source)
        if len(names) < 2:
            raise DataError(
                f"{source.reference}: train has only the class {names[0]!r}; at least two are "
                "needed"
            )
        return names

    def index_targets(
        self, targets: Sequence[str], names: Sequence[str], source: Source
    ) -> list[int]:
        """Return each row's class as an index into the labels."""
        place = bases.label_places(set(targets), names, source)
        return [place[label] for label in targets]

    def count_labels(self, targets: Iterable[str], names: Sequence[str]) -> dict[str, int]:
        """Return the number of rows of each class."""
        counts = Counter(targets)
        return {label: counts[label] for label in names}


class ClassEncoder(SequenceEncoder):
    """Trains on the index of each row's class."""

    def target(self, split: Split, row: int) -> int:
        """Return the index of the row's class, or -100 without labels."""
        if not split.labels:
            return IGNORED
        index: int = split.labels[row]
        return index


class ClassHead(SoftmaxHead):
    """The head of a sequence classifier with one class per row."""

    problem: ClassVar[str] = "single_label_classification"
    abstains: ClassVar[bool] = True

    def labels_of(self, config: Mapping[str, Any]) -> list[str] | None:
        """Return the classes of a sequence classifier with one class per row."""
        return heads.labels(config, heads.SEQUENCE, self.problem, fewest=2)

    def load(self, directory: str) -> Any:
        """Return the sequence classifier that transformers builds for the body in ``directory``.

        An existing head is kept if it has the same labels in the same order. Otherwise the whole
        head is initialized from torch's random generator, and BERT's pooler too if the body has
        none. A pruned or factorized body keeps its shapes.

        Raises ModelError if the model is incomplete or transformers has no classifier for it,
        IntegrityError if its weights are pickled or truncated.
        """
        return heads.load(Path(directory), heads.CLASSIFIER, self.task.labels, self.problem)

    def choose(self, outputs: NDArray[np.floating[Any]], split: Split) -> dict[str, Any]:
        """Return the thresholds by which the task leaves rows undecided; nothing without one."""
        if self.task.threshold is None:
            return {}
        from rarefy.pipeline.tasks.shared import thresholds

        truth = self.task.scorer.truth(split)
        limits = thresholds.choose(self.predictions(outputs), truth, self.task.threshold)
        return {THRESHOLDS: dict(zip(self.task.labels, limits, strict=True))}

    def settings(self, config: Mapping[str, Any]) -> dict[str, Any]:
        """Return a bundle's thresholds by label; nothing if it has none."""
        chosen = config.get(THRESHOLDS)
        return {THRESHOLDS: chosen} if chosen else {}


class ClassObjective(SoftmaxObjective):
    """Cross-entropy with the classes, or with a teacher's softened probabilities."""

    linear: ClassVar[Literal["classes", "flags", "scores"] | None] = "classes"

    def loss(self, outputs: Tensor, batch: Mapping[str, Tensor], *, total: bool) -> Tensor:
        """Return the cross-entropy of logits (rows, labels) with the classes."""
        from rarefy.pipeline.tasks.shared import losses

        return losses.hard(outputs, batch["labels"], total=total)

    def imitation(self, outputs: Tensor, goal: Tensor, temperature: float) -> Tensor:
        """Return the divergence from the teacher's softened probabilities; see ``losses.soft``."""
        from rarefy.pipeline.tasks.shared import losses

        return losses.soft(outputs, goal, temperature)

    def targets(self, predictions: NDArray[np.float64], split: Split) -> list[int]:
        """Return the index of each row's most probable label."""
        indices: list[int] = formulas.answers(predictions).tolist()
        return indices


class ClassScorer(SingleLabelScorer):
    """Counts the rows whose most probable label is the true one."""

    scores: ClassVar[Mapping[str, Formula]] = FORMULAS
    on_request = formulas.OF_EACH_LABEL
    counted = True
    probable = True
    trivial = "the most frequent label"

    def floor(self, truth: Sequence[Any]) -> float | None:
        """Return the share of the most frequent label: the accuracy of predicting it always.

        None if there is one label only: such rows cannot tell whether anything was learned.
        """
        counts = Counter(truth)
        if len(counts) < 2:
            return None
        return max(counts.values()) / len(truth)

    def requested(self, name: str) -> Formula | None:
        """Return a score of the labels' probabilities, each against the rest."""
        from rarefy.pipeline.tasks.shared import one_vs_rest

        return one_vs_rest.formula(name, one_vs_rest.classes)

    def correct(self, predictions: NDArray[np.float64], truth: Sequence[Any]) -> NDArray[np.bool_]:
        """Return whether the most probable label is the true one, (rows,)."""
        import numpy as np

        return np.asarray(formulas.answers(predictions) == np.asarray(truth))

    def missed_labels(self, predictions: NDArray[np.float64], truth: Sequence[Any]) -> RareRows:
        """Return a correct row of each label, with the most frequent other label predicted."""
        import numpy as np

        width = predictions.shape[1]
        classes = np.asarray(truth)
        by_frequency = np.argsort(-np.bincount(classes, minlength=width), kind="stable")
        most, second = by_frequency[:2]
        correct = np.flatnonzero(self.correct(predictions, truth))
        labels_there, first = np.unique(classes[correct], return_index=True)
        others = np.where(labels_there == most, second, most)
        return correct[first], np.eye(width)[others]

    def divergence(
        self, ours: NDArray[np.float64], theirs: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        """Return the divergence of each row's probabilities from theirs, (rows,)."""
        import numpy as np

        summed: NDArray[np.float64] = formulas.relative(theirs, ours).sum(axis=1)
        return np.clip(summed, 0, None)


class ClassPresenter(SingleLabelPresenter):
    """Shows the most probable label and all probabilities."""

    def answers(self, predictions: NDArray[np.float64]) -> list[Prediction]:
        """Return the most probable label of each row that is decided, with all probabilities."""
        from rarefy.pipeline.tasks.shared import thresholds

        names = self.task.labels
        limits = self.task.settings.get(THRESHOLDS) or dict.fromkeys(names, 0.0)
        undecided = thresholds.undecided(predictions, names, limits)
        answers = []
        for row, is_undecided in zip(predictions, undecided, strict=True):
            probabilities = dict(zip(names, row.tolist(), strict=True))
            label = None if is_undecided else names[int(row.argmax())]
            answers.append(Prediction(label, probabilities))
        return answers

    def target_slices(self, split: Split) -> list[str] | None:
        """Return each row's true class."""
        if split.labels is None:
            return None
        return self.describe_target(split)

    def describe_prediction(self, predictions: NDArray[np.float64], split: Split) -> list[str]:
        """Return each row's most probable label."""
        names = [*self.task.labels, NOT_A_NUMBER]  # NaN has the index -1
        return [names[index] for index in formulas.answers(predictions).tolist()]

    def describe_target(self, split: Split) -> list[str]:
        """Return each row's true label."""
        return [self.task.labels[index] for index in split.labels or ()]

    def label_table(
        self, tables: Sequence[NDArray[np.float64]], truth: Sequence[Any], labels: Sequence[str]
    ) -> LabelTable:
        """Return the most probable labels and the true one, (rows, labels)."""
        import numpy as np

        indices = np.arange(len(labels))
        predicted = [formulas.answers(table)[:, None] == indices for table in tables]
        true = np.asarray(truth)[:, None] == indices
        return LabelTable(labels, true, predicted)


def _parse(texts: Sequence[Any]) -> list[Any]:
    """Return what the values of a CSV column are: numbers only if all of them are numbers."""
    values = [_literal(text) for text in texts]
    if not any(isinstance(value, str) for value in values):
        return values
    return [value if isinstance(value, list) else "a name" for value in values]


def _literal(text: str) -> Any:
    """Return the number or list that a CSV field represents, else the text itself."""
    if text.lstrip()[:1] == "[":
        try:
            return list(json_text.parse_literal(text.strip()))
        except (ValueError, TypeError):
            return text
    if _NUMBER.fullmatch(text.strip()):
        return float(text)
    return text


TEXT_CLASSIFICATION = Task(
    name="text-classification",
    reader=ClassReader(),
    encoder=ClassEncoder(),
    head=ClassHead(),
    objective=ClassObjective(),
    scorer=ClassScorer(),
    presenter=ClassPresenter(),
)
