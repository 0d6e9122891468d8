"""The logbook of a home: which recipes were run, how far each run got, and its log file.

A run is three files in ``logs/``: ``<id>.json`` is its entry, replaced as it goes on; ``<id>.log``
is what it said; ``<id>.lock`` is locked for as long as its process lives. An entry that says
"running" and whose lock is free belongs to a process that was killed.
"""

from __future__ import annotations

import os
import platform
import re
import signal
import time
import traceback
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final, Literal, TextIO

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from rarefy.pipeline.store import disk, locks
from rarefy.pipeline.store.artifact import NewerError
from rarefy.pipeline.store.home import Home
from rarefy.pipeline.terms.credentials import redact
from rarefy.pipeline.terms.errors import IntegrityError, ProviderError, RarefyError, RecipeError
from rarefy.pipeline.terms.wording import printable

State = Literal[
    "running", "pass", "fail", "inconclusive", "unjudged", "error", "interrupted", "killed"
]
"""``unjudged``: it ended, and its recipe has nothing to judge."""
Engine = Literal["prefect", "inline"]
FOLDER: Final = "logs"
_NUMBERED: Final = re.compile(rb'"schema":\s*"rarefy\.logbook/(\d+)"')
KEPT: Final = 500
"""The number of runs whose entries and logs are kept."""


class Step(BaseModel):
    """A finished step: its id, its artifact, and the seconds it took here."""

    model_config = ConfigDict(frozen=True)

    id: str
    digest: str
    cached: bool
    seconds: float


class Entry(BaseModel):
    """One run of a recipe. Times are Unix times."""

    model_config = ConfigDict(frozen=True, populate_by_name=True)

    schema_: Literal["rarefy.logbook/1"] = Field(default="rarefy.logbook/1", alias="schema")
    id: str
    name: str
    """The recipe's name."""
    engine: Engine
    job: dict[str, Any]
    """What the run was started with; its paths are absolute."""
    host: str
    pid: int
    space: str | None = None
    """Where ``pid`` is this process's number; see ``space``."""
    stop: Literal["SIGTERM", "SIGINT"]
    """The signal that interrupts it as Ctrl-C does, or ends it if nothing else does."""
    started: float
    ended: float | None = None
    state: State = "running"
    message: str | None = None
    """Why there is no verdict."""
    step: str | None = None
    """The step that is being executed."""
    steps: tuple[Step, ...] = ()
    total: int
    """The number of steps, with the import of the model."""

    @property
    def seconds(self) -> float:
        """The seconds from its start to its end, or to now."""
        return (self.ended or time.time()) - self.started


class Page:
    """The entry and the log of the run that this process carries out."""

    def __init__(self, folder: Path, entry: Entry, log: TextIO) -> None:
        self.entry, self.log = entry, log
        self._file = folder / f"{entry.id}.json"
        self._write()

    def update(self, **changes: Any) -> None:
        """Change fields of the entry."""
        self.entry = self.entry.model_copy(update=changes)
        self._write()

    def say(self, text: str) -> None:
        """Add lines to the log, each with the time; no credentials in URLs, no controls."""
        now = time.strftime("%Y-%m-%d %H:%M:%S")
        lines = printable(redact(text)).rstrip("\n").split("\n")
        with disk.speaking(self._file.parent):
            self.log.write("".join(f"{now}  {line}\n" for line in lines))
            self.log.flush()

    def broken(self, error: BaseException) -> None:
        """Record that the run ended with an error, or that it was interrupted."""
        ended = {"ended": time.time(), "step": None}
        if isinstance(error, Exception):
            error = disk.known(error)
        if not isinstance(error, Exception):
            self.say("interrupted")
            self.update(state="interrupted", **ended)
            return
        if isinstance(error, RarefyError):
            message = str(error)
            self.say(f"error: {message}")
        else:
            message = f"unexpected {type(error).__name__}: {error}"
            self.say("".join(traceback.format_exception(error)))
        first_line = next(iter(message.splitlines()), "")
        self.update(state="error", message=first_line, **ended)

    def _write(self) -> None:
        text = self.entry.model_dump_json(by_alias=True, indent=1)
        with disk.speaking(self._file.parent):
            disk.write_text(self._file, redact(text) + "\n")


