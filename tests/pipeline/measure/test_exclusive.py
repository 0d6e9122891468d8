"""One measurement at a time on a machine: threads and processes wait, and say so."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from rarefy.pipeline.measure import exclusive
from rarefy.pipeline.run.plan.plan import Plan
from rarefy.pipeline.stage import Policy
from rarefy.pipeline.terms.errors import ProviderError
from rarefy.stages.prune.profile import Profile
from rarefy.stages.validate import Validate
from tests.conftest import Workshop, execute
from tests.project import Project, Said

HOLD = """
import sys
from rarefy.pipeline.measure import exclusive as alone
with alone.measuring():
    print("measuring", flush=True)
    sys.stdin.read()
"""


@pytest.fixture(autouse=True)
def folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setenv(exclusive.LOCKS, str(tmp_path / "locks"))
    return tmp_path / "locks"


def test_another_process_of_any_project_is_waited_for() -> None:
    other = subprocess.Popen(
        [sys.executable, "-c", HOLD], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert other.stdout is not None
    assert other.stdout.readline() == "measuring\n"
    said: list[str] = []

    def waiting(why: str) -> None:
        said.append(why)
        assert other.stdin is not None
        other.stdin.close()  # and only now does it end

    with exclusive.measuring(waiting):
        assert other.wait(30) == 0
    assert said == [exclusive.WHY]


def test_threads_wait_for_each_other_but_a_thread_not_for_itself() -> None:
    waited, entered = threading.Event(), threading.Event()

    def other() -> None:
        with exclusive.measuring(lambda _: waited.set()):
            entered.set()

    thread = threading.Thread(target=other)
    with exclusive.measuring(), exclusive.measuring():
        thread.start()
        assert waited.wait(30)
        assert not entered.is_set()
    thread.join(30)
    assert entered.is_set()


def test_a_limit_of_the_flow_is_held_around_the_lock(folder: Path) -> None:
    seen: list[str] = []

    @contextlib.contextmanager
    def limit(waiting: exclusive.Waiting) -> Iterator[None]:
        seen.append("limit taken")
        yield
        seen.append("limit released")

    with exclusive.also(limit), exclusive.measuring():
        seen.append("measured")
    with exclusive.measuring():
        seen.append("measured without")
    assert seen == ["limit taken", "measured", "limit released", "measured without"]


def test_the_lock_is_named_for_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(exclusive.MACHINE, "Rack 7.Example")
    assert exclusive.machine() == "rack-7-example"
    assert exclusive.lock_file().name == "measuring-rack-7-example.lock"


def test_a_folder_that_cannot_be_made_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv(exclusive.LOCKS, str(tmp_path / "file" / "locks"))
    with pytest.raises(ProviderError, match=f"{exclusive.LOCKS}$"):
        exclusive.lock_file()


def test_a_lock_that_users_share_is_open_to_them(folder: Path) -> None:
    umask = os.umask(0o077)
    try:
        assert exclusive.lock_file().stat().st_mode & 0o777 == 0o666
    finally:
        os.umask(umask)


def test_a_lock_in_a_sticky_folder_is_its_owner_s_alone(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    exclusive.lock_file()
    monkeypatch.setattr(os, "getuid", lambda: 12345)
    assert exclusive.lock_file().parent == folder
    os.chown(folder, 54321, -1)
    folder.chmod(0o1777)
    with pytest.raises(ProviderError, match=f"{folder} has the sticky bit, .* {exclusive.LOCKS}$"):
        exclusive.lock_file()


def test_a_lock_of_another_user_is_named(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = exclusive.lock_file()
    monkeypatch.setattr(os, "access", lambda given, _: given != path)
    with pytest.raises(ProviderError, match=f"{exclusive.LOCKS}$"):
        exclusive.lock_file()


def test_waiting_for_the_machine_is_no_time_of_the_stage(
    workshop: Workshop, monkeypatch: pytest.MonkeyPatch
) -> None:
    waited = []

    @contextlib.contextmanager
    def slow_limit(_: object) -> Iterator[None]:
        time.sleep(1)
        waited.append(True)
        yield

    run = workshop.open({"quick:Word": {"word": "slow"}})
    monkeypatch.setattr(type(run.plan.stage_of("word")), "policy", Policy(timed=True))
    with exclusive.also(slow_limit):
        assert execute(run)["word"].seconds < 1
    assert waited


@pytest.mark.slow
@pytest.mark.parametrize(
    "words",
    [
        ("validate", "tiny"),
        ("compare", "tiny", "tiny", "--seconds", "1"),
        ("loadtest", "tiny", "--rate", "20", "--seconds", "1"),
        ("run", "tiny.yaml", "--engine", "inline", "--fresh"),
    ],
)
def test_whatever_times_has_the_machine_for_itself(
    here: Project,
    rarefy: Callable[..., Said],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    known_times: None,
    words: tuple[str],
) -> None:
    home = shutil.copytree(here.home, tmp_path / "home")  # other tests know when theirs measured
    monkeypatch.setenv("RAREFY_HOME", str(home))
    taken: list[str] = []

    @contextlib.contextmanager
    def limit(waiting: exclusive.Waiting) -> Iterator[None]:
        taken.append("taken")
        yield

    monkeypatch.chdir(here.folder)
    with exclusive.also(limit):
        said = rarefy(*words)
    assert said.code in (0, 3, 4), said.err
    assert taken, said.err


def test_the_stages_that_time_say_so() -> None:
    assert Profile.policy.timed
    assert Validate.policy.timed


def test_a_stage_that_times_runs_alone_and_its_fingerprint_does_not_know(
    workshop: Workshop, monkeypatch: pytest.MonkeyPatch
) -> None:
    def planned() -> tuple[Plan, str | None]:
        plan = workshop.open({"quick:Word": {"word": "alone"}}).plan
        return plan, plan.steps()[1].fingerprint

    taken: list[str] = []

    @contextlib.contextmanager
    def limit(waiting: exclusive.Waiting) -> Iterator[None]:
        taken.append("taken")
        yield

    with exclusive.also(limit):
        workshop.run({"quick:Word": {"word": "free"}})
        assert taken == []
        plan, before = planned()
        assert before is not None
        monkeypatch.setattr(type(plan.stage_of("word")), "policy", Policy(timed=True))
        assert planned()[1] == before
        workshop.run({"quick:Word": {"word": "alone"}})
    assert taken == ["taken"]


def test_a_file_system_without_locks_is_said_with_the_variable_that_helps(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """``--home``, which helps where the store's locks are, is of no use here."""

    def refused(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSYS, "Function not implemented")

    monkeypatch.setattr("filelock.FileLock.acquire", refused)
    with pytest.raises(ProviderError) as caught, exclusive.measuring():
        pass
    assert "Function not implemented; name a folder on a local disk" in str(caught.value)
    assert exclusive.LOCKS in str(caught.value)
    assert "--home" not in str(caught.value)
