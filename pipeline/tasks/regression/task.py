"""Regression: one score of a text or a pair, such as a rating, a similarity or a relevance.

With ``data.group``, the rows of a query are ranked by their scores: a reranker. The truth of a
split is a score for each row; with groups, the row's relevance and the number of its query, and a
block is a query.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, NamedTuple

from rarefy.pipeline.data.table import as_number, is_missing
from rarefy.pipeline.tasks.bases import SequenceEncoder
from rarefy.pipeline.tasks.regression import scores as regression
from rarefy.pipeline.tasks.shared import heads, ranking
from rarefy.pipeline.tasks.shared.formulas import Formula
from rarefy.pipeline.tasks.task import (
    ALL_SPLITS,
    Head,
    LossFunction,
    Objective,
    Presenter,
    Reader,
    Row,
    Scorer,
    Task,
)
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
"""How far a correct score may be from the true one, in standard deviations of the true scores."""
SAME = 0.25
"""How far apart two models' scores may be to be the same, in standard deviations of both."""
QUARTERS = (0.25, 0.5, 0.75)
UNGROUPED = -1
"""The query of a row without one."""
_LEAST = 1e-12


class Prediction(NamedTuple):
    """The score of a row, in the unit of the training data; of a reranker, a logit."""

    score: float

    def columns(self) -> list[str]:
        """Return the answer as a line's columns."""
        return [f"{self.score:.3f}"]


class ScoreReader(Reader):
    """Reads the score of each row; there are no labels."""

    queries: ClassVar[bool] = True
    correlates: ClassVar[bool] = True
    self_labelled = ALL_SPLITS

    def check_column(self, values: Iterable[Any], column: str, source: Source) -> None:
        """Raise DataError if a column holds a value that is not a finite number."""
        for value in values:
            if is_missing(value) or as_number(value) is not None:
                continue
            example = value if isinstance(value, str) else repr(value)
            raise DataError(
                f"{source.reference}: column {column!r} contains {example[:40]!r}, which is not "
                "a number; regression needs a score for each row"
            )

    def target(self, values: tuple[Any, ...]) -> float | None:
        """Return the row's score."""
        if is_missing(values[0]):
            return None
        return as_number(values[0])

    def index_targets(
        self, targets: Sequence[float], names: Sequence[str], source: Source
    ) -> list[float]:
        """Return the scores. Raises DataError if they are all the same."""
        if min(targets) == max(targets):
            raise DataError(
                f"{source.reference}: all scores in {source.name} are {targets[0]:g}; regression "
                "needs different ones"
            )
        return list(targets)

    def check_groups(
        self, targets: Sequence[float], groups: Sequence[str], source: Source
    ) -> list[str]:
        """Return a warning if queries of train have no relevant row; in eval, that is an error."""
        if min(targets) < 0:
            raise DataError(
                f"{source.reference}: a relevance is {min(targets):g}; with data.group, scores "
                "are grades of relevance from 0"
            )
        with_relevant = {group for group, target in zip(groups, targets, strict=True) if target > 0}
        lacking = [group for group in dict.fromkeys(groups) if group not in with_relevant]
        if not lacking:
            return []
        problem = f"{plural(len(lacking), 'query')} without a relevant row"
        if source.name == "eval":
            raise DataError(
                f"{source.reference}: {problem} ({lacking[0][:40]!r}); a ranking of their rows has "
                "no score"
            )
        return [f"{source.name}: {problem}, which only teach what is not relevant"]


class ScoreEncoder(SequenceEncoder):
    """Trains on the score of each row and the number of its query."""

    def examples(self, tokenizer: Any, split: Split, rows: Sequence[int]) -> list[Row]:
        """Return rows with the score as ``labels``, or NaN without scores.

        ``group`` is the number of the row's query, or -1 without groups. With groups, the score is
        the share of the highest relevance of train, at most 1.
        """
        examples = super().examples(tokenizer, split, rows)
        for row, example in zip(rows, examples, strict=True):
            example["group"] = split.group_numbers[row] if _has_queries(split) else UNGROUPED
        return examples

    def target(self, split: Split, row: int) -> float:
        """Return the row's score; of a query's row, the share of the highest relevance."""
        if not split.labels:
            return math.nan
        score = float(split.labels[row])
        if not _has_queries(split):
            return score
        return min(score / (split.greatest_label or 1.0), 1.0)


