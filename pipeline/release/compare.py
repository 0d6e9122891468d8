"""Compare a candidate with a baseline: either a bundle, or the recorded numbers of a run."""

from __future__ import annotations

from pathlib import Path

from pipeline.measure.measurements import CANDIDATE
from pipeline.release import bundles, comparison, recorded
from pipeline.release.bundles import Bundle
from pipeline.release.comparison import BASELINE, Compared, Effort
from pipeline.run import baselines
from pipeline.stage import data, tasks
from pipeline.stage.split import Split
from pipeline.stage.tasks import Task, unlabelled
from pipeline.stage.tasks.text_classification import TextClassification
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
    task: Task,
    split: Split,
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
    options = (task, split, target, effort, margin, progress)
    if baseline.endswith(".json"):
        return recorded.compare(candidate, Path(baseline), *options)
    other = bundles.find(baseline, home)
    baselines.check(other.name, other.directory, task)
    bundles.check_bytes(other)
    return comparison.compare({CANDIDATE: candidate, BASELINE: other}, *options)


def judge(compared: Compared, limit: float, target: Target) -> Verdict:
    """Judge that the main score, median latency and size regress by no more than ``limit``.

    Of rows without labels the main score is the agreement with the baseline's answers, of which the
    baseline itself has all: its regression is a drop.
    """
    names = [compared.measurements.main if n == "accuracy" else n for n in REGRESSIONS]
    forms = ["max_drop" if name == unlabelled.AGREEMENT else "max_regression" for name in names]
    budgets = [
        Budget.model_validate({"metric": name, "against": BASELINE, form: limit})
        for name, form in zip(names, forms, strict=True)
    ]
    if compared.recorded:
        return recorded.judge(compared, budgets, target)
    return judging.judge(budgets, [target], compared.measurements)


def labelled_rows(
    candidate: Bundle, table: Data, base: Path, warnings: list[str]
) -> tuple[Task, Split]:
    """Return the candidate's task, and the eval rows of ``table`` (paths relative to ``base``).

    Rows without labels are compared by the baseline's answers. ``warnings`` gets what is to be said
    of the rows, such as how many were left out. Raises ModelError if the candidate
    does not name its task and labels, DataError if the rows have others.
    """
    name, labels = baselines.answers_of(candidate.name, candidate.directory, TextClassification)
    found = unlabelled.of_data(tasks.find(name), table)
    made = found(tuple(labels), table.max_length, table.text_columns)
    return made, data.evaluated(table, type(made), data.locate(table, base), labels, warnings)
