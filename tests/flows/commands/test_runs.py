"""`rarefy runs`: what ran here, what is running, its log, its end and its going on."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from rarefy.flows.cli import main
from rarefy.pipeline.run.logbook import Logbook
from rarefy.pipeline.store.home import Home
from tests.flows.runs import PASSES
from tests.project import Project

Call = Callable[..., tuple[int, str, str]]
NAMES = ("tiny", "newer")
"""Of a recipe, before it was renamed and after."""


@pytest.fixture
def project(trained_project: Project) -> Project:
    """A project whose model is in the store, trained: no process has to load PyTorch for it."""
    return trained_project


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str]) -> Call:
    def run(*arguments: str) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as ended:
            main([*map(str, arguments)])
        said = capsys.readouterr()
        return int(ended.value.code or 0), said.out, said.err

    return run


def inline(recipe: Path) -> tuple[str, ...]:
    return ("run", str(recipe), "--engine", "inline", "--device", "cpu")


IN_PYTHON = """
import os
import rarefy
data = {"train": "train.jsonl", "eval": "eval.jsonl"}
stages = ["quickstages:Head", "sleepstages:Sleep"]
recipe = rarefy.Recipe("tiny", model="encoder", data=data, stages=stages)
rarefy.run(recipe, home=os.environ["RAREFY_HOME"], device="cpu")
"""


SLEEPS = """
import time
from quickstages import Judge
class Sleep(Judge):
    name = 'sleep'
    def run(self, context, model):
        context.progress(1, 2, 'half asleep')
        time.sleep(0 if (context.work / 'slept').exists() else 60)
        return super().run(context, model)
"""
LOSES_AN_INTERRUPT = """
import time
from pathlib import Path
from quickstages import Judge
class Finalized:
    def __del__(self):
        Path('finalizing').touch()
        time.sleep(30)
class Sleep(Judge):
    name = 'sleep'
    def run(self, context, model):
        Finalized()
        time.sleep(60)
