"""Readings of a metric over verdicts, as the trend figure receives them."""

from __future__ import annotations

from typing import Any

from rarefy.pipeline.report.figures.trend import Column
from rarefy.pipeline.verdict.history_numbers import Key, Machine, Past, Reading

LATENCY = Key("latency_p50", "cpu")


def past(machine: str = "a", **changes: Any) -> Past:
    fields: dict[str, Any] = {
        "id": 1, "time": "2025-03-03T09:30:00+00:00", "recipe": "r", "command": "", "bundle": None,
        "outcome": "pass", "evidence": [], "commit": None, "machine": Machine(machine, {}),
        "again": False,
    }  # fmt: skip
    return Past(**fields | changes)


def reading(value: float | None, **changes: Any) -> Reading:
    low, high = (None, None) if value is None else (value * 0.98, value * 1.02)
    return Reading(value, low, high, **changes)


def columns(*values: float | None, machines: str | None = None) -> list[Column]:
    letters = machines or "A" * len(values)
    return [
        Column(past(letter), letter, reading(value))
        for value, letter in zip(values, letters, strict=True)
    ]
