"""A sweep's folder: one sweep, one coordinator, the same threads and device."""

from __future__ import annotations

import pytest

from pipeline.terms.errors import RecipeError
from tests.flows import sweeps
from tests.flows.sweeps import job
from tests.project import Project


def test_the_threads_of_a_sweep_stay_as_it_began(project: Project) -> None:
    path = sweeps.write(project)
    assert job(project, path, threads=2).opened(None).threads == 2
    assert job(project, path).opened(None).threads == 2
    with pytest.raises(RecipeError, match="began with 2 threads a branch; leave out"):
        job(project, path).opened(3)
    with pytest.raises(RecipeError, match="began on cpu; give --device cpu"):
        job(project, path, device="cuda").opened(None)
