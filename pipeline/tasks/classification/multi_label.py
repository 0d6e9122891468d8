"""Multi-label classification: any number of labels for a text or a pair, or none.

The labels of a row are a list in one column, or stand in several columns of 0 and 1. Each label has
a threshold of its own, which is chosen for each model on the development split.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, NamedTuple, Self

from rarefy.pipeline.data.values import IGNORED, is_missing
from rarefy.pipeline.tasks.classification import multi_label_scores
from rarefy.pipeline.tasks.classification.label_columns import NotLabelsError, flag, flagged, listed
from rarefy.pipeline.tasks.presentation import Marks
from rarefy.pipeline.tasks.sequence_task import SequenceTask
from rarefy.pipeline.tasks.shared import heads, labels
from rarefy.pipeline.tasks.shared.formulas import Formula
from rarefy.pipeline.tasks.task import NOT_A_NUMBER, Row
from rarefy.pipeline.terms.errors import DataError
from rarefy.pipeline.terms.suggestions import repeated
from rarefy.pipeline.terms.wording import plural

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor

    from rarefy.pipeline.data.split import Split
    from rarefy.pipeline.data.table import Source
    from rarefy.pipeline.terms.recipe_parts import Data

PROBLEM = "multi_label_classification"
THRESHOLDS = "thresholds"
"""The key of config.json under which each label's threshold is kept."""
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
        shares = ", ".join(f"{name} {share:.3f}" for name, share in self.probabilities.items())
        return [", ".join(self.labels) or NONE, shares]


