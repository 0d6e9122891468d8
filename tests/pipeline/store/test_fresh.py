"""A run that trusts no cache computes everything again, and leaves what it made to later runs."""

from __future__ import annotations

from rarefy.pipeline.recipe import recipe as recipes
from rarefy.pipeline.run.engine import Run
from rarefy.pipeline.run.plan.plan import Plan
from rarefy.pipeline.store.fresh import Fresh
from tests.conftest import Workshop, execute

CHAIN = ("quick:Head", "export")


def test_nothing_of_a_poisoned_store_is_believed(workshop: Workshop) -> None:
    """A cache hit that names another artifact, a wrong score and a prepared work folder."""
    first = workshop.run(*CHAIN)
    store = workshop.store
    scored = [dict(step.scores[0]) for step in first.values() if step.scores]
    for path in (store.root / "fingerprints").glob("*.json"):
        path.write_text(f'{{"digest": "{first["model"].artifact.digest}"}}')
    for path in (store.root / "notes").glob("*.json"):
        path.write_text(path.read_text().replace("0.", "1."))
    ran = len(workshop.ran())

    plan = Plan(recipes.load(workshop.recipe(*CHAIN)), Fresh(store.root), threads=1)
    again = execute(Run(plan))
    assert not any(step.cached for step in again.values())
    assert len(workshop.ran()) == ran + 1
    digests = [[step.artifact.digest for step in run.values()] for run in (first, again)]
    assert digests[0] == digests[1]
    assert [dict(step.scores[0]) for step in again.values() if step.scores] == scored

    third = workshop.run(*CHAIN)
    assert all(step.cached for step in third.values())
    assert [step.artifact.digest for step in third.values()] == digests[0]


def test_the_progress_of_an_unfinished_stage_is_not_resumed(workshop: Workshop) -> None:
    prepared = workshop.store.work("a" * 64) / "checkpoint.bin"
    prepared.write_bytes(b"prepared")
    fresh = Fresh(workshop.store.root)
    work = fresh.work("a" * 64)
    assert list(work.iterdir()) == []
    (work / "mine").write_text("mine")
    assert (fresh.work("a" * 64) / "mine").exists(), "its own progress stays"
