"""Regression: one score of a text or a pair, such as a rating, a similarity or a relevance.

With ``data.group``, the rows of a query are ranked by their scores: a reranker.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, NamedTuple

from rarefy.pipeline.data.values import as_number, is_missing
from rarefy.pipeline.tasks.regression import scores as regression
from rarefy.pipeline.tasks.sequence_task import SequenceTask
from rarefy.pipeline.tasks.shared import heads, ranking
from rarefy.pipeline.tasks.shared.formulas import Formula
from rarefy.pipeline.tasks.task import Row
from rarefy.pipeline.terms.errors import DataError, ModelError
from rarefy.pipeline.terms.wording import plural

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor

    from rarefy.pipeline.data.split import Split
    from rarefy.pipeline.data.table import Source
    from rarefy.pipeline.tasks.shared.formulas import Floats, Labels, Score
    from rarefy.pipeline.tasks.shared.ranking import Places
    from rarefy.pipeline.terms.recipe_parts import Data

OUTPUT = ("score",)
"""The name of the model's one output in its config.json."""
PROBLEM = "regression"
NEAR = 0.5
"""How far a right score may be from the true one, in standard deviations of the true scores."""
SAME = 0.25
"""How far apart two models' scores may be to be the same, in standard deviations of both."""
PARTS = (0.25, 0.5, 0.75)
UNGROUPED = -1
"""The query of a row without one."""
_LEAST = 1e-12


class Prediction(NamedTuple):
    """The score of a row, in the unit of the training data; of a reranker, a logit."""

    score: float

    def columns(self) -> list[str]:
        """Return the answer as a line's columns."""
        return [f"{self.score:.3f}"]