class ScoreHead(Head):
    """The head of a sequence classifier with one output, which is the score."""

    def labels_of(self, config: Mapping[str, Any]) -> list[str] | None:
        """Return no labels if the model is a sequence classifier with one output.

        Whatever ``problem_type`` it says: ``heads.load`` keeps it.
        """
        names = heads.labels(config, heads.SEQUENCE, config.get(heads.PROBLEM))
        if names is None or len(names) != 1:
            return None
        return []

    def load(self, directory: str) -> Any:
        """Return the sequence classifier with one output for the body in ``directory``.

        An existing head with one output is kept; see ``heads.load``.
        """
        return heads.load(Path(directory), heads.CLASSIFIER, OUTPUT, PROBLEM)

    def initialize(self, network: Any, split: Split) -> None:
        """Let a new head predict the mean score, and spread its weights like the scores.

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

    def check(self, network: Any, where: str) -> None:
        """Raise ModelError unless a model has one output."""
        count = network.config.num_labels
        if count != 1:
            raise ModelError(f"{where}: the model has {count} outputs, but regression needs one")

    def outputs(self, model: Any, batch: Mapping[str, Tensor]) -> Tensor:
        """Run a model on a batch, its head in fp32: scores may be far from 0, and near another."""
        with heads.exact(model):
            return super().outputs(model, batch)


class ScoreObjective(Objective):
    """Squared errors of scores; with groups, losses of relevance."""

    of_labels: ClassVar[bool] = False
    linear: ClassVar[Literal["classes", "flags", "scores"] | None] = "scores"

    def loss(self, outputs: Tensor, batch: Mapping[str, Tensor], *, total: bool) -> Tensor:
        """Return the squared error of scores (rows, 1); with groups, see ``losses.relevance``."""
        from rarefy.pipeline.tasks.shared import losses

        scores, goal = outputs[:, 0], batch["labels"]
        if _of_queries(batch):
            return losses.relevance(scores, goal, batch["group"], total=total)
        return losses.squared(scores, goal, total=total)

    def summed_loss(self) -> LossFunction:
        """Return the loss summed over rows; of scores without a truth, the scores.

        A model is not off its own scores, so their error has no gradient. The square of a score's
        gradient is the Fisher information of a Gaussian around it, whatever the truth.
        """
        if not self.task.unlabelled:
            return super().summed_loss()

        def loss(model: Any, batch: dict[str, Tensor]) -> Tensor:
            outputs = self.task.head.outputs(model, batch)
            if _of_queries(batch):
                return self.loss(outputs, batch, total=True)
            return outputs[:, 0].sum()

        return loss

    def imitation(self, outputs: Tensor, goal: Tensor, temperature: float) -> Tensor:
        """Return the mean squared difference of scores, which needs no temperature."""
        from torch.nn import functional

        return functional.mse_loss(outputs.float(), goal.float())

    def divergence(self, outputs: Tensor, other: Tensor) -> Tensor:
        """Return the squared difference over twice the variance of these outputs.

        In nats, between Gaussians of that variance around the two scores.
        """
        exact, rough = outputs.double()[:, 0], other.double()[:, 0]
        variance = exact.var(unbiased=False).clamp(min=_LEAST)
        nats: Tensor = (exact - rough).square() / (2 * variance)
        return nats

    def targets(self, predictions: NDArray[np.float64], split: Split) -> list[float]:
        """Return the scores; with groups, 1 for the highest row of each query, and 0 for others."""
        scores: list[float] = predictions[:, 0].tolist()
        if split.groups is None:
            return scores
        best = set(_highest(scores, split.groups))
        return [float(row in best) for row in range(len(scores))]


class RegressionScorer(Scorer):
    """Scores correlations and errors of rows; with groups, the ranking of each query's rows."""

    scores: ClassVar[Mapping[str, Formula]] = {
        "spearman": regression.spearman,
        "pearson": regression.pearson,
        "mse": regression.mse,
        "mae": regression.mae,
    }
    trivial = "equal scores"

    def formulas(self, truth: Sequence[Any]) -> Mapping[str, Formula]:
        """Return correlations and errors by row, or the scores of a ranking by query."""
        return RANKING if _grouped(truth) else self.scores

    def score_names(self, data: Data) -> Collection[str]:
        """Return the names of those metrics."""
        return RANKING if data.group else self.scores

    def floor(self, truth: Sequence[Any]) -> float | None:
        """Return 0, the correlation with equal scores; with groups, the nDCG of a random order."""
        import numpy as np

        if not _grouped(truth):
            return 0.0
        _, _, queries = _ranked(truth)
        equal_scores = np.zeros((len(truth), 1))
        ndcg = RANKING["ndcg_10"](equal_scores, truth)
        return float(ndcg(np.ones((1, queries)))[0])

    def truth(self, split: Split) -> list[Any]:
        """Return each row's score; with groups, its relevance and the number of its query."""
        scores = [float(label) for label in split.labels or ()]
        if split.groups is None or not scores:
            return list(scores)
        return [list(pair) for pair in zip(scores, split.group_numbers, strict=True)]

    def blocks(self, split: Split) -> Sequence[int] | None:
        """Return the first row of each query; None without groups."""
        import numpy as np

        if split.groups is None:
            return None
        _, first = np.unique(split.group_numbers, return_index=True)
        return list(first.tolist())

    def block_name(self, truth: Sequence[Any]) -> str:
        """Return ``row``; with groups, ``query``."""
        return "query" if _grouped(truth) else "row"

    def part(self, truth: Sequence[Any], blocks: Sequence[int]) -> list[Any]:
        """Return the truth of some rows; with groups, of some queries, numbered from 0."""
        if not _grouped(truth):
            return super().part(truth, blocks)
        place = {block: at for at, block in enumerate(blocks)}
        part = []
        for relevance, query in truth:
            if query in place:
                part.append([relevance, place[query]])
        return part

    def block_of_unit(self, truth: Sequence[Any]) -> NDArray[np.int64] | None:
        """Return the number of each row's query; None without groups."""
        if not _grouped(truth):
            return None
        _, query, _ = _ranked(truth)
        return query

    def correct(self, predictions: NDArray[np.float64], truth: Sequence[Any]) -> NDArray[np.bool_]:
        """Return whether a score is at most half a standard deviation from the true one.

        The deviation is that of the true scores. A model's own scores are no noisy labels: from
        them, it is a quarter, as in ``agreement``. With groups: for each query, whether its highest
        row is relevant (all of them, if several are equally high).
        """
        import numpy as np

        if _grouped(truth):
            return _ranks_relevant_first(predictions[:, 0], truth)
        true = np.asarray(truth, dtype=float)
        most = SAME if self.task.unlabelled else NEAR
        errors = np.abs(predictions[:, 0] - true)
        return np.asarray(errors <= most * true.std())

    def agreement(
        self, ours: NDArray[np.float64], theirs: NDArray[np.float64]
    ) -> NDArray[np.bool_]:
        """Return whether scores differ by at most a quarter of their standard deviation."""
        import numpy as np

        scores = np.stack([ours[:, 0], theirs[:, 0]])
        deviation = 0.0
        if len(ours):
            deviation = np.nanstd(scores, axis=1).mean()
        return np.asarray(np.abs(scores[0] - scores[1]) <= SAME * deviation)


