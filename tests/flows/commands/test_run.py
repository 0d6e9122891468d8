"""``rarefy run``: from a recipe to a verdict."""

from __future__ import annotations

from collections.abc import Callable

from tests.project import Project, Said


def test_run_inline_prints_only_the_verdict(project: Project, rarefy: Callable[..., Said]) -> None:
    recipe = project.recipe("quickstages:Head")
    out = project.folder / "out"
    said = rarefy("run", recipe, "--engine", "inline", "--out", out)
    assert (said.code, said.out) == (0, "verdict: none (no validate stage)\n")
    assert "head" in said.err
    assert (out / "report.html").is_file()
