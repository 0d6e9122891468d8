"""``rarefy validate``: a bundle is measured again and judged."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from tests.project import Project, Said, bundle_digest


@pytest.mark.slow
def test_validate_measures_again_and_judges(
    here: Project, rarefy: Callable[..., Said], known_times: None
) -> None:
    said = rarefy("validate", "tiny")
    assert (said.code, said.out) == (0, "verdict: pass\n")
    assert "max_drop" in said.err
    hard = here.folder / "hard.yaml"
    text = (here.folder / "tiny.yaml").read_text().replace("max: 1000000", "max: 10")
    hard.write_text(text)
    missed = rarefy("validate", bundle_digest(here), "--recipe", hard, "--json")
    assert missed.code == 3
    outcomes = [budget["outcome"] for budget in json.loads(missed.out)["budgets"]]
    assert outcomes == ["pass", "fail"]
    first = here.folder / "first.yaml"
    budget = "  - {metric: size, max_regression: 5 %, against: production}\n"
    first.write_text((here.folder / "tiny.yaml").read_text() + budget)
    said = rarefy("validate", "tiny", "--recipe", first, "--first")
    assert said.code == 0
    loud = "first release: nothing was compared with production, which does not exist yet"
    assert said.out == f"verdict: pass ({loud})\n"