class ScorePresenter(Presenter):
    """Shows scores; with groups, the highest row of each query."""

    answers_like: ClassVar[str] = "regression"
    slice_name: ClassVar[str] = "true score"

    def answers(self, predictions: NDArray[np.float64]) -> list[Prediction]:
        """Return each row's score."""
        return [Prediction(float(score)) for score in predictions[:, 0]]

    def target_slices(self, split: Split) -> list[str] | None:
        """Return the quarter of the true scores in which each row is; None with groups."""
        import numpy as np

        if not split.labels or split.groups is not None:
            return None
        scores = np.asarray(split.labels, dtype=float)
        edges = np.unique(np.quantile(scores, QUARTERS, method="inverted_cdf"))
        quarter = np.searchsorted(edges, scores)
        names = {}
        for number in np.unique(quarter).tolist():
            inside = scores[quarter == number]
            low, high = inside.min(), inside.max()
            names[number] = f"{low:g}" if low == high else f"{low:g} to {high:g}"
        return [names[number] for number in quarter.tolist()]

    def describe_prediction(self, predictions: NDArray[np.float64], split: Split) -> list[str]:
        """Return each row's score in words; with groups, the highest row of each query."""
        scores = predictions[:, 0].tolist()
        if split.groups is None:
            return [f"{score:.3g}" for score in scores]
        texts = split.texts if split.pairs is None else split.pairs
        return [texts[row] for row in _highest(scores, split.groups)]

    def describe_target(self, split: Split) -> list[str]:
        """Return each row's true score; with groups, the most relevant row of each query."""
        import numpy as np

        scores = np.asarray(split.labels, dtype=float)
        if split.groups is None:
            return [f"{score:g}" for score in scores.tolist()]
        return self.describe_prediction(scores[:, None], split)


def _has_queries(split: Split) -> bool:
    return split.groups is not None and bool(split.labels)


def _of_queries(batch: Mapping[str, Tensor]) -> bool:
    return bool((batch["group"] != UNGROUPED).any())


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


def _ranks_relevant_first(scores: Floats, truth: Sequence[Any]) -> NDArray[np.bool_]:
    """Return for each query whether all its highest rows are relevant; NaN is the lowest score."""
    import numpy as np

    relevance, query, queries = _ranked(truth)
    scores = np.where(np.isnan(scores), -np.inf, scores)
    highest = np.full(queries, -np.inf)
    np.maximum.at(highest, query, scores)
    wrong = (scores == highest[query]) & (relevance <= 0)
    all_relevant = np.bincount(query, wrong) == 0
    return np.asarray(all_relevant & np.isfinite(highest))


def _by_query(measure: Callable[[Places], Floats]) -> Formula:
    """Return a measure of rankings as a formula of scores and truth, by weights of queries."""

    def formula(predictions: Floats, truth: Sequence[Any]) -> Score:
        relevance, query, queries = _ranked(truth)
        return ranking.formula(query, queries, measure)(predictions, relevance)

    return formula


RANKING: Mapping[str, Formula] = {
    "ndcg_10": _by_query(ranking.ndcg),
    "mrr_10": _by_query(ranking.reciprocal_rank),
}
"""The scores of queries, whose rows are ranked."""

REGRESSION = Task(
    name="regression",
    reader=ScoreReader(),
    encoder=ScoreEncoder(),
    head=ScoreHead(),
    objective=ScoreObjective(),
    scorer=RegressionScorer(),
    presenter=ScorePresenter(),
    version=2,
)
