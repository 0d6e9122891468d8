"""Options that commands share: data goes to stdout unchanged."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path

import pytest
import rich_click as click
from click.testing import CliRunner
from rich.console import Console
from rich.table import Table

from rarefy.flows.console import options
from rarefy.pipeline.store.home import Home


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


@pytest.mark.parametrize(
    ("place", "said"), [("", "name is empty"), ("file", "is a file"), ("file/x", "is a file")]
)
def test_a_home_that_can_be_no_folder_is_wrong_usage(tmp_path: Path, place: str, said: str) -> None:
    """The empty name is that of a shell's variable that is not set."""
    (tmp_path / "file").write_text("")
    home = place and str(tmp_path / place)
    with pytest.raises(click.UsageError, match=said):
        shown.main(["--home", home], standalone_mode=False)


@click.command("do")
@click.argument("recipe")
@click.option("--tag", "tags", multiple=True)
@click.option("--strict", is_flag=True)
@click.option("--cron", default="never")
@options.home_option
@options.json_option
def repeated(**_: object) -> None:
    click.echo(options.as_given("as_json"))


def test_a_command_is_said_as_it_was_given() -> None:
    given = ["my recipe.yaml", "--tag", "a b", "--strict", "--tag", "c", "--home", "/h", "--json"]
    said = CliRunner().invoke(repeated, given, env={"RAREFY_HOME": "/theirs"}).stdout
    assert said == "rarefy do 'my recipe.yaml' --tag 'a b' --tag c --strict --home /h\n"
    said = CliRunner().invoke(repeated, ["r"], env={"RAREFY_HOME": "/theirs"}).stdout
    assert said == "rarefy do r\n"


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


def drawn(width: int, *, no_wrap: bool = True, terminal: bool = False) -> list[str]:
    """The lines of a table of a run and its verdict, where so many characters fit a line."""
    table = Table(box=None, pad_edge=False)
    table.add_column("run", no_wrap=no_wrap)
    table.add_column("verdict")
    table.add_row("reviews 4db2", "inconclusive because the machine was throttled")
    written = io.StringIO()
    console = Console(file=written, width=width, force_terminal=terminal, color_system=None)
    options.show_table(table, console)
    assert console.width == width
    return [line.rstrip() for line in written.getvalue().splitlines()]


def test_a_table_in_a_terminal_is_wrapped_between_words() -> None:
    assert drawn(30) == [
        "run           verdict",
        "reviews 4db2  inconclusive",
        "              because the",
        "              machine was",
        "              throttled",
    ]


def test_rows_that_do_not_fit_a_terminal_are_records() -> None:
    assert drawn(24, terminal=True) == [
        "run      reviews 4db2",
        "verdict  inconclusive",
        "         because the",
        "         machine was",
        "         throttled",
    ]


@pytest.mark.parametrize("width", [1, 12, 25])
def test_without_a_terminal_rows_that_do_not_fit_are_whole_lines(width: int) -> None:
    whole = [
        "run           verdict",
        "reviews 4db2  inconclusive because the machine was throttled",
    ]
    assert drawn(width) == whole
    assert drawn(min(width, 12), no_wrap=False) == whole
