"""Multi-label classification: any number of labels for a text or a pair, or none.

The labels of a row are a list in one column, or stand in several columns of 0 and 1. Each label has
a threshold of its own, which is chosen for each model on the development split.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, NamedTuple

from rarefy.pipeline.data.table import IGNORED, is_missing
from rarefy.pipeline.tasks import bases
from rarefy.pipeline.tasks.bases import SequenceEncoder
from rarefy.pipeline.tasks.classification import multi_label_scores
from rarefy.pipeline.tasks.classification.label_columns import NotLabelsError, flag, flagged, listed
from rarefy.pipeline.tasks.classification.text import shares_in_words
from rarefy.pipeline.tasks.shared import formulas, heads, one_vs_rest
from rarefy.pipeline.tasks.shared.formulas import Formula
from rarefy.pipeline.tasks.task import (
    ALL_SPLITS,
    NOT_A_NUMBER,
    Head,
    LabelTable,
    Objective,
    Presenter,
    RareRows,
    Reader,
    Rounding,
    Scorer,
    Task,
)
from rarefy.pipeline.terms.errors import DataError
from rarefy.pipeline.terms.recipe_parts import THRESHOLDS
from rarefy.pipeline.terms.wording import plural, repeated

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor

    from rarefy.pipeline.data.split import Split
    from rarefy.pipeline.data.table import Source
    from rarefy.pipeline.terms.recipe_parts import Data

PROBLEM = "multi_label_classification"
NONE = "(none)"
"""What a row without labels is called in words."""
DECIDED = 0.1
"""How far a probability must be from its threshold for int8 not to change the decision."""
FALSE_POSITIVES = 0.01
"""The share of the rows without a label that recall_1_fpr lets be flagged."""


class Prediction(NamedTuple):
    """The labels whose probability reaches their threshold, and the probability of each label."""

    labels: list[str]
    probabilities: dict[str, float]

    def columns(self) -> list[str]:
        """Return the answer as a line's columns."""
        return [_in_words(self.labels), shares_in_words(self.probabilities)]


class LabelsReader(Reader):
    """Reads the names of each row's labels."""

    self_labelled = ALL_SPLITS

    def target_columns(self, data: Data) -> tuple[str, ...]:
        """Return the column of lists, or the columns of 0 and 1, whose names are the labels."""
        twice = repeated(data.label_columns)
        if twice is not None:
            raise DataError(f"data.label: the column {twice!r} is named twice")
        return data.label_columns

    def check_column(self, values: Iterable[Any], column: str, source: Source) -> None:
        """Raise DataError if one of several columns of 0 and 1 is 0 in every row of train.

        Or if the only column has no lists, but 0 and 1 as text: "0" would be a label.
        """
        if source.name != "train":
            return
        present = (value for value in values if not is_missing(value))
        if len(source.targets) < 2:
            are_flags = {isinstance(value, str) and flag(value) is not None for value in present}
            if are_flags == {True}:
                raise DataError(
                    f"{source.reference}: column {column!r} has only 0 and 1, and is not a list "
                    "of labels; with one label, the task is text-classification"
                )
            return
        if all(flag(value) is False for value in present):
            raise DataError(
                f"{source.reference}: column {column!r} is 0 in every row, so its label cannot be "
                "learned; leave it out of data.label"
            )

    def read_row(
        self, texts: tuple[Any, ...], values: tuple[Any, ...], source: Source, number: int
    ) -> tuple[tuple[str, ...], Any] | str:
        """Return a row's texts and the names of its labels.

        Raises DataError if a list has a label twice or holds something else, or if a column of 0
        and 1 does.
        """
        try:
            if len(values) > 1:
                values = (flagged(values, source.targets),)
            return super().read_row(texts, values, source, number)
        except NotLabelsError as error:
            raise DataError(f"{source.reference}: row {number}: {error}") from error

    def target(self, values: tuple[Any, ...]) -> tuple[str, ...] | None:
        """Return the names of the row's labels; an empty list is a row without any."""
        if is_missing(values[0]):
            return None
        return listed(values[0])

    def labels(self, targets: Iterable[tuple[str, ...]], source: Source) -> list[str]:
        """Return the labels that occur, in a stable order."""
        names = _union(targets)
        if not names:
            raise DataError(f"{source.reference}: no row of train has a label")
        return bases.ordered_labels(names, source)

    def index_targets(
        self, targets: Sequence[tuple[str, ...]], names: Sequence[str], source: Source
    ) -> list[tuple[int, ...]]:
        """Return the indices of each row's labels; equal rows share one tuple."""
        place = bases.label_places(_union(targets), names, source)
        shared: dict[tuple[int, ...], tuple[int, ...]] = {}
        rows = []
        for target in targets:
            indices = tuple(sorted(place[label] for label in target))
            rows.append(shared.setdefault(indices, indices))
        return rows

    def count_labels(
        self, targets: Iterable[tuple[str, ...]], names: Sequence[str]
    ) -> dict[str, int]:
        """Return the number of rows that have each label."""
        counts: Counter[str] = Counter()
        for target in targets:
            counts.update(target)
        return {label: counts[label] for label in names}


