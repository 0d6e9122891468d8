"""Find the recipe that made a run."""

from __future__ import annotations

from collections.abc import Callable

from tests.project import Project, Said, bundle_digest


def test_validate_of_a_folder_asks_for_the_recipe(
    here: Project, rarefy: Callable[..., Said]
) -> None:
    said = rarefy("validate", bundle_digest(here))
    assert said.code == 2
    assert "--recipe" in said.err
