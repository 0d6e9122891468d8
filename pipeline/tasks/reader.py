"""How a task reads the rows of a data file, before a model is known: texts and targets."""

from __future__ import annotations

from abc import abstractmethod
from collections import Counter
from collections.abc import Collection, Hashable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from rarefy.pipeline.data.values import is_missing, is_unicode
from rarefy.pipeline.tasks.part import Part
from rarefy.pipeline.terms.errors import DataError
from rarefy.pipeline.terms.wording import plural

if TYPE_CHECKING:
    from rarefy.pipeline.data.table import Source
    from rarefy.pipeline.terms.recipe_parts import Data

FEW_GROUPS = 20
"""With fewer groups, hardly a budget on a score can be decided."""
WITHOUT_TEXT = "without text"
ALL_SPLITS = ("train", "dev", "eval")


def no_text(value: Any) -> str:
    """Return in a few words why a row without text, or with something else, is left out."""
    if is_missing(value):
        return WITHOUT_TEXT
    if isinstance(value, str):
        return "whose text is not valid Unicode"
    return f"whose text is of type {type(value).__name__}"


class Reader(Part):
    """Reads data files in this order, so that a method may rely on those before it.

    ``target_columns``; for each split ``check_column`` and, row by row, ``read_row``; then
    ``labels`` of train, and for each split ``index_targets`` and ``check_groups``. None of them
    may read the labels of the task, which are not known yet.
    """

    searches: ClassVar[bool] = False
    """Whether ``data.corpus`` and ``data.negatives`` mean something to the task."""
    singly: ClassVar[bool] = False
    """Whether models read each text of a pair alone, so that rows with one in common leak.

    What a server is asked is then the first text of a row; see ``timed_requests``.
    """
    queries: ClassVar[bool] = False
    """Whether the rows of a group are those of one query, so that every row must name its group."""
    correlates: ClassVar[bool] = False
    """Whether the scores of rows without groups are correlations, which need several rows."""
    fewest: ClassVar[int] = 1
    """The fewest rows of eval."""
    self_labelled: ClassVar[Collection[str]] = ()
    """The splits whose targets a model's own predictions may be, if rows have no labels.

    ``Objective.targets`` makes targets of predictions. Empty if rows must have labels.
    """

    def lacks_labels(self, data: Data) -> bool:
        """Return whether rows of such data have no labels, so that the recipe's model labels them.

        Raises DataError if the recipe names columns that the task cannot have.
        """
        if data.label is not None or not self.self_labelled:
            return False
        return not self.target_columns(data)

    def target_columns(self, data: Data) -> tuple[str, ...]:
        """Return the columns that hold a row's target; empty for data without labels.

        Raises DataError if the recipe names columns that the task cannot have.
        """
        if len(data.label_columns) > 1:
            raise DataError(f"data.label: {self.task.name} takes one column")
        return data.label_columns

    @abstractmethod
    def check_column(self, values: Iterable[Any], column: str, source: Source) -> None:
        """Raise DataError, before rows are read, if a target column holds something else."""

    def read_row(
        self, texts: tuple[Any, ...], values: tuple[Any, ...], source: Source, number: int
    ) -> tuple[tuple[str, ...], Any] | str:
        """Read a row.

        Args:
            texts: the values in the columns of texts.
            values: the values in ``target_columns``; empty if the row is unlabelled.
            source: the file, for errors.
            number: the row's place in the file, from 1, for errors.

        Returns:
            The row's texts and its target, None for an unlabelled row; or in a few words why the
            row is left out.

        Raises:
            DataError: the row is wrong rather than incomplete.
        """
        for text in texts:
            if is_missing(text) or not isinstance(text, str) or not is_unicode(text):
                return no_text(text)
        if not values:
            return texts, None
        target = self.target(values)
        if target is None:
            return "without a label"
        return texts, target

    @abstractmethod
    def target(self, values: tuple[Any, ...]) -> Any | None:
        """Return a row's target from its values in ``target_columns``; None if it has none."""

    def stratum(self, target: Any) -> Hashable:
        """Return what a development split has in the same shares as train; None: nothing."""
        return None

    def labels(self, targets: Iterable[Any], source: Source) -> list[str]:
        """Return the labels that occur in the training split, in a stable order; default: none.

        Raises DataError if nothing can be learned from them.
        """
        return []

    def index_targets(
        self, targets: Sequence[Any], names: Sequence[str], source: Source
    ) -> list[Any]:
        """Return targets as numbers; default: as they are. ``names``: the labels.

        Raises DataError for a label that is not in ``names``, or if the split teaches nothing.
        """
        return list(targets)

    def check_groups(
        self, targets: Sequence[Any], groups: Sequence[str], source: Source
    ) -> list[str]:
        """Return warnings about the groups of a split's rows, by the targets of ``index_targets``.

        Raises DataError if nothing can be learned from them, or they cannot be scored.
        """
        many = len(set(groups))
        if source.name != "eval" or many >= FEW_GROUPS or many == len(groups):
            return []
        return [
            f"{source.reference}: its rows are in only {plural(many, 'group')}; intervals draw "
            "whole groups, so they are wide"
        ]

    def count_labels(self, targets: Iterable[Any], names: Sequence[str]) -> dict[str, int]:
        """Return how often each label occurs; default: empty, for a task without labels."""
        return {}

    def count_marked(self, indices: Iterable[Any], names: Sequence[str]) -> dict[str, int]:
        """Return how many rows have each label, or how many entities are of each type.

        Args:
            indices: of the labels of each row, as ``index_targets`` returns them.
            names: of all labels; empty for a task without.
        """
        if not names:
            return {}
        counts = Counter[int]()
        for row in indices:
            of_row = row if isinstance(row, Iterable) else [row]
            counts.update(of_row)
        return {name: counts[index] for index, name in enumerate(names)}
