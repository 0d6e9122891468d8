"""What a terminal and the runner of a CI job are shown, and how much of it.

No text of others can give them a command. Whatever is printed goes through here: text by a stream,
and rich's tables and bars, whose own commands must arrive, by a console. A closed pipe, as of
``rarefy artifact ls | head``, ends a command quietly, and never as a success.
"""

from __future__ import annotations

import errno
import os
import re
import select
import stat
import sys
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, TextIO, cast

import rich.console
import rich_click as click
from rich.console import ConsoleOptions, RenderableType
from rich.segment import Segment

from rarefy.pipeline.terms.wording import printable

EXIT_CODE: Final = 141
"""128 + SIGPIPE, as a shell reports a program that a closed pipe ended."""
VOLUME: Final = ("verbose", "quiet")
SUMMARY_BYTES = 1024 * 1024
"""GitHub drops a step's summary if it is larger."""
CUT = (
    "\n\n*Truncated: GitHub shows at most 1 MiB of a step's summary. "
    "summary.md has the full text.*\n"
)
_COMMAND = re.compile(r"(^|[\r\n\x0b\x0c\x85\u2028\u2029])(\s*):(?=:)|##(?=\[)")
"""What the runner takes for a command: ``::`` at the start of a line, and ``##[`` anywhere."""


class Console(rich.console.Console):
    """A console that leaves out the control characters of what it renders, but not its own."""

    def render(
        self, renderable: RenderableType, options: ConsoleOptions | None = None
    ) -> Iterable[Segment]:
        """Yield the segments of what is rendered; see ``rich.console.Console.render``."""
        for segment in super().render(renderable, options):
            if segment.control or segment.text.isprintable():
                yield segment
            else:
                # Nothing stands for them: rich has measured them as of no width.
                yield Segment(printable(segment.text, ""), segment.style)


class _Cleaned:
    """A stream to which no control character is written, but by rich."""

    def __init__(self, stream: TextIO) -> None:
        self.rich_proxied_file = stream  # where rich writes; see ``Console.file``

    def write(self, text: str) -> int:
        return self.rich_proxied_file.write(printable(text))

    def __getattr__(self, name: str) -> Any:
        return getattr(self.rich_proxied_file, name)


@contextmanager
def cleaned() -> Iterator[None]:
    """Print no control characters in this context."""
    before = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = (cast("TextIO", _Cleaned(stream)) for stream in before)
    try:
        yield
    finally:
        sys.stdout, sys.stderr = before


class BrokenError(Exception):
    """Something wrote to a closed pipe; ``error`` is the original exception."""

    def __init__(self, error: OSError) -> None:
        super().__init__(str(error))
        self.error = error


class Group(click.RichGroup):
    """A group of commands that raises BrokenError; click would exit 1, whoever's pipe it was."""

    def make_context(self, *args: Any, **kwargs: Any) -> click.RichContext:
        with closed_pipe_raised():  # --help and --version, which write while they are parsed
            return super().make_context(*args, **kwargs)

    def invoke(self, ctx: click.Context) -> Any:
        with closed_pipe_raised():
            return super().invoke(ctx)


@contextmanager
def closed_pipe_raised() -> Iterator[None]:
    """Raise BrokenError if something writes to a closed pipe."""
    try:
        yield
    except OSError as error:
        if error.errno == errno.EPIPE:
            raise BrokenError(error) from error
        raise
    except SystemExit as ended:
        # rich discards the output of a closed pipe by itself, and exits with 1.
        if isinstance(ended.__context__, BrokenPipeError):
            raise SystemExit(EXIT_CODE) from None
        raise


def nobody_reads() -> bool:
    """Return whether the reader of our output is gone; then discard what is still written to it.

    If it is not, the broken pipe was another one, e.g. that of a worker process that died.
    """
    gone = [stream for stream in (sys.stdout, sys.stderr) if _closed(stream)]
    for stream in gone:
        _discard(stream)
    return bool(gone)


