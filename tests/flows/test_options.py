"""Options that commands share: data goes to stdout unchanged."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import rich_click as click
from click.testing import CliRunner
from rich.console import Console
from rich.table import Table

from flows import options
from pipeline.store.home import Home


@click.command()
@options.home_option
@options.json_option
@options.engine_options
def shown(home: Home, as_json: bool, engine: str, device: str, threads: int | None) -> None:
    options.show_json({"home": home.path, "json": as_json, "engine": engine, "device": device})


def test_the_home_is_that_of_the_option_then_of_the_environment(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("RAREFY_HOME", "/theirs")
    runner = CliRunner()
    found = json.loads(runner.invoke(shown, ["--device", "cpu"]).stdout)
    assert found == {"home": "/theirs", "json": False, "engine": "prefect", "device": "cpu"}
    found = json.loads(runner.invoke(shown, ["--home", "~/mine", "--device", "cpu"]).stdout)
    assert found["home"] == str(Path.home() / "mine")


def test_json_has_no_number_that_is_not_finite(capsys: pytest.CaptureFixture[str]) -> None:
    """A candidate that answers NaN has such a correlation; strict readers of JSON refuse it."""

    def refuse(number: str) -> None:
        raise AssertionError(number)

    options.show_json({"score": (float("nan"), 0.5), "ratio": {"high": float("inf")}})
    found = json.loads(capsys.readouterr().out, parse_constant=refuse)
    assert found == {"score": [None, 0.5], "ratio": {"high": None}}


@pytest.mark.parametrize("console", [options.stdout, options.stderr])
def test_what_users_write_is_shown_as_it_is(
    capsys: pytest.CaptureFixture[str], console: Callable[[], Console]
) -> None:
    """A label, a path or a name may look like the markup or the emoji codes of rich."""
    odd = "[neg], [/b], :dog:"
    table = Table(odd, box=None, pad_edge=False)
    table.add_row(odd)
    console().print(odd)
    console().print(table)
    written = capsys.readouterr()
    lines = (written.out + written.err).splitlines()
    assert [line.rstrip() for line in lines] == [odd] * 3


def test_a_line_for_a_pipe_is_never_broken(capsys: pytest.CaptureFixture[str]) -> None:
    words = " ".join(["word"] * 70)
    options.stdout().print(words)
    assert capsys.readouterr().out == f"{words}\n"
