"""The candidate's numbers for services that chart them: Bencher and github-action-benchmark."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Final

from pipeline.report import facts
from pipeline.report.ci.numbers import Measured, of_candidate, plain, rounded
from pipeline.verdict.record import ReportData

BENCHER_SUFFIXES: Final = {"ms": "-ms", "B": "-bytes"}
ACTION_UNITS: Final = {
    "%": (100.0, "%"),
    "×": (1.0, "×"),
    "ms": (1.0, "ms"),
    "B": (1e-6, "MB"),
    "": (1.0, ""),
}
"""Unit -> the factor to the unit that is shown, and its name."""


def bencher(data: ReportData, numbers: Sequence[Measured]) -> str:
    """Return benchmark -> measure -> value with its bounds, in Bencher's Metric Format, as JSON.

    A benchmark is the recipe, or the recipe on a target. A measure's name ends with its unit:
    ``latency-p50-ms``, ``size-bytes``; ``accuracy`` is a share. See bencher.dev/docs/reference.
    """
    benchmarks: dict[str, dict[str, dict[str, float]]] = {}
    for number in of_candidate(numbers):
        benchmark = data.name
        if number.target:
            benchmark += f" on {number.target}"
        suffix = BENCHER_SUFFIXES.get(number.unit, "")
        measure = number.metric.replace("_", "-") + suffix
        values = {"value": rounded(number.value)}
        if number.low is not None and number.high is not None:
            values["lower_value"] = rounded(number.low)
            values["upper_value"] = rounded(number.high)
        benchmarks.setdefault(benchmark, {})[measure] = values
    text = json.dumps(benchmarks, indent=1, allow_nan=False)
    return f"{text}\n"


def benchmark_action(data: ReportData, numbers: Sequence[Measured], bigger: bool) -> str:
    """Return the numbers for which bigger (or, without ``bigger``, smaller) is better, as JSON.

    The action's tools ``customSmallerIsBetter`` and ``customBiggerIsBetter`` each read a list of
    name, unit, value, range and extra, so the two directions need two files.
    """
    row = facts.candidate_row(data)
    origin = []
    if row:
        origin = [f"artifact {row.digest[:12]}"]
    if "cpu" in data.machine:
        origin.append(f"machine {data.machine['cpu']}")
    entries = []
    for number in of_candidate(numbers):
        if number.bigger_is_better == bigger:
            entries.append(_entry(data.name, number, origin))
    text = json.dumps(entries, indent=1, ensure_ascii=False, allow_nan=False)
    return f"{text}\n"


def _entry(recipe: str, number: Measured, origin: list[str]) -> dict[str, str | float]:
    scale, unit = ACTION_UNITS[number.unit]
    name = f"{recipe}: {number.metric}"
    if number.target:
        name += f" on {number.target}"
    entry: dict[str, str | float] = {"name": name}
    entry["unit"] = unit or number.metric
    entry["value"] = rounded(number.value * scale)
    extra = list(origin)
    if number.low is not None and number.high is not None:
        # The action parses and rescales only "± number", so give the wider side.
        below = number.value - number.low
        above = number.high - number.value
        reach = max(below, above) * scale
        entry["range"] = f"± {plain(reach)}"
        low = plain(number.low * scale)
        high = plain(number.high * scale)
        interval = f"95 % interval {low} – {high} {unit}"
        extra.insert(0, interval.rstrip())
    entry["extra"] = "\n".join(extra)
    return entry
