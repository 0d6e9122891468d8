"""The table of metrics that recipe, verdict, history, report and CI files share; one's own."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, Literal

Kind = Literal[
    "score",
    "error",
    "agreement",
    "divergence",
    "latency",
    "speedup",
    "throughput",
    "cold_start",
    "count",
]

FORMS: Final = (
    *("max", "min", "max_drop", "max_increase", "min_retained"),
    *("min_speedup", "min_shrink", "max_regression"),
)
"""The forms of a budget, documented in ``terms.budget.Budget``."""
FACTORS: Final = ("min_speedup", "min_shrink")
"""The forms with a factor as their limit."""


@dataclass(frozen=True)
class Metric:
    """One metric.

    ``kind``   ``score``: computed per row, higher is better; ``error``: computed per row, lower is
               better; ``agreement``: with a reference, computed per row; ``divergence``: from a
               reference, computed per row, lower is better; ``latency``: ms on a
               target, ``latency_…`` for the model call alone, ``end_to_end_…`` from text to logits;
               ``cold_start``: ms from process start to the first prediction, on the first target;
               ``speedup``: a ratio of latencies; ``throughput``: rows a second on a target with all
               workers busy, from text to raw outputs; ``count``: a number of bytes or parameters
    ``unit``   ``%`` (stored as a fraction between 0 and 1), ``ms``, ``rows/s``, ``B``, ``×`` or
               empty
    ``forms``  the budget forms that apply to it
    ``title``  its name in a heading
    ``exact``  counted, not sampled: identical on every machine and in every run
    ``less``   the word for a smaller value: "smaller", "fewer parameters"
    ``ends``   the least and the greatest value that it can have
    ``of_label``  whether it is of one label, which a budget names
    """

    kind: Kind
    unit: str
    forms: frozenset[str]
    title: str
    exact: bool = False
    less: str = "less"
    ends: tuple[float, float] = (-math.inf, math.inf)
    of_label: bool = False

    @property
    def higher_is_better(self) -> bool:
        return self.kind in ("score", "agreement", "speedup", "throughput")

    @property
    def timed(self) -> bool:
        """Whether it is timed on every target."""
        return self.kind in ("latency", "speedup", "throughput")

    @property
    def from_rows(self) -> bool:
        """Whether it is computed from the predictions on the eval split."""
        return self.kind in ("score", "error", "agreement", "divergence")


SHARE: Final = (0.0, 1.0)
"""The ends of a share."""
_ABOVE: Final = (0.0, math.inf)


DIFFERENCES: Final = ("max_drop", "max_increase")
"""The forms with a difference as their limit."""
_COMPARED: Final = frozenset({"min", "max", "max_drop", "min_retained", "max_regression"})
_TIMED: Final = frozenset({"min", "max", "min_speedup", "max_regression"})


def _score(title: str) -> Metric:
    return Metric("score", "%", _COMPARED, title, ends=SHARE)


def _label_score(title: str) -> Metric:
    return Metric("score", "%", _COMPARED, title, ends=SHARE, of_label=True)


def _number(title: str) -> Metric:
    """A correlation: it may be compared, but is no share."""
    return Metric("score", "", _COMPARED, title, ends=(-1.0, 1.0))


def _time(kind: Kind, title: str) -> Metric:
    return Metric(kind, "ms", _TIMED, title)


def _count(unit: str, title: str, less: str, *, exact: bool = False) -> Metric:
    forms = frozenset({"min", "max", "min_shrink", "max_regression"})
    return Metric("count", unit, forms, title, exact, less)


_BOUNDS: Final = frozenset({"min", "max"})
_ERROR: Final = _BOUNDS | {"max_increase"}
_OF_RATES: Final = frozenset({"min", "min_speedup", "max_regression"})
PERCENTILES: Final = (50, 90, 95, 99)
METRICS: Final[dict[str, Metric]] = {
    "accuracy": _score("Accuracy"),
    "macro_f1": _score("Macro F1"),
    "micro_f1": _score("Micro F1"),
    "mean_average_precision": _score("Mean average precision"),
    "subset_accuracy": _score("Subset accuracy"),
    "recall_1_fpr": _score("Recall at 1% false positives"),
    "auroc": _score("Area under the ROC curve"),
    "average_precision": _score("Average precision"),
    "recall_95_precision": _score("Recall at 95% precision"),
    "entity_f1": _score("Entity F1"),
    "entity_precision": _score("Entity precision"),
    "entity_recall": _score("Entity recall"),
    "token_accuracy": _score("Token accuracy"),
    "precision": _label_score("Precision"),
    "recall": _label_score("Recall"),
    "f1": _label_score("F1"),
    "ndcg_10": _score("nDCG@10"),
    "mrr_10": _score("MRR@10"),
    "recall_10": _score("Recall@10"),
    "spearman": _number("Spearman correlation"),
    "pearson": _number("Pearson correlation"),
    "mse": Metric("error", "", _ERROR, "Mean squared error", ends=_ABOVE),
    "mae": Metric("error", "", _ERROR, "Mean absolute error", ends=_ABOVE),
    "ece": Metric("error", "%", _ERROR, "Calibration error", ends=SHARE),
    "agreement": Metric("agreement", "%", _BOUNDS | {"max_drop"}, "Agreement", ends=SHARE),
    "kl": Metric("divergence", "", frozenset({"max"}), "KL divergence", ends=_ABOVE),
    **{f"latency_p{p}": _time("latency", f"Latency p{p}") for p in PERCENTILES},
    **{f"end_to_end_p{p}": _time("latency", f"End to end p{p}") for p in PERCENTILES},
    "throughput": Metric("throughput", "rows/s", _OF_RATES, "Throughput"),
    "speedup": Metric("speedup", "×", _BOUNDS | {"min_speedup"}, "Speedup"),
    "cold_start": _time("cold_start", "Cold start"),
    "size": _count("B", "Size", "smaller", exact=True),
    "memory": _count("B", "Memory", "less memory"),
    "device_memory": _count("B", "Device memory", "less of the GPU's memory"),
    "adapter_memory": _count("B", "Memory of a further adapter", "less memory for an adapter"),
    "parameters": _count("", "Parameters", "fewer parameters", exact=True),
}

_OWN_FORMS: Final = _ERROR | {"max_drop", "min_retained"}
_AT_PRECISION: Final = re.compile(
    r"recall_([1-9]\d?(?:\.\d+)?)_precision"
)  # a percentage, of at least 1
_UNITS: Final = {
    "max_drop": "points",
    "min_retained": "%",
    "max_regression": "%",
    **dict.fromkeys(FACTORS, "×"),
}
USUAL: Final = ("accuracy", "latency_p50", "size")
"""The three metrics that are tracked for every release: quality, speed, size."""

_TAKES: Final = {
    "%": "a percentage",
    "×": "a factor",
    "ms": "a time",
    "rows/s": "a number of rows a second",
    "B": "a size",
    "": "a number without a unit",
}


def find(metric: str) -> Metric | None:
    """Return a metric's entry, or what is known of a metric of one's own; None for any other."""
    precision = precision_in(metric)
    if is_own(metric):
        return Metric("score", "", _OWN_FORMS, metric)
    if metric not in METRICS and precision:
        return _score(f"Recall at {100 * precision:g}% precision")
    return METRICS.get(metric)


def is_own(metric: str) -> bool:
    """Return whether a metric is the user's own function: ``module:function``."""
    return ":" in metric


