"""The command line: one group, with one file per command in ``flows/commands``.

The module of a command is imported when the command is used, and imports what it needs inside the
command, so ``--help`` answers immediately.
"""

from __future__ import annotations

import importlib
import io
import logging
import os
import signal
import sys
import threading
import warnings
from contextlib import suppress
from typing import Any, Final

import rich_click as click

from rarefy.flows.console import terminal
from rarefy.flows.console.terminal import accept_volume, volume_options
from rarefy.pipeline.terms.credentials import redact
from rarefy.pipeline.terms.errors import first_line, is_panic
from rarefy.pipeline.terms.wording import printable

click.rich_click.TEXT_MARKUP = "markdown"
click.rich_click.COMMAND_GROUPS = {
    "rarefy": [
        {"name": "From model to verdict", "commands": ["init", "plan", "run", "sweep", "ci"]},
        {"name": "Schedule and deploy", "commands": ["schedule", "deploy", "submit"]},
        {
            "name": "Inspect results",
            "commands": ["runs", "report", "history", "validate", "compare", "loadtest", "predict"],
        },
        {"name": "Release", "commands": ["promote", "rollback", "bundle", "verdict"]},
        {"name": "Maintain", "commands": ["recipe", "artifact", "doctor"]},
    ]
}


COMMANDS: Final = {
    "init": "init",
    "plan": "plan",
    "run": "run",
    "sweep": "sweep",
    "ci": "ci",
    "schedule": "schedule",
    "runs": "runs",
    "deploy": "deploy",
    "submit": "submit",
    "report": "report",
    "history": "history",
    "validate": "validate",
    "compare": "compare",
    "loadtest": "loadtest",
    "predict": "predict",
    "promote": "promote",
    "rollback": "promote",
    "bundle": "bundle",
    "verdict": "verdict",
    "recipe": "recipe",
    "artifact": "artifact",
    "doctor": "doctor",
}
"""The module in ``flows/commands`` of each command, in the order of the help."""


RENAMED: Final = {
    "load": "`rarefy loadtest`",
    "promote --to": "`rarefy promote --store URL`",
    "rollback --to": "`rarefy rollback --artifact DIGEST`",
}
"""Commands, and their options, by their names before 0.1.0: what to write instead."""
INSTEAD: Final = {"list": "runs ls", "ls": "runs ls", "status": "runs ls", "export": "bundle"}
"""What other tools call a command: what it is here."""


class CommandGroup(terminal.Group):
    """A group that imports a command's module when that command is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [*COMMANDS, *self.commands]

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Return the command that is asked for; say what it is called here if others have it."""
        name = args[0]
        if ctx.resilient_parsing:  # a shell completes the line
            return super().resolve_command(ctx, args)
        _refuse_renamed(name)
        if name in INSTEAD:
            raise click.UsageError(f"No such command {name!r}. Use 'rarefy {INSTEAD[name]}'.", ctx)
        if name.endswith((".yaml", ".yml")):
            raise click.UsageError(f"No such command {name!r}. Use 'rarefy run {name}'.", ctx)
        return super().resolve_command(ctx, args)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return super().get_command(ctx, cmd_name)
        module = importlib.import_module(f"rarefy.flows.commands.{COMMANDS[cmd_name]}")
        command: click.Command = getattr(module, cmd_name)
        accept_volume(command)
        return command

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except click.NoSuchOption as error:
            command = error.ctx.info_name if error.ctx else None
            _refuse_renamed(str(command), error.option_name)
            raise


def _refuse_renamed(command: str, option: str | None = None) -> None:
    """Raise RecipeError, which names the new one, if a command or option was renamed."""
    from rarefy.pipeline.terms.errors import RecipeError

    name = command if option is None else f"{command} {option}"
    if name in RENAMED:
        advice = f"`rarefy {name}` was renamed before 0.1.0: write {RENAMED[name]}"
        raise RecipeError(advice) from None


@click.group(cls=CommandGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="rarefy")
@volume_options
def cli() -> None:
    """Compress a transformer into an ONNX model that meets its accuracy and latency budgets.

    A recipe (YAML) names a model, labelled text, a chain of stages and budgets. `rarefy run` runs
    the stages and produces a verdict, a report and a bundle to deploy.

    Exit codes: 0 pass · 1 unexpected error · 2 wrong usage, recipe or data · 3 budget missed ·
    4 no verdict, or inconclusive with --strict · 5 missing hardware, library or service ·
    6 damaged files · 130 interrupted · 137 killed ·
    141 output pipe closed.
    """