"""
"""Python ignores what is raised in a finalizer, an interrupt too."""


@contextmanager
def running(
    project: Project, program: str | None = None, stages: str = SLEEPS
) -> Iterator[subprocess.Popen[bytes]]:
    """A run, in a process of its own, of a recipe whose second stage sleeps."""
    (project.folder / "modules" / "sleepstages.py").write_text(stages)
    recipe = project.recipe("quickstages:Head", "sleepstages:Sleep", budgets=PASSES)
    command = ["-c", program] if program else ["-m", "rarefy", *inline(recipe)]
    process = subprocess.Popen(
        [sys.executable, *command],
        cwd=project.folder,
        env={**os.environ, "PYTHONPATH": f"{Path.cwd()}:{os.environ['PYTHONPATH']}"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    try:
        book, deadline = Logbook(Home(project.home)), time.monotonic() + 120
        while not any(each.step == "sleep" for each in book.entries()):
            assert process.poll() is None, process.stderr and process.stderr.read().decode()
            assert time.monotonic() < deadline
            time.sleep(0.1)
        yield process
    finally:
        process.kill()
        process.wait()


def listed(call: Call) -> list[dict[str, Any]]:
    code, out, _ = call("runs", "ls", "--json")
    assert code == 0
    found: list[dict[str, Any]] = json.loads(out)
    return found


def test_a_run_is_listed_with_its_verdict_and_its_log(call: Call, project: Project) -> None:
    recipe = project.recipe("quickstages:Head", "quickstages:Judge", budgets=PASSES)
    assert call(*inline(recipe))[0] == 0
    (entry,) = listed(call)
    assert (entry["name"], entry["state"], entry["total"]) == ("tiny", "pass", 3)
    assert [step["id"] for step in entry["steps"]] == ["model", "head", "judge"]
    code, out, _ = call("runs", "logs", "tiny")
    assert code == 0
    assert "accuracy" in out
    assert out.rstrip().endswith("verdict: pass")
    code, out, _ = call("runs", "show", entry["id"][:8])
    assert code == 0
    assert str(recipe) in out
    assert str(project.home / "runs" / "tiny") in out


def test_an_error_is_recorded(call: Call, project: Project) -> None:
    recipe = project.recipe("quickstages:Head", "quickstages:Judge")
    (project.folder / "eval.jsonl").write_text("{}\n")
    assert call(*inline(recipe))[0] == 2
    (entry,) = listed(call)
    assert entry["state"] == "error"
    assert "eval.jsonl" in entry["message"]
    assert "eval.jsonl" in call("runs", "logs", "tiny")[1]


@pytest.mark.slow
def test_a_run_in_another_process_is_followed_cancelled_and_resumed(
    call: Call, project: Project
) -> None:
    with running(project) as process:
        (entry,) = listed(call)
        assert (entry["state"], entry["step"], len(entry["steps"])) == ("running", "sleep", 2)
        assert "is still running" in call("runs", "resume", "tiny")[2]
        code, out, _ = call("runs", "cancel", "tiny")
        assert code == 0
        assert "cancelled" in out
        assert process.wait(30) == 130
    (entry,) = listed(call)
    assert entry["state"] == "interrupted"
    assert "is not running: interrupted" in call("runs", "cancel", "tiny")[2]
    for work in (project.home / "store" / "work").iterdir():
        (work / "slept").touch()
    code, _, err = call("runs", "resume", "tiny")
    assert code == 0, err
    latest, first = listed(call)
    assert (code, latest["state"], first["id"]) == (0, "pass", entry["id"])
    assert [step["cached"] for step in latest["steps"]] == [True, True, False]


@pytest.mark.slow
def test_a_run_made_in_python_is_gone_on_with_there(call: Call, project: Project) -> None:
    with running(project, IN_PYTHON) as process:
        (entry,) = listed(call)
        code, out, _ = call("runs", "cancel", "tiny")
        assert code == 0
        assert out.startswith(
            f"cancelled {entry['id']}; call rarefy.run(recipe) in Python to resume"
        )
        process.wait(30)
    code, _, err = call("runs", "resume", "tiny")
    assert code == 2
    assert "built in Python; call rarefy.run(recipe) in Python to resume" in err
    assert "recipe    recipe 'tiny'" in call("runs", "show", "tiny")[1]


@pytest.mark.slow
def test_an_interrupt_that_python_lost_is_sent_again(
    call: Call, project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rarefy.flows.commands.runs.AGAIN", 1.0)
    with running(project, stages=LOSES_AN_INTERRUPT) as process:
        while not (project.folder / "finalizing").exists():
            assert process.poll() is None
            time.sleep(0.05)
        code, out, err = call("runs", "cancel", "tiny")
        assert code == 0, err
        assert "cancelled" in out
        assert process.wait(30) == 130
        assert process.stderr is not None
        assert b"Exception ignored" in process.stderr.read()


UNDECIDED = "budgets:\n  - {metric: accuracy, min: 95 %}\n"
"""Twenty right answers do not show it."""


@pytest.mark.parametrize(("given", "code"), [((), 4), (("--lenient",), 0)])
def test_a_gate_that_was_stopped_goes_on_as_a_gate(
    call: Call, project: Project, monkeypatch: pytest.MonkeyPatch, given: tuple[str, ...], code: int
) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    recipe = project.recipe("quickstages:Head", "quickstages:Judge", budgets=UNDECIDED)
    out, options = project.folder / "out", inline(recipe)[1:]
    with monkeypatch.context() as patch:
        patch.setattr("rarefy.flows.run.job.run_inline", interrupted)
        assert call("ci", *options, "--out", str(out), *given)[0] == 130
    assert "the run was stopped" in (out / "junit.xml").read_text()
    assert call("runs", "resume", "tiny")[0] == code
    assert "the run was stopped" not in (out / "junit.xml").read_text()
    assert json.loads((out / "verdict.json").read_text())["outcome"] == "inconclusive"


def test_a_strict_run_goes_on_strictly(call: Call, project: Project) -> None:
    recipe = project.recipe("quickstages:Head", "quickstages:Judge", budgets=UNDECIDED)
    assert call(*inline(recipe))[0] == 0
    assert call("runs", "resume", "tiny")[0] == 0
    assert call(*inline(recipe), "--strict")[0] == 4
    assert call("runs", "resume", "tiny")[0] == 4


def test_a_recipe_with_a_new_name_goes_on_in_the_folder_of_that_name(
    call: Call, project: Project
) -> None:
    recipe = project.recipe("quickstages:Head")
    assert call(*inline(recipe))[0] == 0
    recipe.write_text(recipe.read_text().replace("name: tiny", "name: newer"))
    assert call("runs", "resume", "tiny")[0] == 0
    runs = Home(project.home).runs
    names = {each: json.loads((runs / each / "run.json").read_text())["name"] for each in NAMES}
    assert names == {each: each for each in NAMES}


def test_ctrl_c_ends_the_following_of_a_log_and_says_nothing_of_the_run(
    call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Logbook, "follow", interrupted)
    with Logbook(Home(tmp_path)).writing("tiny", "inline", {}, 3):
        said = call("runs", "logs", "tiny", "--follow", "--home", str(tmp_path))
    assert said == (130, "", "")


@pytest.mark.slow
def test_a_killed_run_is_known_to_be_dead(call: Call, project: Project) -> None:
    with running(project) as process:
        process.send_signal(signal.SIGKILL)
        process.wait()
        (entry,) = listed(call)
    assert (entry["state"], entry["step"]) == ("killed", "sleep")
    assert entry["ended"] is not None


def test_a_run_of_another_user_is_theirs_to_cancel(
    call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def denied(*_: object) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "kill", denied)
    with Logbook(Home(tmp_path)).writing("tiny", "inline", {}, 3):
        code, _, err = call("runs", "cancel", "tiny", "--home", str(tmp_path))
    assert code == 5
    assert err.endswith(f"process {os.getpid()} belongs to another user, who can cancel it\n")


def test_a_run_of_another_container_of_this_name_is_cancelled_there(
    call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its process's number is another's here."""
    monkeypatch.setattr(os, "kill", lambda *_: pytest.fail("another process was ended"))
    with Logbook(Home(tmp_path)).writing("tiny", "inline", {}, 3) as page:
        page.update(space="another boot pid:[4026532178]")
        code, _, err = call("runs", "cancel", "tiny", "--home", str(tmp_path))
    assert code == 2
    assert err.endswith(f"another machine named {page.entry.host}: cancel it there\n")