class Logbook:
    """The runs of a home."""

    def __init__(self, home: Home) -> None:
        self.folder = home.path / FOLDER

    @contextmanager
    def writing(self, name: str, engine: Engine, job: dict[str, Any], total: int) -> Iterator[Page]:
        """Open a page for a run of ``total`` steps, for as long as it lasts.

        An error that leaves the block is recorded. Whatever else it came to, the block records.
        """
        started = time.time()
        clock = time.strftime("%Y%m%d-%H%M%S", time.localtime(started))
        entry = Entry(
            id=f"{name}-{clock}-{uuid.uuid4().hex[:4]}",
            name=name,
            engine=engine,
            job=job,
            host=platform.node(),
            pid=os.getpid(),
            space=space(),
            stop=_stop(),
            started=started,
            total=total,
        )
        with disk.speaking(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
            self._forget()
            lock = locks.take(self._lock(entry.id))
            log = self.log(entry.id).open("a", encoding="utf-8")
        try:
            page = Page(self.folder, entry, log)
            try:
                yield page
            except BaseException as error:
                page.broken(error)
                raise
            page.update(ended=time.time(), step=None)
        finally:
            locks.discard(self._lock(entry.id))
            lock.release()
            with disk.speaking(self.folder):  # what is still to be written may find a full disk
                log.close()

    def entries(self) -> list[Entry]:
        """Return the runs whose entries can be read, the latest first."""
        entries = [entry for entry in self._all().values() if isinstance(entry, Entry)]
        return sorted(entries, key=lambda entry: entry.started, reverse=True)

    def unreadable(self) -> dict[str, RarefyError]:
        """Return what is wrong with the other entries, by id: damage, or a newer version."""
        entries = self._all()
        return {key: error for key, error in entries.items() if isinstance(error, RarefyError)}

    def _all(self) -> dict[str, Entry | RarefyError]:
        """Return all entries by id, or what is wrong with them."""
        entries: dict[str, Entry | RarefyError] = {}
        for file in sorted(self.folder.glob("*.json")):
            try:
                entry = self._read(file)
            except (IntegrityError, NewerError) as error:
                entries[file.stem] = error
                continue
            if entry is not None:
                entries[file.stem] = entry
        return entries

    def find(self, reference: str) -> Entry:
        """Return the run with this id or beginning of an id, or the latest of a recipe's name.

        Raises RecipeError if there is none, or if several ids begin so; what is wrong with the
        entry if only one that cannot be read has such an id.
        """
        entries = self.entries()
        for entry in entries:
            if reference in (entry.id, entry.name):
                return entry
        matches = [entry for entry in entries if entry.id.startswith(reference)]
        if len(matches) == 1:
            return matches[0]
        if matches:
            ids = ", ".join(entry.id for entry in matches[:5])
            raise RecipeError(f"{reference}: {len(matches)} runs have an id that begins so: {ids}")
        for identifier, error in self.unreadable().items():
            if identifier.startswith(reference):
                raise error
        names = ", ".join(dict.fromkeys(entry.name for entry in entries)) or "none yet"
        raise RecipeError(
            f"{reference}: no such run in {self.folder}; `rarefy runs ls` lists them "
            f"(recipes: {names})"
        )

    def alive(self, entry: Entry) -> bool:
        """Return whether the process of a run still lives, also in another container.

        Its lock says so. On a network disk, a lock that another machine holds may look free: its
        run is believed to live until it removes the lock's file. So is the run of another user,
        whose folder this one may only read.
        """
        if not self._lock(entry.id).exists():
            return False
        try:
            with locks.if_free(self._lock(entry.id)) as free:
                if not free:
                    return True
        except ProviderError:
            return True
        return entry.host != platform.node() and disk.on_network(self.folder)

    def log(self, identifier: str) -> Path:
        """Return the path of a run's log file."""
        return self.folder / f"{identifier}.log"

    def follow(self, entry: Entry, show: Callable[[str], None], pause: float = 0.5) -> None:
        """Show a run's log from its beginning, and go on until the run ends."""
        with self.log(entry.id).open(encoding="utf-8") as log:
            while True:
                alive = self.alive(entry)  # asked first: what it says last is still shown
                while text := log.read(1 << 16):
                    show(text)
                if not alive:
                    return
                time.sleep(pause)

    def _read(self, file: Path) -> Entry | None:
        try:
            entry = Entry.model_validate_json(file.read_bytes())
        except FileNotFoundError:
            return None  # another run has just forgotten it
        except ValidationError:
            if _is_newer(file):
                raise NewerError(
                    f"{file}: made by a newer version of rarefy; upgrade rarefy"
                ) from None
            raise IntegrityError(f"{file}: the file is damaged; delete it") from None
        if entry.state != "running" or self.alive(entry):
            return entry
        # Between the first look and this one it may have ended.
        again = Entry.model_validate_json(file.read_bytes())
        if again.state != "running":
            return again
        written, logged = disk.changed(file), disk.changed(self.log(again.id))
        last = max(written, logged)
        return again.model_copy(update={"state": "killed", "ended": last})

    def _forget(self) -> None:
        """Delete the oldest runs that have ended, so that at most ``KEPT`` are left."""
        files = sorted(self.folder.glob("*.json"), key=disk.changed, reverse=True)
        for file in files[KEPT - 1 :]:
            with suppress(IntegrityError, NewerError):  # a damaged one is left for its user to see
                entry = self._read(file)
                if entry is not None and entry.state != "running":
                    for path in (self.log(entry.id), self._lock(entry.id), file):
                        path.unlink(missing_ok=True)

    def _lock(self, identifier: str) -> Path:
        return self.folder / f"{identifier}.lock"


def _is_newer(file: Path) -> bool:
    """Return whether an entry has the schema of a later version, which may change anything else."""
    number = _NUMBERED.search(file.read_bytes())
    if number is None:
        return False
    current = str(Entry.model_fields["schema_"].default)
    return int(number[1]) > int(current.rpartition("/")[2])


def space() -> str | None:
    """Return what tells apart the processes that one number may mean; None if not on Linux.

    Containers may share a host name, and a home folder, but not the kernel's boot and namespace.
    """
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot} {Path('/proc/self/ns/pid').readlink()}"
    except OSError:
        return None


def _stop() -> Literal["SIGTERM", "SIGINT"]:
    """Return SIGINT if SIGTERM would end this process, which may be a notebook's kernel.

    What a shell script starts in the background ignores SIGINT: SIGTERM must end that.
    """
    ends = signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    interrupts = signal.getsignal(signal.SIGINT) is not signal.SIG_IGN
    return "SIGINT" if ends and interrupts else "SIGTERM"