def precision_in(metric: str) -> float | None:
    """Return the precision in the name of a metric: 0.95 of ``recall_95_precision``, or None."""
    match = _AT_PRECISION.fullmatch(metric)
    return float(match[1]) / 100 if match else None


def known(metric: str) -> Metric:
    """Return a metric's entry. An unknown metric counts as a score without a unit."""
    return find(metric) or Metric("score", "", frozenset(), title(metric))


def of_kind(*kinds: Kind) -> list[str]:
    """Return the names of all metrics of the given kinds."""
    return [name for name, metric in METRICS.items() if metric.kind in kinds]


def unit(metric: str, form: str | None = None) -> str:
    """Return the unit of a metric's value, or of the limit of a budget form."""
    own_unit = known(metric).unit
    if form == "max_increase" and own_unit == "%":
        return "points"
    if form == "max_drop" and is_own(metric):
        return ""
    return _UNITS.get(form or "", own_unit)


def title(metric: str) -> str:
    """Return a metric's name for a heading, derived from its key if it is not in the table."""
    entry = find(metric)
    if entry:
        return entry.title
    text = metric.replace("_", " ")
    return text[:1].upper() + text[1:]


def expects(metric: str, form: str) -> str | None:
    """Return the kind of quantity of a budget's limit; None if unknown, or for a difference."""
    if form in DIFFERENCES:
        return None  # in points, which are of no other kind
    if form in FACTORS:
        return "a factor"
    if form not in _BOUNDS:
        return "a percentage"
    entry = find(metric)
    return _TAKES[entry.unit] if entry else None


@dataclass(frozen=True)
class OwnMetric:
    """A function ``metric(predictions, labels)``, under the name that the recipe has for it.

    It returns one number for each row, whose mean is the metric, or one number for all.
    """

    name: str
    function: Callable[[Any, Any], Any]
    code: str
    """The sha256 of its file and of the modules that this imports."""
