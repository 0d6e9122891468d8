"""Compare a candidate with a baseline: either a bundle, or the recorded numbers of a run."""

from __future__ import annotations

from pathlib import Path

from pipeline.measure.measurements import CANDIDATE
from pipeline.release import bundles, comparison, recorded
from pipeline.release.bundles import Bundle
from pipeline.release.comparison import BASELINE, Compared, Effort
from pipeline.run import baselines
from pipeline.stage import data
from pipeline.stage.data import Split
from pipeline.store.home import Home
from pipeline.terms.budget import REGRESSIONS, Budget
from pipeline.terms.progress import Progress, silent
from pipeline.terms.vocabulary import Data, Target
from pipeline.verdict import judge as judging
from pipeline.verdict.verdict import Verdict

MARGIN = 0.05
"""The default margin on the latency ratio: a smaller change counts as equal."""


def compare(
    candidate: Bundle,
    baseline: str,
    split: Split,
    labels: list[str],
    home: Home,
    *,
    target: Target = Target(),  # noqa: B008 (frozen)
    effort: Effort = Effort(rows=200, processes=5, seconds=60.0),  # noqa: B008 (frozen)
    margin: float = MARGIN,
    progress: Progress = silent,
) -> Compared:
    """Measure a candidate beside a baseline on the rows of ``split``.

    ``baseline``: a bundle as ``bundles.find`` takes it, or the path of a run's run.json, whose
    absolute numbers are used if they come from this same machine.

    Raises ModelError if the labels differ, IntegrityError if a bundle is damaged, EvidenceError
    if the recorded numbers cannot be compared with numbers of this machine.
    """
    bundles.check_bytes(candidate)
    options = (split, labels, target, effort, margin, progress)
    if baseline.endswith(".json"):
        return recorded.compare(candidate, Path(baseline), *options)
    other = bundles.find(baseline, home)
    baselines.check(other.name, other.directory, labels)
    bundles.check_bytes(other)
    return comparison.compare({CANDIDATE: candidate, BASELINE: other}, *options)


def judge(compared: Compared, limit: float, target: Target) -> Verdict:
    """Judge that accuracy, median latency and size regress by no more than ``limit``, a share."""
    budgets = [
        Budget(metric=metric, max_regression=limit, against=BASELINE) for metric in REGRESSIONS
    ]
    if compared.recorded:
        return recorded.judge(compared, budgets, target)
    return judging.judge(budgets, [target], compared.measurements)


def labelled_rows(candidate: Bundle, table: Data, base: Path) -> tuple[Split, list[str]]:
    """Return the eval rows of ``table`` (paths relative to ``base``) and the candidate's labels.

    Raises ModelError if the candidate does not name its labels, DataError if the rows have others.
    """
    labels = baselines.labels_of(candidate.name, candidate.directory)
    return data.load(table, data.locate(table, base), labels)[0]["eval"], labels
