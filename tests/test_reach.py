"""Every family goes through every technique that the page on models does not reject for it."""

from __future__ import annotations

import pytest

from benchmarks import reach
from benchmarks.reach import Cell, Trial
from rarefy.pipeline.model.architectures.families import ARCHITECTURES
from tests.breadth import broad
from tests.families import FAMILIES, write_family


@pytest.mark.slow
@pytest.mark.parametrize("family", broad(FAMILIES, "deberta-v3", "llama"))
def test_every_cell_of_a_family_is_what_the_documentation_says(family, tmp_path):
    write_family(tmp_path / "model", family)
    cells = reach.chain(Trial("model", tmp_path))
    assert tuple(cells) == reach.CELLS
    assert reach.as_expected(family, cells) == []


def test_every_described_family_has_a_tiny_model():
    kinds = {kind for kind, *_ in FAMILIES.values()}
    assert set(ARCHITECTURES) <= kinds
    assert kinds - set(ARCHITECTURES) == set(reach.UNDESCRIBED)


def test_a_cell_that_deviates_is_named():
    yes, no = Cell(yes=True), Cell(yes=False, reason="of type llama are not described")
    assert reach.as_expected("llama", {"prune heads": no, "LoRA": yes}) == []
    assert reach.as_expected("bert", {"prune heads": no}) == [f"bert, prune heads: {no.reason}"]
    assert reach.as_expected("llama", {"prune heads": yes}) == ["llama, prune heads: yes"]
    other = Cell(yes=False, reason="out of memory")
    assert reach.as_expected("llama", {"prune heads": other}) != []
