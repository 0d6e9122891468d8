"""The shell completes the names of runs, tags and examples, and waits for nothing else."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from click.shell_completion import BashComplete

from rarefy.flows.cli import cli


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home with the runs ``reviews`` and ``mails`` and the tag ``production``."""
    for name in ("reviews", "mails"):
        (tmp_path / "runs" / name).mkdir(parents=True)
    tags = tmp_path / "store" / "tags"
    tags.mkdir(parents=True)
    (tags / "production.json").write_text("{}")
    monkeypatch.setenv("RAREFY_HOME", str(tmp_path))
    return tmp_path


def completed(*words: str, incomplete: str = "") -> list[str]:
    """Return the names that are offered; files, which the shell itself lists, are not."""
    complete = BashComplete(cli, {}, "rarefy", "_RAREFY_COMPLETE")
    items = complete.get_completions(list(words), incomplete)
    return [item.value for item in items if item.type == "plain"]


@pytest.mark.parametrize(
    ("words", "names"),
    [
        (("report",), ["mails", "reviews"]),
        (("runs", "show"), ["mails", "reviews"]),
        (("promote",), ["mails", "reviews"]),
        (("promote", "reviews"), ["production"]),
        (("rollback",), ["production"]),
        (("predict",), ["mails", "production", "reviews"]),
        (("compare", "reviews"), ["mails", "production", "reviews"]),
        (("artifact", "show"), ["mails", "production", "reviews"]),
    ],
)
def test_names_are_completed(home: Path, words: tuple[str, ...], names: list[str]) -> None:
    assert completed(*words) == names
    assert completed(*words, incomplete=names[0][:2]) == names[:1]


def test_a_line_with_a_name_of_before_is_completed() -> None:
    assert "loadtest" in completed("load"), "no error while a line is completed"


def test_examples_are_completed() -> None:
    assert "demo" in completed("recipe", "cp", incomplete="de")


def test_the_home_of_the_command_line_is_looked_into(home: Path, tmp_path: Path) -> None:
    (tmp_path / "other" / "runs" / "mine").mkdir(parents=True)
    assert completed("report", "--home", str(tmp_path / "other")) == ["mine"]


def test_nothing_is_completed_where_nothing_ran(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAREFY_HOME", str(tmp_path / "missing"))
    assert completed("predict") == []
    assert not (tmp_path / "missing").exists()


def test_a_key_press_imports_nothing_slow(home: Path) -> None:
    code = (
        "import sys\n"
        "from click.shell_completion import BashComplete\n"
        "from rarefy.flows.cli import cli\n"
        "complete = BashComplete(cli, {}, 'rarefy', '_RAREFY_COMPLETE')\n"
        "assert complete.get_completions(['predict'], 'rev')\n"
        "assert complete.get_completions(['recipe', 'cp'], 'demo')\n"
        "slow = {'torch', 'prefect', 'pydantic', 'onnxruntime', 'numpy'} & sys.modules.keys()\n"
        "print(sorted(slow))\n"
    )
    ran = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=dict(os.environ)
    )
    assert ran.stdout == "[]\n", ran.stderr
