"""Conventions of all commands: data on stdout, messages on stderr, meaningful exit codes."""

from __future__ import annotations

import io
import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import rich_click as click

from rarefy.flows.cli import RENAMED, cli, main, report_error
from rarefy.flows.console.options import show_json, stdout
from tests.project import Project, Said

HEAVY = (
    "pydantic",
    "torch",
    "transformers",
    "onnx",
    "onnxruntime",
    "datasets",
    "prefect",
    "scipy",
    "numpy",
)


def test_help_imports_nothing_heavy() -> None:
    program = (
        "import sys\n"
        "from rarefy.flows.cli import main\n"
        "try:\n    main(['--help'])\nexcept SystemExit:\n    pass\n"
        f"print([name for name in {HEAVY} if name in sys.modules], file=sys.stderr)\n"
    )
    ended = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert ended.stderr.strip() == "[]"
    assert "From model to verdict" in ended.stdout


def commands(group: click.Group = cli, names: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    found: list[tuple[str, ...]] = []
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        below = hasattr(command, "commands")
        found += commands(command, (*names, name)) if below else [(*names, name)]
    return found


@pytest.mark.parametrize("names", commands(), ids=" ".join)
def test_every_command_explains_itself_and_speaks_json(
    names: tuple[str, ...], rarefy: Callable[..., Said]
) -> None:
    said = rarefy(*names, "--help")
    assert (said.code, said.err) == (0, "")
    assert "--json" in said.out
    assert "Example" in said.out


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("nonsense",), 2, "No such command"),
        (("plan", "missing.yaml"), 2, "rarefy: missing.yaml: no such recipe"),
        (("predict", "missing", "text"), 2, "rarefy: missing: no such bundle"),
        (("report", "missing"), 2, "rarefy: missing: no such run; available: none"),
        (("artifact", "show", "missing"), 2, "rarefy: missing: no such artifact"),
        (("artifact", "verify"), 2, "--all"),
        (("recipe", "cp", "missing"), 2, "missing: no such example; available: "),
        (("init", "--yes"), 2, "--train is needed with --yes"),
    ],
)
def test_errors_go_to_stderr_with_their_exit_code(
    project: Project,
    rarefy: Callable[..., Said],
    arguments: tuple[str, ...],
    code: int,
    words: str,
) -> None:
    said = rarefy(*arguments)
    assert (said.code, said.out) == (code, "")
    assert words in said.err


@pytest.mark.parametrize("name", sorted(RENAMED))
def test_a_renamed_command_or_option_names_the_new_one(
    name: str, rarefy: Callable[..., Said]
) -> None:
    command, *option = name.split()
    said = rarefy(command, "anything", *option, *["anything" for _ in option])
    assert (said.code, said.out) == (2, "")
    advice = f"`rarefy {name}` was renamed before 0.1.0: write {RENAMED[name]}"
    assert said.err == f"rarefy: {advice}\n"
    _, command, *option = RENAMED[name].strip("`").split()
    assert " ".join(option[:1]) in rarefy(command, "--help").out


def test_a_misspelt_key_is_named_with_its_line(
    project: Project, rarefy: Callable[..., Said]
) -> None:
    recipe = project.recipe("quickstages:Head: {scal: 2}")
    said = rarefy("plan", recipe)
    assert (said.code, said.out) == (2, "")
    assert said.err.startswith(f"rarefy: {recipe}:6: ")
    assert "did you mean 'scale'?" in said.err


def test_an_error_is_json_where_json_was_asked_for(
    project: Project, rarefy: Callable[..., Said]
) -> None:
    said = rarefy("plan", "missing.yaml", "--json")
    assert json.loads(said.out)["exit_code"] == said.code == 2
    assert "no such recipe" in json.loads(said.out)["error"]
    assert said.out.count("\n") == 1, "the answers of `predict` are one line each"


def test_no_traceback_unless_verbose(project: Project, rarefy: Callable[..., Said]) -> None:
    assert "Traceback" not in rarefy("plan", "missing.yaml").err
    assert "Traceback" in rarefy("-v", "plan", "missing.yaml").err


def test_what_was_not_expected_says_how_to_see_more(capsys: pytest.CaptureFixture[str]) -> None:
    assert report_error(RuntimeError("a wire"), verbose=False, as_json=False) == 1
    said = "rarefy: unexpected RuntimeError: a wire (-v shows the traceback)\n"
    assert capsys.readouterr().err == said


