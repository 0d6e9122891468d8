"""What is printed holds no control characters, and rich's own commands arrive."""

from __future__ import annotations

import io
import sys

import pytest
import rich_click as click
from rich.progress import Progress

from rarefy.flows.console.options import as_text, plain_table
from rarefy.flows.console.terminal import Console, cleaned

LABEL = "\x1b]0;owned\x07yes\x9b31m"
CLEAN = "\ufffd]0;owned\ufffdyes\ufffd31m"


def test_text_is_cleaned(capsys: pytest.CaptureFixture[str]) -> None:
    before = sys.stdout, sys.stderr
    with cleaned():
        print(f"{LABEL}\tb")
        print(LABEL, file=sys.stderr)
        click.echo("\x07a\u202eb")
    assert (sys.stdout, sys.stderr) == before
    written = capsys.readouterr()
    assert written.out == f"{CLEAN}\tb\n\ufffda\ufffdb\n"
    assert written.err == f"{CLEAN}\n"


def test_tables_are_cleaned() -> None:
    table = plain_table("label")
    table.add_row(LABEL)
    assert "]0;ownedyes31m" in as_text(table)


def test_what_rich_adds_stays() -> None:
    written = io.StringIO()
    console = Console(file=written, force_terminal=True, width=80)
    console.print("a\x9bb", style="red")
    with Progress(console=console) as progress:
        progress.add_task("c\x07d", total=1)
    text = written.getvalue()
    assert "\x1b[31mab\x1b[0m" in text
    assert "cd" in text
    assert "\x1b[?25l" in text
    assert "\x9b" not in text
