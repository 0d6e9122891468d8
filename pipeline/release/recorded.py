"""Compare with a baseline whose numbers come from the file of an earlier run on this machine.

Absolute times of another session are comparable only if the machine's fingerprint is equal, and
even then a busier machine shows up as a change. Measuring the baseline beside the candidate is
always better.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.release import comparison
from pipeline.release.bundles import Bundle
from pipeline.release.comparison import BASELINE, CANDIDATE, Compared, Effort
from pipeline.run import baselines
from pipeline.terms import metrics
from pipeline.terms.errors import EvidenceError, RecipeError
from pipeline.terms.outcomes import Outcome, worst
from pipeline.terms.progress import Progress
from pipeline.terms.wording import exactly, percent
from pipeline.verdict import judge as judging
from pipeline.verdict.footing import Footing
from pipeline.verdict.verdict import BudgetResult, Verdict

if TYPE_CHECKING:
    from pipeline.measure.gate import Comparison
    from pipeline.measure.measurements import Latency, Measurements
    from pipeline.stage.split import Split
    from pipeline.stage.tasks import Task
    from pipeline.terms.budget import Budget
    from pipeline.terms.interval import Interval
    from pipeline.terms.vocabulary import Target

ALIKE = 0.05
"""The largest relative difference between the mean lengths of our timed calls and the file's."""


def read(path: Path) -> Measurements:
    """Read measurements from a measurements.json or from a run's run.json.

    The answers are read from the file beside it. Raises RecipeError if the file holds none or the
    answers are missing, EvidenceError if its schema is of another version.
    """
    from pipeline.measure import answers
    from pipeline.measure.measurements import SCHEMA, Measurements

    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise RecipeError(f"{path}: cannot read it as JSON: {error}") from None
    record = value.get("measurements", value) if isinstance(value, dict) else None
    schema = record.get("schema") if isinstance(record, dict) else None
    if not isinstance(record, dict) or not str(schema).startswith("rarefy.measurements/"):
        raise RecipeError(
            f"{path}: holds no measurements; name a run's run.json or a measurements.json"
        )
    if schema != SCHEMA:
        raise EvidenceError(
            f"{path}: its schema is {schema}, but this rarefy reads {SCHEMA}; measure it again"
        )
    try:
        return answers.read(Measurements.model_validate(record), path.with_name(answers.FILE))
    except ValueError as error:
        raise RecipeError(f"{path}: {str(error).splitlines()[0]}") from None


def compare(
    candidate: Bundle,
    path: Path,
    task: Task,
    split: Split,
    target: Target,
    effort: Effort,
    margin: float,
    progress: Progress,
) -> Compared:
    """Measure the candidate alone, and compare with the numbers in a file.

    Raises ModelError if the labels differ, EvidenceError if the file's machine, rows, provider or
    threads differ.
    """
    from pipeline.measure import alone, latency

    old = read(path)
    check_machine(old, path)
    baselines.check_alike(str(path), (old.task, old.labels), task)
    name, then = timed_like(old, target, path)
    old = old.on(name)  # the answers of the runtime whose times are taken
    truth = comparison.truth_of(task, split, old.models[CANDIDATE])
    # Without labels, the file's own truth are another model's answers: only the rows must be these.
    same = len(truth) == len(old.truth) if task.unlabelled else truth == old.truth
    if not same or (old.data, old.unlabelled) != (split.sha256, task.unlabelled):
        raise EvidenceError(
            f"{path}: was measured on other eval rows ({len(old.truth)} there, {len(split)} here, "
            "and the digests of the files differ), so the rows cannot be compared"
        )
    models = {
        CANDIDATE: comparison.answered(candidate, task, split, target, progress),
        BASELINE: old.models[CANDIDATE],
    }
    asked = comparison.timing(task, split, target, effort, seed=then.seed)
    with alone.measuring(alone.noted(progress)):
        now = latency.measure({CANDIDATE: candidate.directory}, **asked, progress=progress)
    check_rows(now, then, path)
    return Compared(
        names={CANDIDATE: candidate.name, BASELINE: str(path)},
        measurements=comparison.gathered(models, task, split, truth),
        latency={CANDIDATE: now, BASELINE: then},
        times=change(now, then, margin),
        margin=margin,
        recorded=str(path),
    )


def check_machine(old: Measurements, path: Path) -> None:
    """Raise EvidenceError, naming the differences, if the file was made on another machine."""
    from pipeline.measure import machine

    here, there = machine.fingerprint(), old.machine
    if machine.digest(here) == machine.digest(there):
        return
    facts = [
        f"{name} ({theirs} there, {ours} here)"
        for name, (theirs, ours) in sorted(machine.differences(there, here).items())
    ]
    raise EvidenceError(
        f"{path}: was measured on another machine, so its numbers do not apply here; different: "
        f"{', '.join(facts)}; name the baseline's bundle to measure it beside the candidate"
    )


