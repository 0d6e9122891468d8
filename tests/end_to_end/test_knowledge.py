"""The recipe of docs/how-to/inject-knowledge.md runs, from facts to a verdict."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from tests.conftest import Workshop

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "inject-knowledge.md"


@pytest.mark.slow
def test_the_recipe_of_the_page_runs(workshop: Workshop, known_times: None) -> None:
    page = PAGE.read_text()
    facts, recipe = re.findall(r"```\w*\n(.*?)```", page, re.DOTALL)[:2]
    (workshop.folder / "facts.tsv").write_text(facts)
    values = yaml.safe_load(recipe)
    *stages, validate = values["stages"]
    validate["validate"] |= {"processes": 2, "seconds": 1, "cold_starts": 0, "memory": False}
    inject = stages[0]["inject"] | {"held_out": 0.4}
    finished = workshop.run({"inject": inject}, *stages[1:], validate)
    names = {metric.name for metric in finished["inject"].artifact.manifest.metrics}
    told = set(re.findall(r"`(\w+_mrr_10|\w+_hits_10|neighbours_retained)`", page))
    assert told <= names
    assert len(told) == 6
