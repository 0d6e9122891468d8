"""Ends a run whose stage takes too long, also if the stage never comes back from C code.

A signal's handler, a thread or Prefect's ``timeout_seconds`` all wait for Python to get its turn,
which native code need not give. So a process of its own watches the clock: if the stage has not
ended in time, it says so where the run would have (stderr, the JSON on stdout, the logbook, the
files of a gate), tells Prefect that the flow run failed, and kills the run with all that the run
has started. Finished stages are kept, and a stage that saves its progress resumes.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from flows import prefect_server
from pipeline.measure import alone

if TYPE_CHECKING:
    import psutil

EXIT_CODE = 5
"""What ``rarefy submit --watch`` exits with."""
KILLED = 137
"""128 + SIGKILL, as a shell reports a process that was killed."""
WAITS, GOES_ON = b"waits", b"goes on"
"""What the watch is told when the stage waits for the machine, and when it has it."""
LOOK = 5.0
"""Seconds between two looks whether a stage that waits is still there."""
SECONDS = 10.0
"""How long the server may take to note the end of the flow run."""
LONGEST = 30.0
"""Seconds after which the run is killed, whatever keeps its end from being noted."""


@contextlib.contextmanager
def limit(
    stage: str, seconds: float | None, flow_run: dict[str, Any] | None, home: str | None = None
) -> Iterator[None]:
    """Kill this process if what is done in this context takes longer than ``seconds``.

    Waiting for the machine to measure on does not count.

    ``flow_run``: ``url`` of its final state in Prefect's API, with the ``headers`` to send; None
    without a server. ``home``: the folder whose logbook knows the run.
    """
    if seconds is None:
        yield
        return
    import psutil

    from flows.options import asks_json

    told = {
        "process": os.getpid(),
        "born": psutil.Process().create_time(),
        "seconds": seconds,
        "message": f"{stage}: stopped, because it took longer than {seconds:g} s; finished stages "
        "are kept",
        "flow_run": flow_run,
        "home": home,
        "json": asks_json(),
    }
    watch = subprocess.Popen(
        [sys.executable, "-P", "-m", __name__],
        stdin=subprocess.PIPE,  # closed by the system when this process and its forks end
        stdout=None if told["json"] else subprocess.DEVNULL,
        start_new_session=True,  # Ctrl-C and a closed terminal end the run, not its watch
    )
    assert watch.stdin is not None
    tell = partial(_tell, watch.stdin)
    try:
        tell(json.dumps(told).encode())
        with alone.pausing(lambda: _paused(tell)):
            yield
    finally:
        with contextlib.suppress(OSError):  # somebody has killed the watch
            watch.stdin.write(b"\n")  # a fork of this process may hold the pipe open
            watch.stdin.close()
        watch.wait()


def _tell(watch: IO[bytes], word: bytes) -> None:
    watch.write(word + b"\n")
    watch.flush()


@contextlib.contextmanager
def _paused(tell: Callable[[bytes], None]) -> Iterator[None]:
    with contextlib.suppress(OSError):  # somebody has killed the watch
        tell(WAITS)
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            tell(GOES_ON)


def _watch() -> None:
    """Read what to watch from stdin; then, that it waits and goes on.

    Another line, or the end of stdin, says that it has ended.
    """
    told = json.loads(sys.stdin.buffer.readline())
    words: queue.SimpleQueue[bytes] = queue.SimpleQueue()

    def read() -> None:
        while word := sys.stdin.buffer.readline().strip():
            words.put(word)
        words.put(b"")

    threading.Thread(target=read, daemon=True).start()
    run = _process(told["process"], told["born"])
    if run is None or _ends(words, told["seconds"], run.is_running) or not run.is_running():
        os._exit(0)  # the thread may still read
    # A disk that hangs, or a folder that another run has locked, does not save the stage.
    saying = threading.Thread(target=_say, args=(told,), daemon=True)
    saying.start()
    saying.join(LONGEST)
    _kill(run)
    os._exit(0)  # the thread still reads


def _say(told: dict[str, Any]) -> None:
    """Say why the run ends, wherever the run itself would have said it."""
    message = told["message"]
    with contextlib.suppress(OSError):  # nobody reads it
        print(f"rarefy: {message}", file=sys.stderr, flush=True)
    with contextlib.suppress(OSError):
        if told["json"]:
            print(json.dumps({"error": message, "exit_code": KILLED}), flush=True)
    if told["home"] is not None:
        _note(Path(told["home"]), told["process"], message)
    if told["flow_run"] is not None:
        with contextlib.suppress(OSError, ValueError):
            _report(told["flow_run"], message)


def _note(home: Path, process: int, message: str) -> None:
    """Record why the runs of a process end, also in the files of a gate."""
    # Imported late: a stage that ends in time waits for its watch to have started.
    from pipeline.run import folder
    from pipeline.run.logbook import Logbook
    from pipeline.store.home import Home
    from pipeline.terms.errors import RarefyError

    with contextlib.suppress(RarefyError, OSError):
        for entry in Logbook(Home(home)).note(process, message):
            if entry.job.get("ci"):
                recipe, out = Path(entry.job["recipe"]), Path(entry.job["out"])
                folder.draw_broken(recipe.stem, message, out)


def _ends(words: queue.SimpleQueue[bytes], seconds: float, lives: Callable[[], bool]) -> bool:
    """Return whether the stage ends before it has taken so many seconds without its waiting."""
    waits = False
    while True:
        began = time.monotonic()
        try:
            word = words.get(timeout=LOOK if waits else max(0.0, seconds))
        except queue.Empty:
            if not waits or not lives():  # a fork of a killed process may hold the pipe open
                return waits
            continue
        if not waits:
            seconds -= time.monotonic() - began
        if word != (GOES_ON if waits else WAITS):
            return True
        waits = not waits


def _report(flow_run: dict[str, Any], message: str) -> None:
    """Set the flow run's final state. A worker that reports a crash afterwards changes nothing."""
    state = {
        "type": "FAILED",
        "name": "Failed",
        "message": f"{message} (exit code {EXIT_CODE})",
    }
    request = urllib.request.Request(  # noqa: S310 - the address of the user's own server
        flow_run["url"],
        json.dumps({"state": state, "force": True}).encode(),
        {"Content-Type": "application/json", **flow_run["headers"]},
    )
    prefect_server.opener(flow_run["url"]).open(request, timeout=SECONDS).close()


def _process(number: int, born: float) -> psutil.Process | None:
    """Return the process with this number; None if it has ended, and another may have its number.

    Whether it still lives is for its ``is_running`` to say: ``born`` is by the clock, and would be
    another time once that is set.
    """
    import psutil

    with contextlib.suppress(psutil.Error):
        found = psutil.Process(number)
        return found if found.create_time() == born else None
    return None


def _kill(run: psutil.Process) -> None:
    import psutil

    with contextlib.suppress(psutil.Error):
        started = [each for each in run.children(recursive=True) if each.pid != os.getpid()]
        for each in (run, *started):
            with contextlib.suppress(psutil.Error):
                each.kill()


if __name__ == "__main__":
    _watch()
