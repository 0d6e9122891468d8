"""Verdicts as a project's runs produce them over weeks, with handmade numbers."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from rarefy.pipeline.measure.measurements import Latency, Measurements, ModelMeasurement
from rarefy.pipeline.terms.outcomes import Outcome
from rarefy.pipeline.verdict.record import ReportData
from rarefy.pipeline.verdict.verdict import BudgetResult, Verdict
from tests.pipeline.report.factory import digest

START = datetime(2025, 3, 3, 9, 30, tzinfo=UTC)
MACHINE = {
    "system": "Linux x86_64",
    "cpu": "Intel(R) Xeon(R) Processor @ 2.10GHz",
    "cores": {"physical": 2, "logical": 2, "quota": None},
    "python": "3.11.2",
    "libraries": {"onnxruntime": "1.31.0", "torch": "2.13.0"},
}
NEWER = MACHINE | {"libraries": {"onnxruntime": "1.32.0", "torch": "2.13.0"}}


def finished(
    index: int,
    *,
    right: int = 86,
    rows: int = 100,
    milliseconds: float | None = None,
    size: int = 15_400_000,
    machine: dict[str, Any] = MACHINE,
    budgets: list[BudgetResult] | None = None,
    evidence: list[str] | None = None,
    outcome: Outcome | None = None,
    **changes: Any,
) -> ReportData:
    """A run that ended ``index`` half days after the start; its candidate has ``right`` rows right.

    With ``milliseconds``, the target ``cpu`` has five processes of calls close to it. The verdict
    is the worst of the budgets' outcomes unless it is given.
    """
    truth = [0] * rows
    answers = [[0.9, 0.1] if row < right else [0.1, 0.9] for row in range(rows)]
    candidate = ModelMeasurement(digest=digest(f"bundle {index}"), size=size, answers=answers)
    timed = {}
    if milliseconds is not None:
        processes = [
            [milliseconds * pace * (1 + 0.001 * (call % 20 - 9.5)) for call in range(60)]
            for pace in (0.996, 0.998, 1.0, 1.002, 1.004)
        ]
        timed["cpu"] = Latency(samples={"candidate": processes}, tokens=[8] * 300, rows=300)
    measured = Measurements(
        machine=machine | {"memory_gib": 24}, task="text-classification", labels=["no", "yes"],
        truth=truth, models={"candidate": candidate}, latency=timed,
        samples=[{"run": str(index)}],
    )  # fmt: skip
    judged = budgets or []
    words = {budget.outcome for budget in judged if budget.level == "error"}
    worst: Outcome = "fail" if "fail" in words else "pass"
    if worst == "pass" and "inconclusive" in words:
        worst = "inconclusive"
    fields: dict[str, Any] = {
        "name": "reviews",
        "created": (START + timedelta(hours=12 * index)).isoformat(timespec="seconds"),
        "command": "rarefy run reviews.yaml",
        "recipe": "name: reviews\n",
        "task": "text-classification",
        "labels": ["no", "yes"],
        "rows": {"train": 100, "eval": rows},
        "ledger": [],
        "lineage": [],
        "verdict": Verdict(outcome=outcome or worst, budgets=judged, evidence=evidence or []),
        "measurements": measured,
        "machine": machine,
    }
    return ReportData.model_validate(fields | changes)


def asked(
    metric: str,
    form: str,
    limit: float,
    value: float | None,
    spread: float = 0.0,
    **changes: Any,
) -> BudgetResult:
    """A budget's result, judged by whether its interval lies on one side of the limit."""
    low, high = (None, None) if value is None else (value - spread, value + spread)
    outcome: Outcome = "fail"
    if low is not None and high is not None:
        kept, lost = (low >= limit, high < limit) if form[:3] == "min" else (
            high <= limit, low > limit)  # fmt: skip
        outcome = "pass" if kept else "fail" if lost else "inconclusive"
    fields: dict[str, Any] = {
        "metric": metric, "form": form, "limit": limit, "value": value, "low": low, "high": high,
        "outcome": outcome, "reason": f"{metric} is {value}; {form} {limit} was asked",
    }  # fmt: skip
    return BudgetResult.model_validate(fields | changes)
