"""A sweep's folder: one sweep, one coordinator, the same threads and device."""

from __future__ import annotations

import pytest

from rarefy.flows.sweep.job import STUDY, Job
from rarefy.pipeline.sweep.branch import Branch, Folder
from rarefy.pipeline.terms.errors import RecipeError
from tests.flows import sweeps
from tests.flows.sweeps import job
from tests.project import Project


def begin(started: Job) -> None:
    """Note a branch in a sweep's folder."""
    Folder(started.out).write(Branch(name="note-a", values={"head.note": "a"}))


def test_the_threads_of_a_sweep_stay_as_it_began(project: Project) -> None:
    path = sweeps.write(project)
    begin(job(project, path, threads=2).opened(None))
    assert job(project, path).opened(None).threads == 2
    with pytest.raises(RecipeError, match="began with threads 2; give the same"):
        job(project, path).opened(3)
    with pytest.raises(RecipeError, match="began with device cpu; give"):
        job(project, path, device="cuda").opened(None)


def test_a_folder_of_other_values_is_refused(project: Project) -> None:
    begin(job(project, sweeps.write(project)).opened(None))
    with pytest.raises(RecipeError, match="began with sweep file"):
        job(project, sweeps.write(project, "head.note: [c, d]")).opened(None)


def test_a_sweep_that_was_edited_before_a_branch_began_starts_anew(project: Project) -> None:
    first = job(project, sweeps.write(project), threads=2).opened(None)
    (first.out / STUDY).write_text("of other fields")
    other = job(project, sweeps.write(project, "head.note: [c, d]"), threads=3).opened(None)
    assert other.threads == 3
    assert not (other.out / STUDY).exists()
    begin(other)
    (other.out / STUDY).write_text("of these fields")
    assert other.opened(None).threads == 3
    assert (other.out / STUDY).exists()


def test_only_one_coordinator_at_a_time_has_a_folder(project: Project) -> None:
    path = sweeps.write(project)
    one, other = job(project, path), job(project, path)
    with one.held():
        with pytest.raises(RecipeError) as raised, other.held():
            pytest.fail("two at once")
        assert str(raised.value).startswith(f"{one.out}: this sweep is already running; wait")
    with other.held():
        pass


@pytest.mark.parametrize("place", ["tiny.yaml/x", "tiny.yaml"])
def test_a_folder_that_cannot_be_is_one_line(project: Project, place: str) -> None:
    path = sweeps.write(project)
    one = job(project, path, out=project.folder / place)
    with pytest.raises(RecipeError, match=r"tiny\.yaml.*: cannot be written"), one.held():
        pytest.fail("there is a file")


def test_looking_creates_nothing_and_refuses_what_running_would(project: Project) -> None:
    path = sweeps.write(project)
    assert job(project, path, threads=3).settled(3).threads == 3
    assert not (project.home / "sweeps").exists()
    begin(job(project, path, threads=2).opened(None))
    assert job(project, path).settled(None).threads == 2
    with pytest.raises(RecipeError, match="began with threads 2"):
        job(project, path).settled(3)
    with pytest.raises(RecipeError, match="began with device cpu"):
        job(project, path, device="cuda").settled(None)