class Terminal(io.BytesIO):
    def isatty(self) -> bool:
        return True


def said_on(stream: io.BytesIO, monkeypatch: pytest.MonkeyPatch, say: Callable[[], None]) -> bytes:
    """What a command writes to a stream in the encoding of a Western locale."""
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(stream, encoding="cp1252"))
    monkeypatch.setitem(cli.commands, "say", click.Command("say", callback=say))
    with pytest.raises(SystemExit) as ended:
        main(["say"])
    assert ended.value.code == 0
    sys.stdout.flush()
    return stream.getvalue()


@pytest.mark.parametrize("say", [click.echo, lambda text: stdout().print(text)])
def test_text_that_the_locale_lacks_is_utf_8_for_programs_and_no_error_on_a_terminal(
    monkeypatch: pytest.MonkeyPatch, say: Callable[[str], None]
) -> None:
    text = "caf\u00e9 \u2713"
    assert said_on(io.BytesIO(), monkeypatch, lambda: say(text)) == f"{text}\n".encode()
    assert said_on(Terminal(), monkeypatch, lambda: say(text)) == b"caf\xe9 ?\n"


def test_json_of_a_name_that_is_no_text_is_json(monkeypatch: pytest.MonkeyPatch) -> None:
    name = "caf\udce9"  # the byte of a file's name in latin-1
    said = said_on(io.BytesIO(), monkeypatch, lambda: show_json([name]))
    assert json.loads(said) == [name]


@pytest.mark.parametrize(
    ("command", "ours"),
    [
        ("list", "runs ls"),
        ("status", "runs ls"),
        ("export", "bundle"),
        ("mine.yaml", "run mine.yaml"),
    ],
)
def test_a_command_that_others_have_is_answered_with_ours(
    rarefy: Callable[..., Said], command: str, ours: str
) -> None:
    said = rarefy(command)
    assert said.code == 2
    assert f"No such command '{command}'. Use 'rarefy {ours}'." in " ".join(said.err.split())


def _paths(group: click.Group, *above: str) -> Iterator[tuple[str, ...]]:
    """Yield the words of each command, and of those below it."""
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        yield (*above, name)
        if isinstance(command, click.Group):
            yield from _paths(command, *above, name)


@pytest.mark.parametrize("command", _paths(cli), ids=" ".join)
def test_the_help_of_a_command_breaks_no_choice_at_80_columns(
    rarefy: Callable[..., Said], command: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    said = rarefy(*command, "--help")
    assert said.code == 0
    lines = said.out.splitlines()
    assert max(map(len, lines)) <= 80
    assert [line for line in lines if re.search(r"\[\w+\|[\w|]*\s", line)] == []


def test_the_name_of_a_run_is_answered_with_its_recipe(
    rarefy: Callable[..., Said], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("tickets.yaml").touch()
    said = rarefy("run", "tickets")
    question = "did you mean 'tickets.yaml'?"
    assert (said.code, said.err) == (2, f"rarefy: tickets: no such recipe, {question}\n")


@pytest.mark.parametrize(
    "command",
    [
        ("init", "new.yaml", "--yes", "--model", "package:x", "--train", "ticket.csv"),
        ("predict", "tiny", "--data", "ticket.csv", "--out", "out.csv"),
    ],
)
def test_a_data_file_that_is_nearly_there_is_named(
    rarefy: Callable[..., Said],
    made: Project,
    command: tuple[str, ...],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("RAREFY_HOME", str(made.home))
    monkeypatch.chdir(tmp_path)
    Path("tickets.csv").write_text("text,label\nA text.,one\n")
    Path("ticket").mkdir()
    said = rarefy(*command)
    assert (said.code, said.err.count("\n")) == (2, 1)
    assert "no such file, did you mean 'tickets.csv'?" in said.err


@pytest.mark.parametrize("command", ["run", "plan"])
def test_the_name_of_an_example_is_answered_with_how_to_copy_it(
    rarefy: Callable[..., Said], command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    said = rarefy(command, "demo")
    copy = "`rarefy recipe cp demo` copies the example of this name"
    assert (said.code, said.err) == (2, f"rarefy: demo: no such recipe; {copy}\n")
