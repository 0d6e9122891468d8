"""What a task reads of the rows of a data file, before a model is known: texts and targets."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Hashable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from rarefy.pipeline.data.values import is_missing
from rarefy.pipeline.terms.errors import DataError
from rarefy.pipeline.terms.wording import plural

if TYPE_CHECKING:
    from rarefy.pipeline.data.table import Source
    from rarefy.pipeline.terms.recipe_parts import Data

FEW_GROUPS = 20
"""With fewer groups, hardly a budget on a score can be decided."""


WITHOUT_TEXT = "without text"


def left_out(text: Any) -> str:
    """Return in a few words why a row without text, or with something else, is left out."""
    return WITHOUT_TEXT if is_missing(text) else f"whose text is of type {type(text).__name__}"


class FileRows(ABC):
    """How a task reads data files. ``names`` are its labels, for tasks that have some.

    Files are read in this order: ``target_columns``; for each split ``check_column`` and, row by
    row, ``read_row``; then ``names`` of train, and for each split ``indexed`` and the checks.
    """

    name: ClassVar[str]
    searches: ClassVar[bool] = False
    """Whether ``data.corpus`` and ``data.negatives`` mean something to it."""
    singly: ClassVar[bool] = False
    """Whether its models read each text of a pair alone, so that rows with one in common leak.

    What a server is asked is then the first text of a row; see ``Task.served``.
    """
    queries: ClassVar[bool] = False
    """Whether the rows of a group are those of one query, so that every row must name its group."""
    correlates: ClassVar[bool] = False
    """Whether the scores of rows without groups are correlations, which need several rows."""
    fewest: ClassVar[int] = 1
    """The fewest rows of eval."""
    answers_itself: ClassVar[bool] = False
    """Whether rows may have no labels: ``targets_of`` makes targets of a model's answers."""
    answered: ClassVar[Collection[str]] = ("train", "dev", "eval")
    """The splits whose targets are then a model's answers."""

    @classmethod
    def bare(cls, data: Data) -> bool:
        """Return whether rows of such data have no labels, so that the recipe's model answers them.

        Raises DataError if the recipe names columns that the task cannot have.
        """
        return data.label is None and cls.answers_itself and not cls.target_columns(data)

    @classmethod
    def target_columns(cls, data: Data) -> tuple[str, ...]:
        """Return the columns that hold a row's target; empty for data without labels.

        Raises DataError if the recipe names columns that the task cannot have.
        """
        if len(data.label_columns) > 1:
            raise DataError(f"data.label: {cls.name} takes one column")
        return data.label_columns

    @classmethod
    @abstractmethod
    def check_column(cls, values: Iterable[Any], column: str, source: Source) -> None:
        """Raise DataError, before rows are read, if a target column holds something else."""

    @classmethod
    def read_row(
        cls, texts: tuple[Any, ...], values: tuple[Any, ...], source: Source, number: int
    ) -> tuple[tuple[str, ...], Any] | str:
        """Return a row's texts and target, or in a few words why the row is left out.

        ``values`` are those in ``target_columns``; the target of an unlabelled row is None.
        ``number``: the row's place in the file, from 1, for errors. Raises DataError if the row is
        wrong rather than incomplete.
        """
        for text in texts:
            if is_missing(text) or not isinstance(text, str):
                return left_out(text)
        if not values:
            return texts, None
        target = cls.target(values)
        return (texts, target) if target is not None else "without a label"

    @classmethod
    @abstractmethod
    def target(cls, values: tuple[Any, ...]) -> Any | None:
        """Return a row's target from its values in ``target_columns``; None if it has none."""

    @classmethod
    def stratum(cls, target: Any) -> Hashable:
        """Return what a development split has in the same shares as train; None: nothing."""
        return None

    @classmethod
    def names(cls, targets: Iterable[Any], source: Source) -> list[str]:
        """Return the labels that occur in the training split, in a stable order; default: none.

        Raises DataError if nothing can be learned from them.
        """
        return []

    @classmethod
    def indexed(cls, targets: Sequence[Any], names: Sequence[str], source: Source) -> list[Any]:
        """Return targets as numbers; default: as they are.

        Raises DataError for a label that is not in ``names``, or if the split teaches nothing.
        """
        return list(targets)

    @classmethod
    def check_groups(
        cls, targets: Sequence[Any], groups: Sequence[str], source: Source
    ) -> list[str]:
        """Return warnings about the groups of a split's rows, given the indexed targets.

        Raises DataError if nothing can be learned from them, or they cannot be scored.
        """
        many = len(set(groups))
        if source.name != "eval" or many >= FEW_GROUPS or many == len(groups):
            return []
        return [
            f"{source.reference}: its rows are in only {plural(many, 'group')}; intervals draw "
            "whole groups, so they are wide"
        ]

    @classmethod
    def counts(cls, targets: Iterable[Any], names: Sequence[str]) -> dict[str, int]:
        """Return how often each label occurs; default: empty, for a task without labels."""
        return {}
