"""What several tasks build on: rows of one sequence, units of one label, the names of labels."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Collection, Iterable, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from rarefy.pipeline.data.table import Source
from rarefy.pipeline.tasks.shared import formulas
from rarefy.pipeline.tasks.task import Encoder, Head, Objective, Presenter, Rounding, Row, Scorer
from rarefy.pipeline.terms.errors import DataError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor

    from rarefy.pipeline.data.split import Split

TAUGHT = ("train", "unlabelled")
"""The splits that are only learned from, whose rows are cut."""

DECIDED = 0.1
"""How far apart a unit's two most probable labels must be for int8 not to change its prediction."""
MOST_LABELS = 1000
"""With more labels, the column is hardly one of labels."""
_INTEGER = re.compile(r"-?[0-9]+")


class SequenceEncoder(Encoder):
    """Makes one sequence of tokens of each row, which is cut to ``max_length``.

    With ``windows``, the outputs of a longer text are the mean of those of its windows. Training
    and teachers read its first ``max_length`` tokens.
    """

    no_windows: ClassVar[str | None] = None

    def encode(
        self, tokenizer: Any, split: Split, rows: Sequence[int] | None = None
    ) -> list[dict[str, list[int]]]:
        """Tokenize rows (default: all), truncated to ``max_length``, unpadded: one dict per row."""
        from rarefy.pipeline.tasks.shared import tokenize

        if rows is None:
            rows = range(len(split))
        texts, pairs = _texts(split, rows)
        return tokenize.rows(tokenizer, texts, pairs, self.task.max_length)

    def lengths(self, tokenizer: Any, split: Split, rows: Sequence[int]) -> list[int]:
        """Return the number of tokens in each row before ``encode`` truncates it."""
        from rarefy.pipeline.tasks.shared import tokenize

        texts, pairs = _texts(split, rows)
        return tokenize.counts(tokenizer, texts, pairs)

    def examples(self, tokenizer: Any, split: Split, rows: Sequence[int]) -> list[Row]:
        """Return rows with their ``target`` as ``labels``."""
        encoded = self.encode(tokenizer, split, rows)
        return [
            inputs | {"labels": self.target(split, row)}
            for row, inputs in zip(rows, encoded, strict=True)
        ]

    @abstractmethod
    def target(self, split: Split, row: int) -> Any:
        """Return a row's ``labels`` for the loss, whether or not the split has labels."""

    def encode_requests(self, tokenizer: Any, split: Split) -> list[Row]:
        """Return the tokenized texts of a split; with windows, ``row`` is the window's text."""
        if not self.task.windows:
            return super().encode_requests(tokenizer, split)
        from rarefy.pipeline.model.tokens import windows

        names = tokenizer.model_input_names
        texts = windows.of(tokenizer.backend_tokenizer, split.texts, self.task.max_length)
        rows = []
        for row, parts in enumerate(texts):
            rows += [windows.inputs(part, names) | {"row": row} for part in parts]
        return rows

    def merge_windows(
        self, outputs: NDArray[np.float64], rows: Sequence[Row]
    ) -> NDArray[np.float64]:
        """Return the mean of the outputs of each text's windows: (texts, width)."""
        if not self.task.windows:
            return outputs
        from rarefy.pipeline.model.tokens import windows

        return windows.mean(outputs, [row["row"] for row in rows])


def _texts(split: Split, rows: Sequence[int]) -> tuple[list[str], list[str] | None]:
    texts = [split.texts[row] for row in rows]
    if split.pairs is None:
        return texts, None
    return texts, [split.pairs[row] for row in rows]


class SoftmaxHead(Head, ABC):
    """A head with one logit for each label; predictions are their softmax."""

    def predictions(self, outputs: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
        """Return probabilities, (units, labels); those of a unit sum to one."""
        import numpy as np

        logits = outputs.astype(np.float64)
        powers: NDArray[np.float64] = np.exp(logits - logits.max(axis=-1, keepdims=True))
        shares: NDArray[np.float64] = powers / powers.sum(axis=-1, keepdims=True)
        return shares

    def rounding(self, exact: NDArray[np.float64], rough: NDArray[np.float64]) -> Rounding:
        """Compare probabilities; a unit is decided if its two greatest are at least 0.1 apart."""
        import numpy as np

        ranked = np.sort(exact, axis=1)
        decided = np.asarray(ranked[:, -1] - ranked[:, -2] >= DECIDED)
        return super().rounding(exact, rough)._replace(decided=decided)


class SoftmaxObjective(Objective, ABC):
    """Losses of logits, (units, labels)."""

    def divergence(self, outputs: Tensor, other: Tensor) -> Tensor:
        """Return the Kullback-Leibler divergence of each unit's probabilities, in nats."""
        exact = outputs.double().log_softmax(dim=-1)
        rough = other.double().log_softmax(dim=-1)
        nats: Tensor = (exact.exp() * (exact - rough)).sum(dim=-1)
        return nats


class SingleLabelScorer(Scorer, ABC):
    """Compares the most probable labels."""

    def agreement(
        self, ours: NDArray[np.float64], theirs: NDArray[np.float64]
    ) -> NDArray[np.bool_]:
        """Return which units have the same most probable label."""
        import numpy as np

        return np.asarray(formulas.answers(ours) == formulas.answers(theirs))


class SingleLabelPresenter(Presenter, ABC):
    """Shows the most probable label of a unit."""

    def confidence(
        self, predictions: NDArray[np.float64], truth: Sequence[Any]
    ) -> NDArray[np.float64]:
        """Return the probability of the most probable label; 0 for a prediction that is NaN."""
        import numpy as np

        is_number = formulas.answers(predictions) >= 0
        return np.where(is_number, predictions.max(axis=1), 0.0)


def ordered_labels(names: Iterable[str], source: Source) -> list[str]:
    """Return labels in a stable order: integers by value, names alphabetically.

    Raises DataError if there are more than ``MOST``.
    """
    ordering = sorted(set(names))
    if all(_INTEGER.fullmatch(name) for name in ordering):
        ordering.sort(key=int)
    if len(ordering) > MOST_LABELS:
        raise DataError(
            f"{source.reference}: train has {len(ordering)} different labels; check 'data.label'"
        )
    return ordering


def label_places(
    found: Collection[str], names: Sequence[str], source: Source, noun: str = "label"
) -> dict[str, int]:
    """Return the place of each of ``names``, which is that of its output.

    ``found``: the labels of a split. Raises DataError for those that are not in ``names``: train or
    the model does not have them, as ``source`` says.
    """
    unseen = sorted(set(found) - set(names))
    if unseen:
        shown = ", ".join(map(repr, unseen[:3]))
        raise DataError(
            f"{source.reference}: {source.name} has the {noun} {shown}, which does not occur "
            f"in {source.labels_of}"
        )
    return {name: place for place, name in enumerate(names)}
