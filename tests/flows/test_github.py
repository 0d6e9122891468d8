"""What a GitHub Actions job gets besides its log: annotations, summary and outputs."""

from __future__ import annotations

from pathlib import Path

import pytest
import rich_click as click
from rich.console import Console

from rarefy.flows.console import terminal


def test_a_summary_that_github_would_drop_is_cut_at_a_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """GitHub shows at most 1 MiB of a step's summary, counting everything appended to it."""
    page = tmp_path / "summary"
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(page))
    page.write_text("before\n")
    row = "| é | ✓ |\n"
    terminal.summarize(row * 100_000)
    written = page.read_bytes()
    assert 1_000_000 < len(written) <= 1024 * 1024
    assert written.startswith(b"before\n")
    whole, _, cut = written.decode().removeprefix("before\n").partition("\n\n")
    assert set(whole.split("\n")) == {row.strip()}
    assert "summary.md" in cut
    terminal.summarize(row * 1000)
    assert page.stat().st_size <= 1024 * 1024


def test_an_output_cannot_bring_another_along(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GITHUB_OUTPUT", str(tmp_path / "output"))
    terminal.output({"report": "a\noutcome=pass\n"})
    first, *middle, end = (tmp_path / "output").read_text().splitlines()
    assert first == f"report<<{end}"
    assert end not in middle


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("note: a\n::set-output name=x::1\n", "note: a\n: :set-output name=x::1\n"),
        ("::error::x", ": :error::x"),
        ("a\r  ::add-mask::x", "a\r  : :add-mask::x"),
        ("a\u2028::debug::x", "a\u2028: :debug::x"),
        ("x ##[error]y", "x ## [error]y"),
        ("quickstages:Head and a::b", "quickstages:Head and a::b"),
    ],
)
def test_a_line_that_data_made_is_no_command(text: str, shown: str) -> None:
    assert terminal.harmless(text) == shown


def test_in_a_job_only_annotations_are_commands(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    with terminal.guarded():
        Console(stderr=True, width=40).print("a wrapped line of thirty letters ::error::me")
        click.echo("note: the column 'a\n::error::mine' is empty", err=True)
        terminal.annotate(["::error::ours"])
        print("::error::also mine")
    said = capsys.readouterr()
    lines = [line for line in (said.out + said.err).splitlines() if line.startswith("::")]
    assert lines == ["::error::ours"]
