"""The Prefect flow and the inline engine give the same results and messages."""

from __future__ import annotations

import pytest

from flows import compress
from pipeline.recipe import recipe as recipes
from pipeline.terms.errors import ModelError
from tests.flows.runs import job
from tests.project import Project


def test_inline_passes_our_errors_on(project: Project) -> None:
    recipe = project.recipe("quickstages:Head", "quickstages:Break")
    with pytest.raises(ModelError, match=r"^break: the weights are made of cheese$"):
        compress.run(job(project, recipe), recipes.load(recipe), "inline")
