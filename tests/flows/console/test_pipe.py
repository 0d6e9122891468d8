"""A reader that goes away ends a command quietly, and a gate never as a success."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.project import Project, Said

LOUD = """
import sys
import rich_click as click
from rarefy.flows import cli
from rarefy.flows.console import options
@cli.cli.command()
def shout():
    for _ in range(100_000):
        say("a line")
    return 3
cli.main(["shout"])
"""


@pytest.mark.parametrize("say", ["click.echo", "options.stdout().print"])
def test_a_closed_pipe_ends_with_the_code_of_sigpipe_and_no_word(say: str) -> None:
    program = LOUD.replace("say(", f"{say}(")
    shout = subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert shout.stdout is not None
    assert shout.stderr is not None
    assert shout.stdout.readline() == b"a line\n"
    shout.stdout.close()
    said = shout.stderr.read()
    assert (shout.wait(60), said) == (141, b"")


@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize("option", ["--help", "--version"])
def test_an_option_of_the_whole_command_line_ends_in_the_same_way(
    option: str, unbuffered: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONUNBUFFERED", unbuffered)
    reads, writes = os.pipe()
    os.close(reads)
    program = f"from rarefy.flows import cli; cli.main([{option!r}])"
    said = subprocess.run([sys.executable, "-c", program], stdout=writes, stderr=subprocess.PIPE)
    os.close(writes)
    assert (said.returncode, said.stderr) == (141, b"")


def test_an_interrupted_command_whose_reader_is_gone_says_nothing_more() -> None:
    program = """
import sys
import rich_click as click
from rarefy.flows import cli
@cli.cli.command()
@click.option("--json", is_flag=True)
def wait(json):
    print("ready", flush=True)
    sys.stdin.read()
    raise KeyboardInterrupt
cli.main(["wait", "--json"])
"""
    wait = subprocess.Popen(
        [sys.executable, "-c", program],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert wait.stdin is not None
    assert wait.stdout is not None
    assert wait.stderr is not None
    assert wait.stdout.readline() == b"ready\n"
    wait.stdout.close()
    wait.stdin.close()
    said = wait.stderr.read().decode()
    assert wait.wait(60) == 130
    assert said.splitlines()[-1].startswith("rarefy: interrupted")
    assert "Traceback" not in said


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no disk always full")
@pytest.mark.parametrize("command", ["recipe ls", "recipe ls --json", "runs ls --json"])
def test_output_to_a_full_disk_is_one_line_and_the_machine_s_fault(command: str) -> None:
    program = f"from rarefy.flows import cli; cli.main({command.split()})"
    with Path("/dev/full").open("w") as full:
        said = subprocess.run([sys.executable, "-c", program], stdout=full, stderr=subprocess.PIPE)
    assert said.stderr == b"rarefy: the output: No space left on device\n"
    assert said.returncode == 5


def test_the_broken_pipe_of_a_worker_is_an_error(
    project: Project, rarefy: Callable[..., Said], monkeypatch: pytest.MonkeyPatch
) -> None:
    def died(_path: Path) -> None:
        raise BrokenPipeError(32, "Broken pipe")

    monkeypatch.setattr("rarefy.pipeline.recipe.recipe.load", died)
    said = rarefy("plan", project.recipe("quickstages:Head"))
    assert said.code == 1
    assert "unexpected BrokenPipeError" in said.err
