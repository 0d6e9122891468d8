"""Every benchmark runs, whatever the one before came to."""

from __future__ import annotations

import subprocess
from pathlib import Path
from types import SimpleNamespace

import pytest

from benchmarks import every

FOLDER = Path(every.__file__).parent
FOLDERS = ("--race", "there", "--students", "here")
NOT_RUN = {
    "is a part of others": {"plain_loop", "race_worker"},
    "prints a count": {"density"},
    "writes pages": {"reference", "tables"},
    "is about one redesign": {"house", "mutants"},
    "is this one": {"every"},
}


@pytest.mark.parametrize(("broken", "code"), [(1, 1), (-9, 1), (3, 0), (5, 0)])
def test_all_run_and_only_one_that_broke_off_is_an_error(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], broken: int, code: int
) -> None:
    """Exit code 3 is a claim that does not hold, which is a result."""
    ran: list[str] = []

    def run(words: list[str], **_: object) -> SimpleNamespace:
        ran.append(words[2].removeprefix("benchmarks."))
        return SimpleNamespace(returncode=broken if ran[-1] == "demo" else 0)

    monkeypatch.setattr(subprocess, "run", run)
    assert every.main(FOLDERS) == code
    assert tuple(ran) == every.NAMES
    output = capsys.readouterr().out
    assert output.count("every claim holds") == len(every.NAMES) - 1
    expected = every.OUTCOMES.get(broken, f"broke off with exit code {broken}")
    assert expected in output


def test_every_script_is_run_or_excused() -> None:
    scripts = {path.stem for path in FOLDER.glob("*.py") if "__main__" in path.read_text()}
    assert scripts == set(every.NAMES).union(*NOT_RUN.values())


def test_what_keeps_things_is_told_where() -> None:
    for name in every.NAMES:
        required = 'add_argument("--home", type=Path, required=True' in _text(name)
        words = every.command(name, Path("there"), Path("here"))
        assert ("--home" in words) is required, name


def test_a_name_that_is_none_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        every.main(["dmeo", *FOLDERS])
    assert "no such benchmark: dmeo" in capsys.readouterr().err


def _text(name: str) -> str:
    return (FOLDER / f"{name}.py").read_text()
