"""Every stage of the examples has a workload, or is known to have none."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

import pytest

from rarefy.flows import workloads
from rarefy.pipeline.recipe import recipe as recipes
from rarefy.stages.quantize import Quantize

EXAMPLES = sorted((Path(__file__).parents[2] / "examples").glob("*.yaml"))
WITHOUT = {"inject", "bag_of_tokens"}


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_the_stages_of_an_example_can_be_estimated(path: Path) -> None:
    rows = defaultdict(lambda: 1000.0)
    for step in recipes.load(path).steps:
        rows[step.id] = 1000.0
        workload = workloads.workload(step.stage, rows)
        assert (workload is None) == (step.stage.name in WITHOUT), step.stage.name


def test_a_search_takes_its_time() -> None:
    workload = workloads.workload(Quantize(mode="search", seconds=90), {"train": 100.0})
    assert workload is not None
    assert workload.seconds == 90
