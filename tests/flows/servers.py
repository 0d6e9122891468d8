"""The temporary Prefect servers of a project's runs, as the system sees them."""

from __future__ import annotations

import contextlib
from pathlib import Path

import psutil

from rarefy.flows.server import guard


def marked(home: Path) -> list[psutil.Process]:
    """The processes whose Prefect folder is this project's: the run's server and workers."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            if process.environ().get("PREFECT_HOME") == str(home / "prefect"):
                found.append(process)
    return found


def servers(home: Path) -> list[psutil.Process]:
    found = []
    for process in marked(home):
        with contextlib.suppress(psutil.Error, OSError):
            if guard.__file__ in process.cmdline():
                found.append(process)
    return found
