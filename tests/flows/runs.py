"""A job of a project, run as a flow or inline."""

from __future__ import annotations

from pathlib import Path

from rarefy.flows.run.job import Job
from tests.project import Project

PASSES = "budgets:\n  - {metric: accuracy, min: 50 %}\n"


def job(project: Project, recipe: Path) -> Job:
    return Job(
        recipe=str(recipe),
        home=str(project.home),
        out=str(project.home / "runs" / "tiny"),
        device="cpu",
        threads=1,
        command="rarefy run tiny.yaml",
    )
