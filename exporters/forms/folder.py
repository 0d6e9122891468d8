"""A new folder that appears whole: it is written beside its place, and renamed at the end."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rarefy.pipeline.store import disk
from rarefy.pipeline.terms.errors import RecipeError


@contextmanager
def whole(out: Path) -> Iterator[Path]:
    """Give a folder to fill; it becomes ``out`` if the block ends without an error, else it goes.

    Raises RecipeError if ``out`` is a file or a folder with something in it, and ProviderError if
    the disk is full or cannot be written.
    """
    check_new(out)
    with disk.speaking(out.parent):
        out.parent.mkdir(parents=True, exist_ok=True)
        fresh = disk.temporary(out)
        fresh.mkdir()
        try:
            yield fresh
            disk.sync_tree(fresh)
            if out.is_dir():
                out.rmdir()
            fresh.rename(out)
            disk.sync(out.parent)
        except BaseException:
            shutil.rmtree(fresh, ignore_errors=True)
            raise


def check_new(out: Path) -> None:
    """Raise RecipeError if ``out`` is a file, or a folder with something in it or that must stay.

    A folder that is mounted there, or that this process is in, cannot be replaced by another.
    """
    if out.is_symlink() or (out.exists() and not out.is_dir()):
        raise RecipeError(f"{out}: this is not a folder; name a new one")
    if out.is_dir() and any(out.iterdir()):
        raise RecipeError(f"{out}: the folder is not empty; name a new one, or empty it")
    if out.is_dir() and (out.resolve() == Path.cwd() or os.path.ismount(out)):
        raise RecipeError(f"{out}: this folder cannot be replaced; name a new one inside it")
