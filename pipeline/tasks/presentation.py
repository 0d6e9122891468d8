"""What a user reads of a task's answers: alone, in a table of labels, and in the report."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, Protocol

from rarefy.pipeline.data.values import given_text

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from rarefy.pipeline.data.split import Split


class Answer(Protocol):
    """What a user reads of one row: a NamedTuple."""

    def _asdict(self) -> dict[str, Any]:
        """Return the fields, which are the keys of the answer as JSON."""

    def columns(self) -> list[str]:
        """Return the answer as the columns of a printed line."""


class Marks(NamedTuple):
    """Labels of rows, rows × ``names``: the ``true`` ones, and those ``given`` by each model."""

    names: Sequence[str]
    true: NDArray[np.bool_]
    given: Sequence[NDArray[np.bool_]]


class Shown(ABC):
    """The part of a task that turns answers into what a user reads."""

    @abstractmethod
    def predictions(self, answers: NDArray[np.float64]) -> Sequence[Answer]:
        """Return answers (units × columns) as what a user reads, one for each row."""

    # What a user asks a bundle

    def reading(self, split: Split) -> dict[str, Any]:
        """Return how a bundle reads a user's texts, as its config.json keeps it for ``of_model``.

        ``split``: rows like those that the bundle will be asked.
        """
        return {}

    def given(self, request: str) -> Any:
        """Return one of ``requests`` as a user would give it."""
        return request

    def ask(self, given: Any) -> str:
        """Return what a model is asked for a user's text. Raises DataError if it is no text."""
        return given_text(given)

    def reply(self, given: Sequence[Any], answers: NDArray[np.float64]) -> Sequence[Answer]:
        """Return a bundle's answers to the texts that a user gave, one for each."""
        return self.predictions(answers)

    # Its rows in the report

    parted_by: ClassVar[str] = "label"
    """What ``parts`` tells the rows apart by."""

    def parts(self, split: Split) -> list[str] | None:
        """Return a slicing of the rows by their target; None if there is none."""
        return None

    @abstractmethod
    def said(self, answers: NDArray[np.float64], split: Split) -> list[str]:
        """Return in words what each row of a split was answered."""

    @abstractmethod
    def wanted(self, split: Split) -> list[str]:
        """Return in words what each row of a split should be answered."""

    @classmethod
    def sureness(
        cls, answers: NDArray[np.float64], truth: Sequence[Any]
    ) -> NDArray[np.float64] | None:
        """Return how sure each row's answer is, from 0 to 1, if a model says so; else None."""
        return None

    # Its labels

    marked: ClassVar[str] = "row"
    """What ``marks`` has the labels of: rows, or the entities in them."""

    @classmethod
    def marks(
        cls, tables: Sequence[NDArray[np.float64]], truth: Sequence[Any], labels: Sequence[str]
    ) -> Marks | None:
        """Return which labels each row is given by several models, and which it should be.

        They give each label's precision and recall. None if rows have no labels.
        """
        return None

    @classmethod
    def recalls(
        cls, answers: NDArray[np.float64], truth: Sequence[Any]
    ) -> NDArray[np.float64] | None:
        """Return each label's recall at 1 % false positives; None if labels exclude each other."""
        return None