def discard_unwritten() -> None:
    """Discard output that cannot be written, as to a full disk: Python would try again at exit."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            _discard(stream)


def _discard(stream: TextIO) -> None:
    os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def _closed(stream: TextIO) -> bool:
    if not hasattr(select, "poll"):
        return False  # Windows: it reports the error instead
    poll = select.poll()
    try:
        poll.register(stream.fileno(), 0)
    except (OSError, ValueError):  # not a file of the system, as in tests and notebooks
        return False
    return any(event & select.POLLERR for _, event in poll.poll(0))


def _keep(context: click.Context, parameter: click.Parameter, value: bool) -> None:
    """Keep a flag that was given, wherever it stood, for ``is_on``."""
    if value:
        context.find_root().meta[f"rarefy.{parameter.name}"] = True


def _options() -> list[click.Option]:
    verbose = click.RichOption(
        ["-v", "--verbose"],
        is_flag=True,
        expose_value=False,
        callback=_keep,
        help="Show tracebacks and the libraries' logs.",
    )
    quiet = click.RichOption(
        ["-q", "--quiet"],
        is_flag=True,
        expose_value=False,
        callback=_keep,
        help="Show no progress, only the result and errors.",
    )
    return [verbose, quiet]


def volume_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options to a command that is being defined."""
    parameters = getattr(command, "__click_params__", [])
    command.__click_params__ = [*_options(), *parameters]  # type: ignore[attr-defined]
    return command


def accept_volume(command: click.Command) -> None:
    """Add the options to a command, and to the commands of a group, unless they have them."""
    names = {parameter.name for parameter in command.params}
    if not names.issuperset(VOLUME):
        command.params.extend(_options())
    if isinstance(command, click.Group):
        for below in command.commands.values():
            accept_volume(below)


def is_on(name: str) -> bool:
    """Return whether ``verbose`` or ``quiet`` was given; False outside a command."""
    context = click.get_current_context(silent=True)
    if context is None:
        return False
    return bool(context.find_root().meta.get(f"rarefy.{name}"))


class _Guarded:
    """A stream whose text holds no workflow command; ``unguarded`` is the stream below it."""

    def __init__(self, stream: TextIO) -> None:
        self.unguarded = stream

    def write(self, text: str) -> int:
        return self.unguarded.write(harmless(text))

    def __getattr__(self, name: str) -> Any:
        return getattr(self.unguarded, name)


def harmless(text: str) -> str:
    """Return a text in which no line is a workflow command: ``::`` becomes ``: :``."""
    return _COMMAND.sub(lambda match: f"{match[0]} ", text)


@contextmanager
def guarded() -> Iterator[None]:
    """In a job, print nothing that the runner would take for a command, except by ``annotate``.

    A column's name or a label may contain a line break, or be wrapped where a line begins. Output
    that goes to a file is not changed, because the runner does not read it.
    """
    if not active():
        yield
        return
    before = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = (cast("TextIO", _guard(stream)) for stream in before)
    try:
        yield
    finally:
        sys.stdout, sys.stderr = before


def _guard(stream: TextIO) -> object:
    try:
        to_file = stat.S_ISREG(os.fstat(stream.fileno()).st_mode)
    except (OSError, ValueError):
        to_file = False
    return stream if to_file else _Guarded(stream)


def active() -> bool:
    """Return whether this process runs in a GitHub Actions job."""
    return os.environ.get("GITHUB_ACTIONS") == "true"


def annotate(commands: Iterable[str]) -> None:
    """Print workflow commands on stderr, which the runner also reads: stdout is for data."""
    if active():
        for command in commands:
            click.echo(command, file=getattr(sys.stderr, "unguarded", sys.stderr))


def summarize(text: str) -> None:
    """Append Markdown to the step's summary, truncated to what GitHub shows."""
    name = os.environ.get("GITHUB_STEP_SUMMARY")
    if not name:
        return
    path = Path(name)
    room = SUMMARY_BYTES
    if path.exists():
        room -= path.stat().st_size
    if len(text.encode()) > room:
        text = _cut(text, room)
    with path.open("a", encoding="utf-8") as file:
        file.write(text)


def _cut(text: str, room: int) -> str:
    """Return a text that is cut to so many bytes, with a note; "" if not a line fits."""
    size = max(0, room - len(CUT.encode()))
    start = text.encode()[:size].decode(errors="ignore")
    lines, newline, _ = start.rpartition("\n")
    # Cut at a line's end: half a line could be half a table row.
    return lines + CUT if newline else ""


def output(values: Mapping[str, str]) -> None:
    """Set outputs for the job's next steps."""
    name = os.environ.get("GITHUB_OUTPUT")
    if not name:
        return
    with Path(name).open("a", encoding="utf-8") as file:
        for key, value in values.items():
            end = f"end-{uuid.uuid4().hex}"
            file.write(f"{key}<<{end}\n{value}\n{end}\n")
