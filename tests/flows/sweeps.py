"""A tiny sweep, and what its branches are given."""

from __future__ import annotations

import textwrap
from dataclasses import replace
from pathlib import Path
from typing import Any

from rarefy.flows.sweep.branch import Assignment
from rarefy.flows.sweep.job import Job
from rarefy.flows.sweep.workers import Where
from rarefy.pipeline.store.home import Home
from rarefy.pipeline.sweep import file as sweep_file
from rarefy.pipeline.sweep import variants
from rarefy.pipeline.sweep.file import Sweep
from rarefy.pipeline.sweep.variants import Variant
from tests.project import Project

VALIDATE = (
    "validate: {processes: 2, seconds: 1, memory: false, cold_starts: 0, fastest_float: false}"
)
VARY = "quantize.cover: [0.5, 1.0]"
STAGES = ("quickstages:Head", "quantize", "export", VALIDATE)
BUDGETS = "budgets:\n  - {metric: accuracy, min: 10 %}\n"


def write(
    project: Project,
    vary: str = "head.note: [a, b]",
    *more: str,
    stages: tuple[str, ...] = ("quickstages:Head", "export", VALIDATE),
    budgets: str = BUDGETS,
) -> Path:
    """Write a recipe and its sweep; ``more``: further lines of the sweep."""
    project.recipe(*stages, budgets=budgets)
    path = project.folder / "sweep.yaml"
    text = textwrap.dedent(f"""\
        name: trial
        recipe: tiny.yaml
        vary:
          {vary}
        """)
    path.write_text(text + "".join(f"{each}\n" for each in more))
    return path


def load(project: Project, *given: str, **options: Any) -> Sweep:
    return sweep_file.load(write(project, *given, **options))


def assignment(project: Project, sweep: Sweep, one: Variant, **changes: Any) -> dict[str, Any]:
    """Return what a worker on this machine is told of a variant."""
    out = project.home / "sweeps" / "trial"
    out.mkdir(parents=True, exist_ok=True)
    loaded = variants.recipe(sweep, one.values)
    fields: dict[str, Any] = {
        "name": one.name,
        "values": one.values,
        "text": loaded.text,
        "base": loaded.base,
        "home": project.home,
        "folder": out,
        "threads": 1,
        "device": "cpu",
        "stops": sweep.file.stop,
    }
    return Assignment(**(fields | changes)).model_dump(mode="json", by_alias=True)


def job(project: Project, path: Path, **changes: Any) -> Job:
    sweep = sweep_file.load(path)
    out = project.home / "sweeps" / "trial"
    made = Job(sweep, Home(project.home), out, Where("inline"), threads=1, device="cpu")
    return replace(made, **changes)