@dataclass(frozen=True)
class Regression(SequenceTask):
    """A sequence classifier with one output, which is the score; there are no labels.

    The truth of a split is a score for each row; with groups, the row's relevance and the number
    of its query, and a block is a query.
    """

    name: ClassVar[str] = "regression"
    version: ClassVar[int] = 2
    linear: ClassVar[Literal["classes", "flags", "scores"] | None] = "scores"
    smooths: ClassVar[bool] = False
    queries: ClassVar[bool] = True
    correlates: ClassVar[bool] = True
    answers_itself: ClassVar[bool] = True
    scores: ClassVar[Mapping[str, Formula]] = {
        "spearman": regression.spearman,
        "pearson": regression.pearson,
        "mse": regression.mse,
        "mae": regression.mae,
    }

    @classmethod
    def check_column(cls, values: Iterable[Any], column: str, source: Source) -> None:
        """Raise DataError if a column holds a value that is not a finite number."""
        for value in values:
            if not is_missing(value) and as_number(value) is None:
                shown = value if isinstance(value, str) else repr(value)
                raise DataError(
                    f"{source.reference}: column {column!r} contains {shown[:40]!r}, which is not "
                    "a number; regression needs a score for each row"
                )

    @classmethod
    def target(cls, values: tuple[Any, ...]) -> float | None:
        """Return the row's score."""
        return None if is_missing(values[0]) else as_number(values[0])

    @classmethod
    def indexed(cls, targets: Sequence[float], names: Sequence[str], source: Source) -> list[float]:
        """Return the scores. Raises DataError if they are all the same."""
        if min(targets) == max(targets):
            raise DataError(
                f"{source.reference}: all scores in {source.name} are {targets[0]:g}; regression "
                "needs different ones"
            )
        return list(targets)

    @classmethod
    def check_groups(
        cls, targets: Sequence[float], groups: Sequence[str], source: Source
    ) -> list[str]:
        """Return a warning if queries of train have no relevant row; in eval, that is an error."""
        if min(targets) < 0:
            raise DataError(
                f"{source.reference}: a relevance is {min(targets):g}; with data.group, scores "
                "are grades of relevance from 0"
            )
        found = {group for group, target in zip(groups, targets, strict=True) if target > 0}
        lacking = [group for group in dict.fromkeys(groups) if group not in found]
        if not lacking:
            return []
        what = f"{plural(len(lacking), 'query')} without a relevant row"
        if source.name == "eval":
            raise DataError(
                f"{source.reference}: {what} ({lacking[0][:40]!r}); a ranking of their rows has no "
                "score"
            )
        return [f"{source.name}: {what}, which only teach what is not relevant"]

    @classmethod
    def head(cls, config: Mapping[str, Any]) -> list[str] | None:
        """Return no labels if the model is a sequence classifier with one output.

        Whatever ``problem_type`` it says: ``heads.load`` keeps it.
        """
        own = heads.labels(config, heads.SEQUENCE, config.get(heads.PROBLEM))
        return [] if own is not None and len(own) == 1 else None

    def examples(self, tokenizer: Any, split: Split, rows: Sequence[int]) -> list[Row]:
        """Return rows with the score as ``labels``, or NaN without scores.

        ``group`` is the number of the row's query, or -1 without groups. With groups, the score is
        the share of the highest relevance of train, at most 1.
        """
        scores, groups = [math.nan] * len(rows), [UNGROUPED] * len(rows)
        if split.labels:
            scores = [float(split.labels[row]) for row in rows]
        if split.groups is not None and split.labels:
            groups = [split.group_numbers[row] for row in rows]
            most = split.greatest_label or 1.0
            scores = [min(score / most, 1.0) for score in scores]
        encoded = self.encode(tokenizer, split, rows)
        return [
            row | {"labels": score, "group": group}
            for row, score, group in zip(encoded, scores, groups, strict=True)
        ]

    def load_model(self, directory: str) -> Any:
        """Return the sequence classifier with one output for the body in ``directory``.

        An existing head with one output is kept; see ``heads.load``.
        """
        return heads.load(Path(directory), "text-classification", OUTPUT, PROBLEM)

    def start(self, network: Any, split: Split) -> None:
        """Let a new head answer the mean score, and spread its weights like the scores.

        Otherwise, small learning rates would need long to reach scores far from 0. A ranking has
        no such scale.
        """
        if not split.labels or split.groups is not None:
            return
        import numpy as np
        import torch

        scores = np.asarray(split.labels, dtype=float)
        last = heads.last_linear(network)
        with torch.no_grad():
            last.weight.mul_(float(scores.std()))
            if last.bias is not None:
                last.bias.fill_(float(scores.mean()))

    def check_head(self, network: Any, where: str) -> None:
        """Raise ModelError unless a model has one output."""
        if network.config.num_labels != 1:
            raise ModelError(
                f"{where}: the model has {network.config.num_labels} outputs, but regression "
                "needs one"
            )

    def forward(self, model: Any, batch: Mapping[str, Tensor]) -> Any:
        """Run a model on a batch, its head in fp32: scores may be far from 0, and near another."""
        with heads.exact(model):
            return super().forward(model, batch)

    def loss(
        self, outputs: Tensor, batch: Mapping[str, Tensor], *, total: bool, smoothing: float = 0.0
    ) -> Tensor:
        """Return the squared error of scores (rows × 1); with groups, see ``losses.relevance``."""
        from rarefy.pipeline.tasks.shared import losses

        scores, goal, group = outputs[:, 0], batch["labels"], batch["group"]
        if bool((group != UNGROUPED).any()):
            return losses.relevance(scores, goal, group, total=total)
        return losses.squared(scores, goal, total=total)

    def summed(self) -> Callable[[Any, dict[str, Tensor]], Tensor]:
        """Return the loss summed over rows; of scores without a truth, the scores.

        A model is not off its own scores, so their error has no gradient. The square of a score's
        gradient is the Fisher information of a Gaussian around it, whatever the truth.
        """
        plain = super().summed()

        def loss(model: Any, batch: dict[str, Tensor]) -> Tensor:
            if self.unlabelled and not bool((batch["group"] != UNGROUPED).any()):
                return self.outputs(model, batch)[:, 0].sum()
            return plain(model, batch)

        return loss

    def imitation(self, outputs: Tensor, goal: Tensor, temperature: float) -> Tensor:
        """Return the mean squared difference of scores, which needs no temperature."""
        from torch.nn import functional

        return functional.mse_loss(outputs.float(), goal.float())

    def divergence(self, outputs: Tensor, other: Tensor) -> Tensor:
        """Return the squared difference over twice the variance of these outputs.

        In nats, between Gaussians of that variance around the two answers.
        """
        exact, rough = outputs.double()[:, 0], other.double()[:, 0]
        spread = exact.var(unbiased=False).clamp(min=_LEAST)
        nats: Tensor = (exact - rough).square() / (2 * spread)
        return nats

    def truth(self, split: Split) -> list[Any]:
        """Return each row's score; with groups, its relevance and the number of its query."""
        labels = [float(label) for label in split.labels or ()]
        if split.groups is None or not labels:
            return list(labels)
        return [list(pair) for pair in zip(labels, split.group_numbers, strict=True)]

    @classmethod
    def formulas(cls, truth: Sequence[Any]) -> Mapping[str, Formula]:
        """Return correlations and errors by row, or the scores of a ranking by query."""
        return RANKING if _grouped(truth) else cls.scores

    @classmethod
    def scored(cls, data: Data) -> Collection[str]:
        """Return the names of those metrics."""
        return RANKING if data.group else cls.scores

    def targets_of(self, answers: NDArray[np.float64], split: Split) -> list[float]:
        """Return the scores; with groups, 1 for the highest row of each query, and 0 for others."""
        scores: list[float] = answers[:, 0].tolist()
        if split.groups is None:
            return scores
        best = set(_highest(scores, split.groups))
        return [float(row in best) for row in range(len(scores))]

    def blocks(self, split: Split) -> Sequence[int] | None:
        """Return the first row of each query; None without groups."""
        import numpy as np

        if split.groups is None:
            return None
        _, first = np.unique(split.group_numbers, return_index=True)
        return list(first.tolist())

    @classmethod
    def block(cls, truth: Sequence[Any]) -> str:
        """Return ``row``; with groups, ``query``."""
        return "query" if _grouped(truth) else "row"

    @classmethod
    def block_of_unit(cls, truth: Sequence[Any]) -> NDArray[np.int64] | None:
        """Return the number of each row's query; None without groups."""
        return _ranked(truth)[1] if _grouped(truth) else None

    trivial: ClassVar[str] = "equal scores"

    @classmethod
    def floor(cls, truth: Sequence[Any]) -> float | None:
        """Return 0, the correlation with equal scores; with groups, the nDCG of a random order."""
        import numpy as np

        if not _grouped(truth):
            return 0.0
        _, _, queries = _ranked(truth)
        equal = cls.formulas(truth)["ndcg_10"](np.zeros((len(truth), 1)), truth)
        return float(equal(np.ones((1, queries)))[0])

    @classmethod
    def right(cls, answers: NDArray[np.float64], truth: Sequence[Any]) -> NDArray[np.bool_]:
        """Return whether a score is at most half a standard deviation from the true one.

        The deviation is that of the true scores. A model's own answers are no noisy labels: from
        them, it is a quarter, as in ``same``. With groups: for each query, whether its highest row
        is relevant (all of them, if several are equally high).
        """
        import numpy as np

        if not _grouped(truth):
            true = np.asarray(truth, dtype=float)
            most = SAME if cls.unlabelled else NEAR
            return np.asarray(np.abs(answers[:, 0] - true) <= most * true.std())
        relevance, query, queries = _ranked(truth)
        highest = np.full(queries, -np.inf)
        scores = np.where(np.isnan(answers[:, 0]), -np.inf, answers[:, 0])
        np.maximum.at(highest, query, scores)
        wrong = (scores == highest[query]) & (relevance <= 0)
        return np.asarray((np.bincount(query, wrong) == 0) & np.isfinite(highest))

    @classmethod
    def same(cls, ours: NDArray[np.float64], theirs: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Return whether scores differ by at most a quarter of their standard deviation."""
        import numpy as np

        both = np.stack([ours[:, 0], theirs[:, 0]])
        spread = np.nanstd(both, axis=1).mean() if len(ours) else 0.0
        return np.asarray(np.abs(both[0] - both[1]) <= SAME * spread)

    def predictions(self, answers: NDArray[np.float64]) -> list[Prediction]:
        """Return each row's score."""
        return [Prediction(float(score)) for score in answers[:, 0]]

    parted_by: ClassVar[str] = "true score"

    def parts(self, split: Split) -> list[str] | None:
        """Return the quarter of the true scores in which each row is; None with groups."""
        import numpy as np

        if not split.labels or split.groups is not None:
            return None
        scores = np.asarray(split.labels, dtype=float)
        edges = np.unique(np.quantile(scores, PARTS, method="inverted_cdf"))
        quarter = np.searchsorted(edges, scores)
        spans = {}
        for number in np.unique(quarter).tolist():
            inside = scores[quarter == number]
            low, high = inside.min(), inside.max()
            spans[number] = f"{low:g}" if low == high else f"{low:g} to {high:g}"
        return [spans[number] for number in quarter.tolist()]

    def said(self, answers: NDArray[np.float64], split: Split) -> list[str]:
        """Return each row's score in words; with groups, the highest row of each query."""
        scores = answers[:, 0].tolist()
        if split.groups is None:
            return [f"{score:.3g}" for score in scores]
        ranked = split.texts if split.pairs is None else split.pairs
        return [ranked[row] for row in _highest(scores, split.groups)]

    def wanted(self, split: Split) -> list[str]:
        """Return each row's true score; with groups, the most relevant row of each query."""
        import numpy as np

        labels = np.asarray(split.labels, dtype=float)
        if split.groups is None:
            return [f"{label:g}" for label in labels.tolist()]
        return self.said(labels[:, None], split)


def _highest(scores: Sequence[float], groups: Sequence[str]) -> list[int]:
    """Return the first row with the highest score of each group."""
    best: dict[str, int] = {}
    for row, group in enumerate(groups):
        if scores[row] > scores[best.setdefault(group, row)]:
            best[group] = row
    return list(best.values())


def _grouped(truth: Sequence[Any]) -> bool:
    return len(truth) > 0 and isinstance(truth[0], (list, tuple))


def _ranked(truth: Sequence[Any]) -> tuple[Floats, Labels, int]:
    """Return each row's relevance and the number of its query, and the number of queries."""
    import numpy as np

    rows = np.asarray(truth, dtype=float)
    query = rows[:, 1].astype(np.int64)
    return rows[:, 0], query, int(query.max()) + 1


def _by_query(measure: Callable[[Places], Floats]) -> Formula:
    """Return a measure of rankings as a formula of scores and truth, by weights of queries."""

    def scored(answers: Floats, truth: Sequence[Any]) -> Score:
        relevance, query, queries = _ranked(truth)
        return ranking.formula(query, queries, measure)(answers, relevance)

    return scored


RANKING: Mapping[str, Formula] = {
    "ndcg_10": _by_query(ranking.ndcg),
    "mrr_10": _by_query(ranking.reciprocal_rank),
}
"""The scores of queries, whose rows are ranked."""