def test_a_run_that_ends_before_it_is_cancelled_has_ended(
    call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with ExitStack() as run:
        page = run.enter_context(Logbook(Home(tmp_path)).writing("tiny", "inline", {}, 3))

        def too_late(*_: object) -> None:
            page.update(state="pass")
            run.close()
            raise ProcessLookupError

        monkeypatch.setattr(os, "kill", too_late)
        code, _, err = call("runs", "cancel", "tiny", "--home", str(tmp_path))
    assert code == 2
    assert err.endswith(f"{page.entry.id} is not running: pass\n")


def test_a_run_that_comes_to_its_end_all_the_same_is_not_called_cancelled(
    call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with ExitStack() as run:
        page = run.enter_context(Logbook(Home(tmp_path)).writing("tiny", "inline", {}, 3))

        def passes(*_: object) -> None:
            page.update(state="pass")
            run.close()

        monkeypatch.setattr(os, "kill", passes)
        code, out, _ = call("runs", "cancel", "tiny", "--home", str(tmp_path))
    assert (code, out) == (0, f"{page.entry.id} had already ended: pass\n")


@pytest.mark.parametrize("command", ["show", "logs", "cancel", "resume"])
def test_a_run_that_does_not_exist(call: Call, project: Project, command: str) -> None:
    code, _, err = call("runs", command, "nothing")
    assert code == 2
    assert "nothing: no such run" in err


def test_a_log_as_json_and_one_that_is_gone(call: Call, project: Project) -> None:
    recipe = project.recipe("quickstages:Head", "quickstages:Judge", budgets=PASSES)
    assert call(*inline(recipe))[0] == 0
    found = json.loads(call("runs", "logs", "tiny", "--json")[1])
    assert found["lines"][-1].endswith("verdict: pass")
    assert "exclude each other" in call("runs", "logs", "tiny", "--json", "--follow")[2]
    Path(found["path"]).unlink()
    code, _, err = call("runs", "logs", "tiny")
    assert code == 2
    assert "its log is gone" in err


def test_an_empty_home_has_no_runs(call: Call, project: Project) -> None:
    code, _, err = call("runs", "ls")
    assert code == 0
    assert "no runs" in err


def test_an_entry_that_cannot_be_read_is_noted_and_keeps_no_other_from_being_listed(
    call: Call, project: Project
) -> None:
    with Logbook(Home(project.home)).writing("tiny", "inline", {}, 1):
        pass
    (project.home / "logs" / "old-20250101-000000-abcd.json").write_text("{")
    code, out, err = call("runs", "ls", "--json")
    assert (code, [each["name"] for each in json.loads(out)]) == (0, ["tiny"])
    assert "old-20250101-000000-abcd.json: the file is damaged; delete it" in err
    assert call("runs", "logs", "tiny")[0] == 0
    assert call("runs", "logs", "old")[0] == 6
