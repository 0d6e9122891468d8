"""``rarefy plan``: what would run, and what it will need."""

from __future__ import annotations

from collections.abc import Callable

from tests.project import Project, Said


def test_plan_says_what_the_gate_will_need(project: Project, rarefy: Callable[..., Said]) -> None:
    recipe = project.recipe("quickstages:Head", "quickstages:Judge")
    assert rarefy("plan", recipe, "--baseline", "production").code == 2
    planned = rarefy("plan", recipe, "--baseline", "production", "--first")
    assert planned.code == 0
    assert "there is no 'production' yet" in planned.out
