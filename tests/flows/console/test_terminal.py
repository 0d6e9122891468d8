"""Tables and lists on a terminal of 80 columns and in a pipe: no word is split."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from rarefy.flows import doctor
from rarefy.flows.cli import main
from rarefy.flows.console.options import show_table, stdout
from rarefy.flows.sweep.answers import Swept
from rarefy.pipeline.run.logbook import Entry
from rarefy.pipeline.sweep.record import Answer, SweepRecord
from rarefy.pipeline.terms.interval import Interval
from rarefy.pipeline.verdict.history import FILE, History
from tests.pipeline.report.verdicts import finished
from tests.pipeline.sweep import factory
from tests.terminal import Screens, screens

Shown = Callable[..., Screens]


@pytest.fixture
def command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, own_environment: None) -> Shown:
    """Run a command in an own home, whose folder is ``tmp_path``."""
    monkeypatch.setenv("RAREFY_HOME", str(tmp_path))

    def call(*arguments: str) -> Screens:
        def run() -> None:
            with pytest.raises(SystemExit):
                main(list(arguments))

        return screens(run, monkeypatch)

    return call


def test_a_sweep_s_answers(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    branches = [
        factory.branch("distill.keep_layers=2,slim.remove_heads=50", 0.9, 8.0, 80_000_000),
        factory.branch("distill.keep_layers=1,slim.remove_heads=25", 0.8, 1.0, 9_000_000),
    ]
    answers = [
        Answer(
            name="fast",
            question="the fastest that loses at most 1 point",
            branch=branches[0].name,
            outcome="inconclusive",
            accuracy=Interval(0.77, 0.7, 0.8),
            recipe="many-fast.yaml",
        ),
        Answer(name="small", question="the smallest below 2 ms", branch=None, outcome=None),
    ]
    record = SweepRecord(
        name="many",
        command="rarefy sweep sweep.yaml",
        threads=1,
        device="cpu",
        recipe="base",
        target="cpu",
        vary={"distill.keep_layers": [1, 2]},
        branches=branches,
        answers=answers,
        seconds=10.0,
        machine={},
    )
    monkeypatch.chdir(tmp_path)
    swept = Swept(record, Path(".rarefy/sweeps/many"))
    shown = screens(lambda: show_table(swept.table(), stdout()), monkeypatch)
    shown.check()
    assert "inconclusive" in shown.narrow


def test_the_list_of_runs(command: Shown, tmp_path: Path) -> None:
    logs = tmp_path / "logs"
    logs.mkdir()
    for number, state in enumerate(("pass", "inconclusive", "interrupted")):
        entry = Entry(
            id=f"a-classifier-of-tickets-2026120{number}-081011",
            name="a-classifier-of-tickets",
            engine="inline",
            job={},
            host="here",
            pid=1,
            stop="SIGINT",
            started=1_796_000_000.0 + number,
            ended=1_796_001_000.0 + number,
            state=state,
            step="quantize-again" if state == "interrupted" else None,
            total=12,
        )
        text = entry.model_dump_json(by_alias=True)
        (logs / f"{entry.id}.json").write_text(text)
    shown = command("runs", "ls")
    shown.check()
    assert len(shown.pipe.splitlines()) == 4


def test_the_list_of_verdicts(command: Shown, tmp_path: Path) -> None:
    past = History(tmp_path / FILE)
    for index in range(3):
        past.add(finished(index, milliseconds=1.0 + index / 4))
    shown = command("history")
    shown.check()
    assert len(shown.pipe.splitlines()) == 4


def test_what_the_doctor_finds(command: Shown, monkeypatch: pytest.MonkeyPatch) -> None:
    checks = [
        doctor.Check("python", "ok", "3.11.2"),
        doctor.Check("a long name", "warn", "x86_64 " * 20, "install what is missing " * 6),
        doctor.Check("onnxruntime", "fail", "two of them are installed", doctor.GPU_FIX),
    ]
    monkeypatch.setattr(doctor, "run_all", lambda _: checks)
    shown = command("doctor")
    shown.check()
    assert "GPU" in shown.narrow


@pytest.mark.parametrize(
    "broken",
    [
        Screens("a wo\nrd\n", "a word\n", "a word\n"),
        Screens(f"{'word ' * 20}\n", f"{'word ' * 20}\n", f"{'word ' * 20}\n"),
        Screens("a word\n", "a word\n", "a\nword\n"),
        Screens("a word\n", "a word\n", "a \x1b[1mword\n"),
    ],
)
def test_what_breaks_is_seen(broken: Screens) -> None:
    with pytest.raises(AssertionError):
        broken.check()
