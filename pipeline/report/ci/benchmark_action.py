"""The candidate's numbers for github-action-benchmark, which charts them on GitHub Pages.

Its tools ``customSmallerIsBetter`` and ``customBiggerIsBetter`` each read a list of name, unit,
value, range and extra, so the two directions need two files.
"""

from __future__ import annotations

import json
from collections.abc import Sequence

from pipeline.report import facts
from pipeline.report.ci.numbers import Measured, of_candidate, plain, rounded
from pipeline.verdict.record import ReportData

UNITS = {"%": (100.0, "%"), "×": (1.0, "×"), "ms": (1.0, "ms"), "B": (1e-6, "MB"), "": (1.0, "")}


def render(data: ReportData, numbers: Sequence[Measured], bigger: bool) -> str:
    """Return the numbers for which bigger (or, without ``bigger``, smaller) is better, as JSON."""
    row = facts.candidate_row(data)
    about = [f"artifact {row.digest[:12]}"] if row else []
    if "cpu" in data.machine:
        about.append(f"machine {data.machine['cpu']}")
    chosen = [number for number in of_candidate(numbers) if number.bigger_is_better == bigger]
    entries = [_entry(data.name, number, about) for number in chosen]
    return json.dumps(entries, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def _entry(recipe: str, number: Measured, about: list[str]) -> dict[str, str | float]:
    scale, unit = UNITS[number.unit]
    where = f" on {number.target}" if number.target else ""
    entry: dict[str, str | float] = {
        "name": f"{recipe}: {number.metric}{where}",
        "unit": unit or number.metric,
        "value": rounded(number.value * scale),
    }
    extra = list(about)
    if number.low is not None and number.high is not None:
        # The action parses and rescales only "± number", so give the wider side.
        reach = max(number.value - number.low, number.high - number.value) * scale
        entry["range"] = f"± {plain(reach)}"
        low, high = plain(number.low * scale), plain(number.high * scale)
        extra.insert(0, f"95 % interval {low} – {high} {unit}".rstrip())
    return entry | {"extra": "\n".join(extra)}