class LabelsEncoder(SequenceEncoder):
    """Trains on 0 or 1 for each label."""

    def target(self, split: Split, row: int) -> list[int]:
        """Return 0 or 1 for each label, or -100 without labels."""
        count = len(self.task.labels)
        if not split.labels:
            return [IGNORED] * count
        return _flags(split.labels[row], count)


class LabelsHead(Head):
    """The head of a sequence classifier with a sigmoid for each label.

    Predictions are (rows, 2L): the probabilities of L labels, and then the decisions, 0 or 1.
    """

    chooses: ClassVar[bool] = True

    def labels_of(self, config: Mapping[str, Any]) -> list[str] | None:
        """Return the labels of a sequence classifier that says it is for several labels."""
        if config.get(heads.PROBLEM) != PROBLEM:
            return None
        return heads.labels(config, heads.SEQUENCE, PROBLEM)

    def load(self, directory: str) -> Any:
        """Return the sequence classifier for the body in ``directory``; see ``heads.load``."""
        return heads.load(Path(directory), heads.CLASSIFIER, self.task.labels, PROBLEM)

    def predictions(self, outputs: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
        """Return probabilities and decisions, (rows, 2L); the decisions of a NaN row are NaN."""
        import numpy as np

        shares = _sigmoid(outputs)
        decisions = (shares >= self._thresholds()).astype(float)
        decisions[~np.isfinite(shares).all(axis=1)] = np.nan
        return np.hstack([shares, decisions])

    def rounding(self, exact: NDArray[np.float64], rough: NDArray[np.float64]) -> Rounding:
        """Compare probabilities; a row is decided if all are at least 0.1 from their threshold."""
        import numpy as np

        exact_shares, rough_shares = _probabilities(exact), _probabilities(rough)
        distances = abs(exact_shares - self._thresholds())
        decided = np.asarray((distances >= DECIDED).all(axis=1))
        same = self.task.scorer.agreement(exact, rough)
        return Rounding(exact_shares, rough_shares, same, decided)

    def choose(self, outputs: NDArray[np.floating[Any]], split: Split) -> dict[str, Any]:
        """Return the thresholds that have the best F1; see ``multi_label_scores.thresholds``."""
        import numpy as np

        truth = np.array(self.task.scorer.truth(split))
        limits = multi_label_scores.thresholds(_sigmoid(outputs), truth)
        return {THRESHOLDS: dict(zip(self.task.labels, limits.tolist(), strict=True))}

    def settings(self, config: Mapping[str, Any]) -> dict[str, Any]:
        """Return a model's thresholds by label; 0.5 for a label that has none."""
        chosen = config.get(THRESHOLDS) or {}
        limits = {
            label: float(chosen.get(label, multi_label_scores.FALLBACK))
            for label in self.task.labels
        }
        return {THRESHOLDS: limits}

    def _thresholds(self) -> NDArray[np.float64]:
        """Return the threshold of each label, (L,)."""
        import numpy as np

        chosen = self.settings(self.task.settings)[THRESHOLDS]
        return np.array(list(chosen.values()))


class LabelsObjective(Objective):
    """Binary cross-entropy with the labels, or with a teacher's softened probabilities."""

    linear: ClassVar[Literal["classes", "flags", "scores"] | None] = "flags"

    def loss(self, outputs: Tensor, batch: Mapping[str, Tensor], *, total: bool) -> Tensor:
        """Return the binary cross-entropy of logits (rows, labels), the mean over labels."""
        from rarefy.pipeline.tasks.shared import losses

        return losses.binary(outputs, batch["labels"], total=total)

    def imitation(self, outputs: Tensor, goal: Tensor, temperature: float) -> Tensor:
        """Return the cross-entropy with the teacher's probabilities; see ``losses.soft_binary``."""
        from rarefy.pipeline.tasks.shared import losses

        return losses.soft_binary(outputs, goal, temperature)

    def divergence(self, outputs: Tensor, other: Tensor) -> Tensor:
        """Return the Kullback-Leibler divergence of each row's labels, their sum, in nats."""
        from torch.nn import functional

        exact, rough = outputs.double(), other.double()
        yes = functional.logsigmoid(exact) - functional.logsigmoid(rough)
        no = functional.logsigmoid(-exact) - functional.logsigmoid(-rough)
        nats: Tensor = (exact.sigmoid() * yes + (-exact).sigmoid() * no).sum(dim=-1)
        return nats

    def targets(self, predictions: NDArray[np.float64], split: Split) -> list[list[int]]:
        """Return the indices of the labels that each row is given."""
        return [(row == 1).nonzero()[0].tolist() for row in _decisions(predictions)]


class LabelsScorer(Scorer):
    """Scores decisions and probabilities. The truth is 0 or 1 for each label: rows of L."""

    scores: ClassVar[Mapping[str, Formula]] = {
        "micro_f1": multi_label_scores.micro_f1,
        "macro_f1": multi_label_scores.macro_f1,
        "mean_average_precision": multi_label_scores.mean_average_precision,
        "subset_accuracy": multi_label_scores.subset_accuracy,
        "recall_1_fpr": multi_label_scores.recall_at(FALSE_POSITIVES),
    }
    on_request = formulas.OF_EACH_LABEL
    probable = True
    trivial = "the same labels for every row"

    def truth(self, split: Split) -> list[list[int]]:
        """Return 0 or 1 for each label of each row: rows of L."""
        count = len(self.task.labels)
        return [_flags(indices, count) for indices in split.labels or ()]

    def floor(self, truth: Sequence[Any]) -> float | None:
        """Return the micro F1 of the best prediction that is the same for every row.

        It has the k most frequent labels, for the best k. None if all rows have the same labels.
        """
        import numpy as np

        rows = np.asarray(truth)
        if (rows == rows[0]).all():
            return None
        counts = np.sort(rows.sum(axis=0))[::-1]
        predicted = len(truth) * np.arange(1, len(counts) + 1)
        f1 = 2 * np.cumsum(counts) / (predicted + counts.sum())
        return float(f1.max())

    def requested(self, name: str) -> Formula | None:
        """Return a score of the labels' probabilities, each alone."""
        return one_vs_rest.formula(name, multi_label_scores.columns)

    def correct(self, predictions: NDArray[np.float64], truth: Sequence[Any]) -> NDArray[np.bool_]:
        """Return for each row whether all its labels are correct."""
        import numpy as np

        return np.asarray((_decisions(predictions) == np.asarray(truth)).all(axis=1))

    def missed_labels(self, predictions: NDArray[np.float64], truth: Sequence[Any]) -> RareRows:
        """Return a row of each label that is given correctly, and its prediction without it."""
        import numpy as np

        hits = (_decisions(predictions) == 1) & (np.asarray(truth) == 1)
        indices = np.flatnonzero(hits.any(axis=0))
        rows = hits[:, indices].argmax(axis=0)
        changed = predictions[rows].copy()
        decision = hits.shape[1] + indices
        changed[np.arange(len(indices)), decision] = 0.0
        return rows, changed

    def new_labels(self, predictions: NDArray[np.float64], truth: Sequence[Any]) -> RareRows:
        """Return a row of each label that occurs, and its prediction with the label first."""
        import numpy as np

        true = np.asarray(truth) == 1
        indices = np.flatnonzero(true.any(axis=0))
        rows = true[:, indices].argmax(axis=0)
        changed = predictions[rows].copy()
        numbers = np.arange(len(indices))
        changed[numbers, indices] = np.inf
        changed[numbers, true.shape[1] + indices] = 1.0
        return rows, changed

    def agreement(
        self, ours: NDArray[np.float64], theirs: NDArray[np.float64]
    ) -> NDArray[np.bool_]:
        """Return for each row whether two models give it the same labels."""
        import numpy as np

        return np.asarray((_decisions(ours) == _decisions(theirs)).all(axis=1))

    def divergence(
        self, ours: NDArray[np.float64], theirs: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        """Return the divergence of each row's labels from theirs, their sum."""
        return multi_label_scores.nats(_probabilities(ours), _probabilities(theirs))


class LabelsPresenter(Presenter):
    """Shows the labels that a row is given, and all probabilities."""

    answers_like: ClassVar[str] = "multi-label-classification"
    slice_name: ClassVar[str] = "number of labels"

    def answers(self, predictions: NDArray[np.float64]) -> list[Prediction]:
        """Return each row's labels, with all probabilities."""
        names = self.task.labels
        answers = []
        columns = zip(_probabilities(predictions), _decisions(predictions), strict=True)
        for shares, decisions in columns:
            chosen = [name for name, one in zip(names, decisions, strict=True) if one == 1]
            probabilities = dict(zip(names, shares.tolist(), strict=True))
            answers.append(Prediction(chosen, probabilities))
        return answers

    def target_slices(self, split: Split) -> list[str] | None:
        """Return the number of each row's labels."""
        if split.labels is None:
            return None
        return [plural(len(row), "label") for row in split.labels]

    def describe_prediction(self, predictions: NDArray[np.float64], split: Split) -> list[str]:
        """Return each row's labels, as a list in words."""
        import numpy as np

        finite = np.asarray(np.isfinite(predictions).all(axis=1))
        descriptions = []
        for answer, is_finite in zip(self.answers(predictions), finite, strict=True):
            descriptions.append(_in_words(answer.labels) if is_finite else NOT_A_NUMBER)
        return descriptions

    def describe_target(self, split: Split) -> list[str]:
        """Return each row's true labels, as a list in words."""
        names = self.task.labels
        return [_in_words([names[index] for index in row]) for row in split.labels or ()]

    def label_table(
        self, tables: Sequence[NDArray[np.float64]], truth: Sequence[Any], labels: Sequence[str]
    ) -> LabelTable:
        """Return the decisions and the true labels, (rows, labels)."""
        import numpy as np

        predicted = [_decisions(table) == 1 for table in tables]
        return LabelTable(labels, np.asarray(truth) == 1, predicted)

    def recalls(
        self, predictions: NDArray[np.float64], truth: Sequence[Any]
    ) -> NDArray[np.float64]:
        """Return each label's recall at 1% false positives; NaN if no row has it."""
        return multi_label_scores.recalls_at(FALSE_POSITIVES, predictions, truth)


def _union(targets: Iterable[tuple[str, ...]]) -> set[str]:
    return set().union(*targets)


def _flags(indices: Sequence[int], count: int) -> list[int]:
    """Return 1 for each of these indices, and 0 for all others: ``count`` numbers."""
    flags = [0] * count
    for index in indices:
        flags[index] = 1
    return flags


def _in_words(names: Sequence[str]) -> str:
    return ", ".join(names) or NONE


def _sigmoid(outputs: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
    """Return 1 / (1 + exp(-x)) without overflow."""
    import numpy as np

    logits = outputs.astype(np.float64)
    with np.errstate(invalid="ignore"):  # NaN stays NaN
        shares: NDArray[np.float64] = np.exp(-np.logaddexp(0.0, -logits))
    return shares


def _probabilities(predictions: NDArray[np.float64]) -> NDArray[np.float64]:
    return predictions[:, : predictions.shape[1] // 2]


def _decisions(predictions: NDArray[np.float64]) -> NDArray[np.float64]:
    return predictions[:, predictions.shape[1] // 2 :]


MULTI_LABEL_CLASSIFICATION = Task(
    name="multi-label-classification",
    reader=LabelsReader(),
    encoder=LabelsEncoder(),
    head=LabelsHead(),
    objective=LabelsObjective(),
    scorer=LabelsScorer(),
    presenter=LabelsPresenter(),
)