def timed_like(old: Measurements, target: Target, path: Path) -> tuple[str, Latency]:
    """Return the file's target with our provider and threads, and its times there.

    Its candidate is our baseline. Raises EvidenceError if it has no such target.
    """
    for name, timed in old.latency.items():
        if (timed.provider, timed.threads) == (target.provider, target.threads):
            return name, timed.model_copy(update={"samples": {BASELINE: timed.samples[CANDIDATE]}})
    known = ", ".join(f"{t.provider} with {t.threads} threads" for t in old.latency.values())
    raise EvidenceError(
        f"{path}: has no latencies on {target.provider} with {target.threads} threads; "
        f"it has {known or 'none'}"
    )


def check_rows(now: Latency, then: Latency, path: Path) -> None:
    """Raise EvidenceError if other rows were timed than those of the file.

    One of an earlier version knows only the lengths of its calls. Also if the calls were not timed
    in blocks of the same length: in shorter ones, caches are cold.
    """
    if now.block != then.block:
        plural = "" if then.block == 1 else "s"
        raise EvidenceError(
            f"{path}: was timed in blocks of {then.block} call{plural}, ours in blocks of "
            f"{now.block}; measure it again"
        )
    if now.sample and then.sample:
        if now.sample != then.sample:
            raise EvidenceError(
                f"{path}: timed {then.rows} other rows than ours; time the same (--rows "
                f"{then.rows}), or name its bundle, to time it again"
            )
        return
    ours, theirs = (sum(t.tokens) / max(1, len(t.tokens)) for t in (now, then))
    if not theirs or abs(ours / theirs - 1) > ALIKE:
        raise EvidenceError(
            f"{path}: its timed rows have {theirs:.1f} tokens on average, but ours have "
            f"{ours:.1f}; time the same rows (--rows), or name its bundle, to time it again"
        )


def change(now: Latency, then: Latency, margin: float) -> Comparison:
    """Decide whether the median changed by the margin between two sessions.

    The samples are not paired, so the interval of the ratio is combined from those of the two
    medians on a log scale (Zou and Donner 2008, "Construction of confidence limits about effect
    measures"), and the test is Mann–Whitney's for two independent samples.
    """
    from scipy.stats import mannwhitneyu

    from pipeline.measure import gate

    ours, theirs = now.samples[CANDIDATE], then.samples[BASELINE]
    ratio = unpaired_ratio(now.percentile(CANDIDATE, 50), then.percentile(BASELINE, 50))
    calls = [[ms for process in side for ms in process] for side in (ours, theirs)]
    slower = ratio.value >= 1
    p = float(mannwhitneyu(*calls, alternative="greater" if slower else "less").pvalue)
    word: gate.Change = "inconclusive"
    if ratio.low >= 1 / (1 + margin) and ratio.high <= 1 + margin:
        word = "equal"
    elif p < gate.CHANCE and ratio.low > 1 + margin:
        word = "regression"
    elif p < gate.CHANCE and ratio.high < 1 / (1 + margin):
        word = "improvement"
    return gate.Comparison("inconclusive" if now.throttled or then.throttled else word, ratio, p)


def unpaired_ratio(over: Interval, under: Interval) -> Interval:
    """Return the ratio of two independent positive numbers with its interval (MOVER)."""
    from pipeline.terms.interval import Interval

    value, a, b = over.value / under.value, over, under
    down = math.hypot(math.log(a.value / a.low), math.log(b.high / b.value))
    up = math.hypot(math.log(a.high / a.value), math.log(b.value / b.low))
    return Interval(value, value * math.exp(-down), value * math.exp(up))


def judge(compared: Compared, budgets: list[Budget], target: Target) -> Verdict:
    """Judge budgets against recorded numbers; a timed one fails only if it is a regression."""
    exact = [budget for budget in budgets if not metrics.known(budget.metric).timed]
    judged = judging.judge(exact, [target], compared.measurements)
    footing = Footing(compared.measurements)
    for budget in budgets:
        if budget not in exact:
            judged.budgets.append(footing.check(_time(compared, budget, target)))
    throttled = [timed.throttled for timed in compared.latency.values() if timed.throttled]
    least: Outcome = "inconclusive" if throttled else "pass"
    outcome = worst([least, *(result.outcome for result in judged.budgets)])
    return judged.model_copy(update={"outcome": outcome, "evidence": throttled})


def _time(compared: Compared, budget: Budget, target: Target) -> BudgetResult:
    now, then = compared.latency[CANDIDATE], compared.latency[BASELINE]
    word, ratio, _ = change(now, then, budget.limit)
    outcome: Outcome = "inconclusive"
    if word == "regression":
        outcome = "fail"
    elif ratio.high <= 1 + budget.limit and not (now.throttled or then.throttled):
        outcome = "pass"
    return BudgetResult(
        metric=budget.metric,
        form=budget.form,
        limit=budget.limit,
        against=budget.against,
        target=target.name,
        value=ratio.value - 1,
        low=ratio.low - 1,
        high=ratio.high - 1,
        outcome=outcome,
        reason=(
            f"{budget.metric} is {ratio.value:.2f} [{ratio.low:.2f}, {ratio.high:.2f}] times the "
            f"one in {compared.recorded}, which was measured in another session: {word} at a "
            f"margin of {exactly(percent, budget.limit)}"
        ),
    )
