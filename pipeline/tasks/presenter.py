"""What a user reads of a task's predictions: alone, in a table of labels, and in the report."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, Protocol

from rarefy.pipeline.data.values import given_text
from rarefy.pipeline.tasks.part import Part

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from rarefy.pipeline.data.split import Split

NOT_A_NUMBER = "not a number"
"""What a prediction that is NaN is called in words."""


class Answer(Protocol):
    """What a user reads of one row: a NamedTuple."""

    def _asdict(self) -> dict[str, Any]:
        """Return the fields, which are the keys of the answer as JSON."""

    def columns(self) -> list[str]:
        """Return the answer as the columns of a printed line."""


class LabelTable(NamedTuple):
    """Labels of rows, (rows, ``names``): the ``true`` ones, and those ``predicted`` by each model.

    The rows may be others than a split's, e.g. entities; ``blocks`` has the block of each then.
    """

    names: Sequence[str]
    true: NDArray[np.bool_]
    predicted: Sequence[NDArray[np.bool_]]
    blocks: NDArray[np.int64] | None = None


class Presenter(Part):
    """Turns predictions, which are (units, columns), into what a user reads."""

    answers_like: ClassVar[str] = "text-classification"
    """The task whose file answers in a bundle's own program: ``exporters/bundle/task_*.py``."""
    slice_name: ClassVar[str] = "label"
    """What ``target_slices`` tells the rows apart by."""
    table_rows: ClassVar[str] = "row"
    """What a row of ``label_table`` is: a row, or an entity."""

    # The answers of a bundle

    @abstractmethod
    def answers(self, predictions: NDArray[np.float64]) -> Sequence[Answer]:
        """Return predictions as what a user reads, one for each unit."""

    def bundle_settings(self, split: Split) -> dict[str, Any]:
        """Return how a bundle reads a user's texts, for its config.json; see ``Head.settings``.

        ``split``: rows like those that the bundle will be asked.
        """
        return {}

    def preprocess(self, text: Any) -> str:
        """Return a user's text as a model's request. Raises DataError if it is no text."""
        return given_text(text)

    def user_text(self, request: str) -> Any:
        """Return one of the encoder's ``requests`` as a user would write it."""
        return request

    def postprocess(
        self, texts: Sequence[Any], predictions: NDArray[np.float64]
    ) -> Sequence[Answer]:
        """Return a bundle's answers to the texts that a user wrote, one for each."""
        return self.answers(predictions)

    # Rows in the report

    def target_slices(self, split: Split) -> list[str] | None:
        """Return the slice in which each row is by its target; None if there are none."""
        return None

    @abstractmethod
    def describe_prediction(self, predictions: NDArray[np.float64], split: Split) -> list[str]:
        """Return in words what is predicted for each block of a split."""

    @abstractmethod
    def describe_target(self, split: Split) -> list[str]:
        """Return in words what should be predicted for each block of a split."""

    def confidence(
        self, predictions: NDArray[np.float64], truth: Sequence[Any]
    ) -> NDArray[np.float64] | None:
        """Return how sure the prediction of each block is, from 0 to 1; None: no model says so."""
        return None

    # Labels in the report

    def label_table(
        self, tables: Sequence[NDArray[np.float64]], truth: Sequence[Any], labels: Sequence[str]
    ) -> LabelTable | None:
        """Return the labels of each row, for each label's precision and recall.

        Args:
            tables: the predictions of several models.
            truth: as ``Scorer.truth`` returns it.
            labels: the names of all labels, in the order of the columns.

        Returns:
            None if rows have no labels.
        """
        return None

    def label_names(self, labels: Sequence[str]) -> list[str]:
        """Return the names that ``label_table`` may have; ``labels``: those of the task."""
        return list(labels)

    def recalls(
        self, predictions: NDArray[np.float64], truth: Sequence[Any]
    ) -> NDArray[np.float64] | None:
        """Return each label's recall at 1% false positives; None if labels exclude each other."""
        return None
