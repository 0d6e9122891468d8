"""Folders that are made once for all workers of a session, to be copied by their tests."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from filelock import FileLock


def make_once(factory: pytest.TempPathFactory, name: str, write: Callable[[Path], object]) -> Path:
    """Return the folder of a template; the first worker that asks for it has it written.

    Args:
        factory: Where the temporary folders of this worker are.
        name: The template's, unique in the session.
        write: Fills the folder.
    """
    root = factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        root = root.parent
    folder, complete = root / f"template-{name}", root / f"template-{name}.complete"
    with FileLock(f"{folder}.lock"):
        if not complete.exists():  # or what another worker left behind when it failed
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
            write(folder)
            complete.touch()
    return folder
