"""A sweep's folder: one sweep, one coordinator, the same threads and device."""

from __future__ import annotations

import os

import pytest

from flows import sweep_job
from pipeline.sweep.branch import Branch, Folder
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


def test_a_second_coordinator_is_told_who_is_at_work(project: Project) -> None:
    path = sweeps.write(project)
    one, other = job(project, path), job(project, path)
    with one.held():
        with pytest.raises(RecipeError) as raised, other.held():
            pytest.fail("two at once")
        said = f"{one.out}: this sweep runs already, as process {os.getpid()} on "
        assert str(raised.value).startswith(said)
    with other.held():
        pass


def test_what_a_killed_coordinator_left_behind_hinders_nobody(project: Project) -> None:
    one = job(project, sweeps.write(project))
    one.out.mkdir(parents=True)
    (one.out / sweep_job.HOLDER).write_text('{"by": "process 1 on nowhere"}')
    with one.held():
        pass


@pytest.mark.parametrize("place", ["tiny.yaml/x", "tiny.yaml"])
def test_a_folder_that_cannot_be_is_one_line(project: Project, place: str) -> None:
    path = sweeps.write(project)
    one = job(project, path, out=project.folder / place)
    with pytest.raises(RecipeError, match=r"tiny\.yaml.*: cannot make this folder"), one.held():
        pytest.fail("there is a file")


def test_looking_creates_nothing_and_refuses_what_running_would(project: Project) -> None:
    path = sweeps.write(project)
    assert job(project, path, threads=3).settled(3).threads == 3
    assert not (project.home / "sweeps").exists()
    job(project, path, threads=2).opened(None)
    assert job(project, path).settled(None).threads == 2
    with pytest.raises(RecipeError, match="began with 2 threads"):
        job(project, path).settled(3)
    with pytest.raises(RecipeError, match="began on cpu"):
        job(project, path, device="cuda").settled(None)
    path = sweeps.write(project, "head.note: [a]")
    assert job(project, path, threads=3).settled(3).threads == 3, "edited before a branch began"
    job(project, path).opened(None)
    Folder(job(project, path).out).keep(Branch(name="note-a", values={"head.note": "a"}))
    with pytest.raises(RecipeError, match="has the branches of another sweep"):
        job(project, sweeps.write(project, "head.note: [c, d]")).settled(None)