def main(arguments: list[str] | None = None) -> None:
    """Run the command line; report each error as one line on stderr and an exit code."""
    # Let waiting threads sleep. If they spin, they take cores that the working threads need, and
    # training next to any other load becomes several times slower. Torch reads this when it loads.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    os.environ.setdefault("RUST_BACKTRACE", "0")  # a tokenizer that gives up is said in one line
    if threading.current_thread() is threading.main_thread():
        # As after Ctrl-C: what was started is ended, and finished stages are kept.
        signal.signal(signal.SIGTERM, signal.default_int_handler)
    _set_encoding()
    if arguments is None:
        arguments = sys.argv[1:]
    as_json = "--json" in arguments
    verbose = "-v" in arguments or "--verbose" in arguments
    if verbose:
        logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")
    else:  # these warnings address callers of the libraries, not users of rarefy
        warnings.filterwarnings("ignore", module="accelerate|peft|torch|transformers")
    from rarefy.flows.console import terminal

    with terminal.guarded(), terminal.cleaned():
        sys.exit(_run(arguments, verbose, as_json))


def _set_encoding() -> None:
    """Let stdout take any text: a terminal shows "?" for what it lacks, and programs get UTF-8.

    A locale's own encoding would make JSON, YAML or HTML of another, or an error, of a label.
    """
    if not isinstance(sys.stdout, io.TextIOWrapper):
        return  # a notebook's, which takes any text
    if sys.stdout.isatty():
        sys.stdout.reconfigure(errors="replace")
    else:  # of what UTF-8 lacks, the bytes of a file's name, JSON's escape is made
        sys.stdout.reconfigure(encoding="utf-8", errors="backslashreplace")


def _run(arguments: list[str], verbose: bool, as_json: bool) -> int:
    """Run a command and return its exit code; report an error as one line."""
    try:
        code = cli.main(arguments, prog_name="rarefy", standalone_mode=False)
        # Or Python itself would find out at its end, and exit with 120.
        with terminal.closed_pipe_raised():
            sys.stdout.flush()
    except (click.exceptions.Abort, KeyboardInterrupt):
        code = _report("interrupted; finished stages are stored, run again to resume", 130, as_json)
    except click.ClickException as error:
        error.message = printable(redact(error.message))
        if as_json:
            code = _report(error.format_message(), 2, as_json)
        else:
            error.show()
            code = 2
    except terminal.BrokenError as broken:
        code = terminal.EXIT_CODE
        if not terminal.nobody_reads():
            code = report_error(broken.error, verbose, as_json)
    except Exception as error:
        code = report_error(error, verbose, as_json)
    except BaseException as error:
        if not is_panic(error):
            raise
        code = _report(f"a library gave up on its input: {first_line(error)}", 2, as_json)
    return code if isinstance(code, int) else 0


def report_error(error: Exception, verbose: bool, as_json: bool) -> int:
    """Report an error as one line, with --verbose after its traceback; return the exit code."""
    from rarefy.pipeline.store import disk
    from rarefy.pipeline.terms.errors import RarefyError

    error = disk.known(error)
    if verbose:
        import traceback

        sys.stderr.write(redact("".join(traceback.format_exception(error))))
    if isinstance(error, RarefyError):
        return _report(str(error), error.exit_code, as_json)
    text = f"unexpected {type(error).__name__}: {first_line(error)}"
    return _report(f"{text} (-v shows the traceback)", 1, as_json)


def _report(message: str, code: int, as_json: bool) -> int:
    """Print an error on stderr, with --json also on stdout; return its exit code."""
    message = " ".join(printable(redact(message)).splitlines())
    terminal.nobody_reads()  # what nobody reads is discarded, and the code stays
    if as_json:
        import json

        # One line, as the answers of `predict` that may stand before it.
        line = json.dumps({"error": message, "exit_code": code}, ensure_ascii=False)
        with suppress(OSError):  # if its disk is full, the line on stderr remains
            click.echo(line)
    terminal.discard_unwritten()
    click.echo(f"rarefy: {message}", err=True)
    return code


if __name__ == "__main__":
    main()