@dataclass(frozen=True)
class MultiLabelClassification(SequenceTask):
    """A sequence classifier with a sigmoid for each label, in the order of the model's outputs.

    Answers are rows × 2L: the probabilities of L labels, and then the decisions, 0 or 1. The
    ``thresholds`` are those of one model (see ``of_model``), or none yet.
    """

    thresholds: tuple[float, ...] = ()

    name: ClassVar[str] = "multi-label-classification"
    linear: ClassVar[Literal["classes", "flags", "scores"] | None] = "flags"
    chooses: ClassVar[bool] = True
    answers_itself: ClassVar[bool] = True
    probable: ClassVar[bool] = True
    scores: ClassVar[Mapping[str, Formula]] = {
        "micro_f1": multi_label_scores.micro_f1,
        "macro_f1": multi_label_scores.macro_f1,
        "mean_average_precision": multi_label_scores.mean_average_precision,
        "subset_accuracy": multi_label_scores.subset_accuracy,
        "recall_1_fpr": multi_label_scores.recall_at(FALSE_POSITIVES),
    }

    @classmethod
    def target_columns(cls, data: Data) -> tuple[str, ...]:
        """Return the column of lists, or the columns of 0 and 1, whose names are the labels."""
        twice = repeated(data.label_columns)
        if twice is not None:
            raise DataError(f"data.label: the column {twice!r} is named twice")
        return data.label_columns

    @classmethod
    def check_column(cls, values: Iterable[Any], column: str, source: Source) -> None:
        """Raise DataError if one of several columns of 0 and 1 is 0 in every row of train.

        Or if the only column has no lists, but 0 and 1 as text: "0" would be a label.
        """
        if source.name != "train":
            return
        if len(source.targets) < 2:
            known = (value for value in values if not is_missing(value))
            if {isinstance(value, str) and flag(value) is not None for value in known} == {True}:
                raise DataError(
                    f"{source.reference}: column {column!r} has only 0 and 1, and is no list of "
                    "labels; with one label, the task is text-classification"
                )
            return
        if all(is_missing(value) or flag(value) is False for value in values):
            raise DataError(
                f"{source.reference}: column {column!r} is 0 in every row, so its label cannot be "
                "learned; leave it out of data.label"
            )

    @classmethod
    def read_row(
        cls, texts: tuple[Any, ...], values: tuple[Any, ...], source: Source, number: int
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

    @classmethod
    def target(cls, values: tuple[Any, ...]) -> tuple[str, ...] | None:
        """Return the names of the row's labels; an empty list is a row without any."""
        return None if is_missing(values[0]) else listed(values[0])

    @classmethod
    def names(cls, targets: Iterable[tuple[str, ...]], source: Source) -> list[str]:
        """Return the labels that occur, in a stable order."""
        found = {label for target in targets for label in target}
        if not found:
            raise DataError(f"{source.reference}: no row of train has a label")
        return labels.ordered(found, source)

    @classmethod
    def indexed(
        cls, targets: Sequence[tuple[str, ...]], names: Sequence[str], source: Source
    ) -> list[tuple[int, ...]]:
        """Return the indices of each row's labels; equal rows share one tuple."""
        place = labels.places({label for target in targets for label in target}, names, source)
        known: dict[tuple[int, ...], tuple[int, ...]] = {}
        rows = (tuple(sorted(place[label] for label in target)) for target in targets)
        return [known.setdefault(row, row) for row in rows]

    @classmethod
    def counts(cls, targets: Iterable[tuple[str, ...]], names: Sequence[str]) -> dict[str, int]:
        """Return the number of rows that have each label."""
        counted = Counter(label for target in targets for label in target)
        return {label: counted[label] for label in names}

    @classmethod
    def head(cls, config: Mapping[str, Any]) -> list[str] | None:
        """Return the labels of a sequence classifier that says it is for several labels."""
        if config.get(heads.PROBLEM) != PROBLEM:
            return None
        return heads.labels(config, heads.SEQUENCE, PROBLEM)

    def examples(self, tokenizer: Any, split: Split, rows: Sequence[int]) -> list[Row]:
        """Return rows with 0 or 1 for each label as ``labels``, or -100 without labels."""
        encoded = self.encode(tokenizer, split, rows)
        unknown = [IGNORED] * len(self.labels)
        targets = [self._flags(split.labels[row]) if split.labels else unknown for row in rows]
        return [row | {"labels": target} for row, target in zip(encoded, targets, strict=True)]

    def load_model(self, directory: str) -> Any:
        """Return the sequence classifier for the body in ``directory``; see ``heads.load``."""
        return heads.load(Path(directory), "text-classification", self.labels, PROBLEM)

    def loss(
        self, outputs: Tensor, batch: Mapping[str, Tensor], *, total: bool, smoothing: float = 0.0
    ) -> Tensor:
        """Return the binary cross-entropy of logits (rows × labels), the mean over labels."""
        from rarefy.pipeline.tasks.shared import losses

        return losses.binary(outputs, batch["labels"], smoothing, total=total)

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

    def choose(self, outputs: NDArray[np.floating[Any]], split: Split) -> Self:
        """Return the task with the thresholds that have the best F1; see ``thresholds``."""
        import numpy as np

        truth = np.array(self.truth(split))
        found = multi_label_scores.thresholds(_sigmoid(outputs), truth)
        return replace(self, thresholds=tuple(found.tolist()))

    def chosen(self) -> dict[str, Any]:
        """Return each label's threshold by its name; 0.5 if none has been chosen."""
        limits = self.thresholds or [multi_label_scores.FALLBACK] * len(self.labels)
        return {THRESHOLDS: dict(zip(self.labels, limits, strict=True))}

    def of_model(self, config: Mapping[str, Any]) -> Self:
        """Return the task with a model's thresholds; 0.5 for a label that has none."""
        given = config.get(THRESHOLDS) or {}
        found = (float(given.get(label, multi_label_scores.FALLBACK)) for label in self.labels)
        return replace(self, thresholds=tuple(found))

    def truth(self, split: Split) -> list[list[int]]:
        """Return 0 or 1 for each label of each row: rows × L."""
        return [self._flags(row) for row in split.labels or ()]

    def answers(self, outputs: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
        """Return probabilities and decisions, rows × 2L; the decisions of a NaN row are NaN."""
        import numpy as np

        shares = _sigmoid(outputs)
        decisions = (shares >= np.array(self.thresholds or multi_label_scores.FALLBACK)).astype(
            float
        )
        decisions[~np.isfinite(shares).all(axis=1)] = np.nan
        return np.hstack([shares, decisions])

    trivial: ClassVar[str] = "the same labels for every row"

    @classmethod
    def floor(cls, truth: Sequence[Any]) -> float | None:
        """Return the micro F1 of the best answer that is the same for every row.

        It has the k most frequent labels, for the best k. None if all rows have the same labels.
        """
        import numpy as np

        rows = np.asarray(truth)
        if (rows == rows[0]).all():
            return None
        counts = np.sort(rows.sum(axis=0))[::-1]
        answered = len(truth) * np.arange(1, len(counts) + 1)
        return float((2 * np.cumsum(counts) / (answered + counts.sum())).max())

    @classmethod
    def right(cls, answers: NDArray[np.float64], truth: Sequence[Any]) -> NDArray[np.bool_]:
        """Return for each row whether all its labels are right."""
        import numpy as np

        return np.asarray((_decisions(answers) == np.asarray(truth)).all(axis=1))

    @classmethod
    def missed(
        cls, answers: NDArray[np.float64], truth: Sequence[Any]
    ) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Return a row of each label that is given rightly, and its answer without the label."""
        import numpy as np

        hit = (_decisions(answers) == 1) & (np.asarray(truth) == 1)
        labels = np.flatnonzero(hit.any(axis=0))
        rows = hit[:, labels].argmax(axis=0)
        changed = answers[rows].copy()
        changed[np.arange(len(labels)), hit.shape[1] + labels] = 0.0
        return rows, changed

    @classmethod
    def found(
        cls, answers: NDArray[np.float64], truth: Sequence[Any]
    ) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Return a row of each label that occurs, and its answer with the label ranked first."""
        import numpy as np

        true = np.asarray(truth) == 1
        labels = np.flatnonzero(true.any(axis=0))
        rows = true[:, labels].argmax(axis=0)
        changed, each = answers[rows].copy(), np.arange(len(labels))
        changed[each, labels], changed[each, true.shape[1] + labels] = np.inf, 1.0
        return rows, changed

    @classmethod
    def same(cls, ours: NDArray[np.float64], theirs: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Return for each row whether two models give it the same labels."""
        import numpy as np

        return np.asarray((_decisions(ours) == _decisions(theirs)).all(axis=1))

    def targets_of(self, answers: NDArray[np.float64], split: Split) -> list[list[int]]:
        """Return the indices of the labels that each row is given."""
        return [(row == 1).nonzero()[0].tolist() for row in _decisions(answers)]

    @classmethod
    def nats(cls, ours: NDArray[np.float64], theirs: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the divergence of each row's labels from theirs, their sum."""
        return multi_label_scores.nats(*(side[:, : side.shape[1] // 2] for side in (ours, theirs)))

    @classmethod
    def marks(
        cls, tables: Sequence[NDArray[np.float64]], truth: Sequence[Any], labels: Sequence[str]
    ) -> Marks:
        """Return the decisions and the true labels, rows × labels."""
        import numpy as np

        return Marks(labels, np.asarray(truth) == 1, [_decisions(table) == 1 for table in tables])

    @classmethod
    def recalls(cls, answers: NDArray[np.float64], truth: Sequence[Any]) -> NDArray[np.float64]:
        """Return each label's recall at 1 % false positives; NaN if no row has it."""
        return multi_label_scores.recalls_at(FALSE_POSITIVES, answers, truth)

    def gradual(self, answers: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the probabilities."""
        return answers[:, : len(self.labels)]

    def decided(self, answers: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Return which rows have every probability at least 0.1 from its threshold."""
        import numpy as np

        away = abs(self.gradual(answers) - np.array(self.thresholds or multi_label_scores.FALLBACK))
        return np.asarray((away >= DECIDED).all(axis=1))

    def predictions(self, answers: NDArray[np.float64]) -> list[Prediction]:
        """Return each row's labels, with all probabilities."""
        return [
            Prediction(
                [name for name, given in zip(self.labels, decisions, strict=True) if given == 1],
                dict(zip(self.labels, shares.tolist(), strict=True)),
            )
            for shares, decisions in zip(
                answers[:, : len(self.labels)], _decisions(answers), strict=True
            )
        ]

    parted_by: ClassVar[str] = "number of labels"

    def parts(self, split: Split) -> list[str] | None:
        """Return the number of each row's labels."""
        return None if split.labels is None else [plural(len(row), "label") for row in split.labels]

    def said(self, answers: NDArray[np.float64], split: Split) -> list[str]:
        """Return each row's labels, as a list in words."""
        import numpy as np

        finite = np.asarray(np.isfinite(answers).all(axis=1))
        return [
            (", ".join(given.labels) or NONE) if whole else NOT_A_NUMBER
            for given, whole in zip(self.predictions(answers), finite, strict=True)
        ]

    def wanted(self, split: Split) -> list[str]:
        """Return each row's true labels, as a list in words."""
        return [", ".join(self.labels[at] for at in row) or NONE for row in split.labels or ()]

    def _flags(self, row: Sequence[int]) -> list[int]:
        flags = [0] * len(self.labels)
        for at in row:
            flags[at] = 1
        return flags


def _sigmoid(outputs: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
    """Return 1 / (1 + exp(-x)) without overflow."""
    import numpy as np

    with np.errstate(invalid="ignore"):  # NaN stays NaN
        shares: NDArray[np.float64] = np.exp(-np.logaddexp(0.0, -outputs.astype(np.float64)))
    return shares


def _decisions(answers: NDArray[np.float64]) -> NDArray[np.float64]:
    return answers[:, answers.shape[1] // 2 :]
