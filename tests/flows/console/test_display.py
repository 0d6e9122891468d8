"""What a run displays in a terminal, and when stderr is a file."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass

import pytest
from rich.console import Console
from rich.table import Table

from rarefy.flows.console import display
from rarefy.flows.console.display import Display
from rarefy.flows.console.options import as_text
from rarefy.pipeline.verdict.record import LedgerRow
from rarefy.pipeline.verdict.verdict import Verdict
from tests.pipeline.report.factory import ledger, report_data


@dataclass
class Clock:
    """A clock that advances only when told to."""

    now: float = 1000.0

    def __call__(self) -> float:
        return self.now


def test_in_a_file_a_line_every_half_minute_says_how_far_a_stage_is():
    file, clock = io.StringIO(), Clock()
    with Display(Console(file=file, width=80), clock=clock) as display:
        display.started("distill")
        for step in range(1, 121):  # two minutes, one step per second
            clock.now += 1
            display.progress(step, 480, f"loss {1 - step / 1000:.3f}")
    assert file.getvalue().splitlines() == [
        "distill      30/480 (6%)  0:00:30  loss 0.970",
        "distill      60/480 (12%)  0:01:00  loss 0.940",
        "distill      90/480 (19%)  0:01:30  loss 0.910",
        "distill      120/480 (25%)  0:02:00  loss 0.880",
    ]


def test_a_quick_stage_says_nothing_of_its_progress():
    file, clock = io.StringIO(), Clock()
    with Display(Console(file=file, width=80), clock=clock) as display:
        for name in ("finetune", "quantize"):
            display.started(name)
            clock.now += 29
            display.progress(1, 1, "done")
    assert file.getvalue() == ""


def test_parts_of_steps_and_an_unknown_total_are_shown():
    file, clock = io.StringIO(), Clock()
    with Display(Console(file=file, width=80), clock=clock) as display:
        display.started("validate")
        clock.now += 30
        display.progress(2.4999, 9, "timing on cpu")
        clock.now += 30
        display.progress(7, 0, "looking")
    assert file.getvalue().splitlines() == [
        "validate     2.5/9 (28%)  0:00:30  timing on cpu",
        "validate     7  0:01:00  looking",
    ]


def test_in_a_file_a_wait_is_said_at_once():
    """It is reported once, when it begins, and may last for hours."""
    file = io.StringIO()
    display = Display(Console(file=file, width=80), clock=Clock())
    display.started("validate")
    display.progress(0, 0, "another run is measuring; waiting")
    display.progress(0, 9, "tracing the model")
    (line,) = file.getvalue().splitlines()
    assert line == "validate     0  0:00:00  another run is measuring; waiting"


def test_quiet_is_quiet_in_a_file():
    file, clock = io.StringIO(), Clock()
    with Display(Console(file=file), quiet=True, clock=clock) as display:
        display.starting("starting Prefect")
        display.started("distill")
        clock.now += 60
        display.progress(1, 2, "half")
    assert file.getvalue() == ""


def test_in_a_terminal_what_is_starting_is_shown_until_the_first_stage():
    file = io.StringIO()
    with Display(Console(file=file, force_terminal=True, width=80)) as display:
        display.starting("starting Prefect")
        display.say("note: before the first stage")
        assert "starting Prefect" in file.getvalue()
        display.started("model")
        file.truncate(0)
        display.progress(1, 2, "half")
        display.say("note: later")
        shown = file.getvalue()
    assert "model" in shown
    assert "starting Prefect" not in shown


def test_a_note_is_shown_as_it_is():
    """It may have a user's text that looks like rich's markup."""
    file = io.StringIO()
    with Display(Console(file=file, force_terminal=True, width=80)) as display:
        display.started("[neg]")
        display.progress(1, 2, "of [/b]")
        display.say("note: now it is drawn")
    assert "[neg]" in file.getvalue()
    assert "of [/b]" in file.getvalue()


def test_a_table_as_text_has_every_cell_as_it_is():
    table = Table(box=None)
    table.add_row("[neg]", "[/b]", ":dog:")
    assert as_text(table).split() == ["[neg]", "[/b]", ":dog:"]


def test_in_a_file_what_is_starting_is_a_line():
    file = io.StringIO()
    with Display(Console(file=file, width=80)) as display:
        display.starting("starting Prefect")
        display.started("model")
    assert file.getvalue() == "starting Prefect\n"


def test_a_warning_of_a_stage_is_not_repeated_at_the_end():
    file = io.StringIO()
    facts = {"id": "head", "stage": "head", "kind": "checkpoint", "digest": "0" * 64, "size": 1}
    row = LedgerRow(**facts, cached=False, seconds=1, note="has learned nothing")
    with Display(Console(file=file, width=80)) as display:
        display.finished(row)
        display.notes(["head has learned nothing", "two rows are left out"])
    assert file.getvalue().splitlines()[1:] == [
        "warning: head has learned nothing",
        "note: two rows are left out",
    ]


def test_evidence_beside_a_missed_budget_is_a_note() -> None:
    for outcome, said in (("fail", "note: cpu: hot"), ("inconclusive", "no verdict: cpu: hot")):
        judged = Verdict(outcome=outcome, bundle=None, budgets=[], evidence=["cpu: hot"])
        assert display.doubts(judged) == [said]
    assert display.doubts(None) == []


def in_terminal(width: int, show: Callable[[Console], None]) -> list[str]:
    """Return what a terminal of a width shows, as lines that it would not break."""
    file = io.StringIO()
    console = Console(file=file, force_terminal=True, color_system=None, width=width)
    show(console)
    return file.getvalue().splitlines()


def words(lines: list[str]) -> list[str]:
    return " ".join(lines).replace("\u00a0", " ").split()


def test_a_finished_stage_is_a_line_of_a_terminal() -> None:
    rows = [*ledger(), *(row.model_copy(update={"id": f"the-{row.id}-again"}) for row in ledger())]
    for row in rows:
        (line,) = in_terminal(80, lambda console, row=row: Display(console).finished(row))
        assert len(line) <= 80, line
        assert line.startswith(row.id)
        if row.accuracy:
            assert f"accuracy {100 * row.accuracy[0]:.1f}%" in line


@pytest.mark.parametrize("width", [80, 100])
def test_the_end_of_a_run_breaks_between_words_alone(width: int) -> None:
    data = report_data()
    throttled = data.verdict.model_copy(update={"evidence": [f"cpu: {'it was slower ' * 20}"]})

    def show(console: Console) -> None:
        display.show_verdict(throttled, console, data.measurements)
        display.show_gains(data, console)

    lines = in_terminal(width, show)
    assert max(map(len, lines)) <= width
    # Cells of one row stand side by side, so their words are in another order.
    assert sorted(words(lines)) == sorted(words(in_terminal(400, show)))


def test_a_long_note_is_whole_in_a_file_and_broken_between_words_in_a_terminal() -> None:
    note = "word " * 40 + "end"
    file = io.StringIO()
    Display(Console(file=file, width=80)).say(note)
    assert file.getvalue() == f"{note}\n"
    lines = in_terminal(80, lambda console: Display(console).say(note))
    assert max(map(len, lines)) <= 80
    assert words(lines) == note.split()
