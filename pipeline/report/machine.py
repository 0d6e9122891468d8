"""The machine's facts in words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from rarefy.pipeline.measure.machine import flat
from rarefy.pipeline.report import wording

TITLES: Final = {
    "cpu": "CPU",
    "cores": "Cores",
    "flags": "Instruction sets",
    "memory_gib": "Memory",
    "gpus": "GPU",
    "gpus in use": "GPUs in use",
    "gpu_driver": "GPU driver",
    "system": "System",
    "python": "Python",
    "libraries": "Libraries",
    "providers": "Execution providers",
}
"""Fact -> its title, in the order of the page."""
LONGEST: Final = 300


def words(facts: Mapping[str, Any]) -> dict[str, str]:
    """Return title -> text; facts that are empty are left out, unknown ones come last."""
    known = [name for name in TITLES if name in facts]
    others = [name for name in facts if name not in TITLES]
    lines = {}
    for name in (*known, *others):
        text = _text(name, facts[name])
        if text:
            title = TITLES.get(name, name)
            lines[title] = wording.shorten(text, LONGEST)
    return lines


def _text(name: str, value: Any) -> str:
    if name == "cores" and isinstance(value, dict):
        return _cores(value)
    if name == "memory_gib":
        return f"{value} GiB"
    if name == "gpus" and not value:
        return "none"
    if value in (None, "", [], {}):
        return ""
    separator = " "
    if name not in TITLES:
        separator = ": "
    parts = flat({name: value})
    prefix = f"{name}."
    shown = []
    for key, text in parts.items():
        if key == name:
            shown.append(text)
        else:
            shown.append(f"{key.removeprefix(prefix)}{separator}{text}")
    return ", ".join(shown)


def _cores(counts: Mapping[str, Any]) -> str:
    """Return ``2 physical, 4 logical, at most 1.5 by quota``."""
    parts = []
    for kind in ("physical", "logical", "fastest"):
        if counts.get(kind):
            parts.append(f"{counts[kind]} {kind}")
    quota = counts.get("quota")
    if quota:
        parts.append(f"quota {quota}")
    return ", ".join(parts)
