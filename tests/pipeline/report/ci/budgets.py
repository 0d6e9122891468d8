"""Ten budgets covering every outcome."""

from __future__ import annotations

import math
from typing import Any

from rarefy.pipeline.verdict.record import ReportData
from rarefy.pipeline.verdict.verdict import BudgetResult, Verdict
from tests.pipeline.report.factory import report_data

BUDGETS = [
    # metric, form, limit, against, target, level, outcome, value, bounds
    ("accuracy", "max_drop", 0.01, "production", None, "error", "pass", 0.001, (-0.002, 0.004)),
    ("accuracy", "max_drop", 0.002, "production", None, "error", "inconclusive", 0.001, (0, 0.004)),
    ("latency_p50", "min_speedup", 5, "teacher", "cpu", "error", "pass", 6.1, (5.9, 6.3)),
    ("latency_p50", "min_speedup", 9, "teacher", "cpu-all", "error", "fail", 6.1, (5.9, 6.3)),
    ("latency_p99", "max", 1.6, None, "cpu-all", "error", "inconclusive", None, None),
    ("latency_p95", "max", 1.6, None, "cpu", "warn", "inconclusive", 1.58, (1.52, 1.66)),
    ("size", "max", 1e6, None, None, "warn", "fail", 15.4e6, (15.4e6, 15.4e6)),
    ("memory", "max", 1e9, None, None, "error", "fail", None, None),
    ("macro_f1", "min", 0.5, None, None, "error", "fail", math.nan, (math.nan, math.nan)),
    ("ece", "max", 0.5, None, None, "error", "pass", 0.1, (0.05, math.inf)),
]
COLUMNS = ("metric", "form", "limit", "against", "target", "level", "outcome", "value")
HOSTILE = 'a <b> & "c" \\ #1 |\r\n]]> \x00\x1b[31m \ud800 %0A ::error::x'


def budgets() -> list[BudgetResult]:
    found = []
    for *row, bounds in BUDGETS:
        values: dict[str, Any] = dict(zip(COLUMNS, row, strict=True))
        low, high = bounds or (None, None)
        reason = f"{values['metric']} {values['form']}: a reason"
        found.append(BudgetResult(**values, low=low, high=high, reason=reason))
    return found


def ten(**changes: Any) -> ReportData:
    fields = {"outcome": "fail", "budgets": budgets()} | changes
    return report_data(verdict=Verdict(**fields))
