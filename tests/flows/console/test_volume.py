"""How much commands say: the options stand before a command's name or after it."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.project import Project, Said


@pytest.mark.parametrize("flag", ["-v", "--verbose"])
@pytest.mark.parametrize(
    "arguments",
    [
        ("{}", "plan", "missing.yaml"),
        ("plan", "{}", "missing.yaml"),
        ("plan", "missing.yaml", "{}"),
        ("{}", "artifact", "show", "missing"),
        ("artifact", "{}", "show", "missing"),
        ("artifact", "show", "missing", "{}"),
    ],
    ids=" ".join,
)
def test_verbose_shows_the_traceback_wherever_it_stands(
    project: Project, rarefy: Callable[..., Said], arguments: tuple[str, ...], flag: str
) -> None:
    said = rarefy(*(word.format(flag) for word in arguments))
    assert said.code == 2
    assert "Traceback" in said.err


@pytest.mark.parametrize("before", [True, False])
def test_a_quiet_run_prints_its_verdict_alone(
    trained_project: Project, rarefy: Callable[..., Said], before: bool
) -> None:
    recipe = trained_project.recipe("quickstages:Head", "quickstages:Judge")
    words = ["run", recipe, "--engine", "inline"]
    words.insert(0 if before else len(words), "--quiet")
    said = rarefy(*words)
    assert (said.code, said.out) == (0, "verdict: none (no budgets)\n")
    assert said.err == ""


def test_a_quiet_error_is_still_said(project: Project, rarefy: Callable[..., Said]) -> None:
    said = rarefy("plan", "missing.yaml", "-q")
    assert said.code == 2
    assert said.err == "rarefy: missing.yaml: no such recipe\n"
