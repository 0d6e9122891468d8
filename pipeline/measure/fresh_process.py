"""Run a job in a fresh Python process, free of this process's memory and threads."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import rarefy
from rarefy.pipeline.terms.errors import EvidenceError, ProviderError, RarefyError

Job = Callable[[dict[str, Any]], dict[str, Any]]
_POLL = 0.25


def call(
    module: str,
    request: dict[str, Any],
    *,
    what: str,
    timeout: float,
    threads: int = 1,
    tick: Callable[[], None] = lambda: None,
    remedy: str = "",
) -> dict[str, Any]:
    """Run ``python -m module`` with a JSON request and return its JSON answer.

    ``what`` names the job in errors. ``tick`` is called a few times per second while it runs.
    ``remedy``: what helps if it takes too long.

    Raises ProviderError if the process reports a missing execution provider, EvidenceError if it
    dies, fails, or takes more than ``timeout`` seconds.
    """
    with tempfile.TemporaryDirectory(prefix="rarefy-measure-") as name:
        folder = Path(name)
        (folder / "request.json").write_text(json.dumps(request))
        command = [sys.executable, "-P", "-m", module, str(folder)]
        with (folder / "stderr").open("w") as stderr:
            process = subprocess.Popen(
                command, stdout=subprocess.DEVNULL, stderr=stderr, env=_environment(threads)
            )
            code = _wait(process, what, timeout, tick, remedy)
        if code:
            raise _failure(code, (folder / "stderr").read_text(errors="replace"), what)
        answer: dict[str, Any] = json.loads((folder / "answer.json").read_text())
        return answer


def serve(job: Job) -> None:
    """Run in the process that ``call`` starts: read the request, do the job, write the answer."""
    folder = Path(sys.argv[1])
    try:
        answer = job(json.loads((folder / "request.json").read_text()))
    except RarefyError as error:
        print(error, file=sys.stderr)
        sys.exit(error.exit_code)
    (folder / "answer.json").write_text(json.dumps(answer))


def _environment(threads: int) -> dict[str, str]:
    """Return an environment with ``threads`` OpenMP threads that imports this very package.

    PYTHONPATH makes the import independent of the working directory.
    """
    environment = dict(os.environ)
    root = str(Path(rarefy.__file__).resolve().parents[1])
    paths = [root, environment.get("PYTHONPATH", "")]
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, paths))
    environment["OMP_NUM_THREADS"] = str(threads)
    environment["TOKENIZERS_PARALLELISM"] = "false"
    return environment


def _wait(
    process: subprocess.Popen[bytes],
    what: str,
    timeout: float,
    tick: Callable[[], None],
    remedy: str,
) -> int:
    deadline = time.monotonic() + timeout
    try:
        while time.monotonic() < deadline:
            try:
                return process.wait(_POLL)
            except subprocess.TimeoutExpired:
                tick()
        raise EvidenceError(f"{what} did not finish within {timeout:.0f} s and was stopped{remedy}")
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()


def _failure(code: int, stderr: str, what: str) -> RarefyError:
    lines = [line for line in stderr.strip().splitlines() if line.strip()]
    last = lines[-1].strip() if lines else "it printed no error"
    if code == ProviderError.exit_code:
        return ProviderError(last)
    if code < 0:
        name = signal.Signals(-code).name
        hint = "; the machine may have run out of memory" if name == "SIGKILL" else ""
        return EvidenceError(f"{what} was killed by {name}{hint}")
    return EvidenceError(f"{what} failed with exit code {code}: {last}")
