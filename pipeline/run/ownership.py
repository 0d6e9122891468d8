"""Tell the files that rarefy wrote to a run's folder from files of others with the same name.

Only rarefy's own files may be replaced or removed. ``--out`` can be any folder, and ``run.json`` or
``metrics.txt`` are common names.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from pipeline.run import names
from pipeline.store.artifact import MANIFEST
from pipeline.terms.errors import RecipeError

_MARKS = {
    names.REPORT: rb'<meta name="generator" content="rarefy">|<p class="eyebrow"><span>rarefy<',
    names.SUMMARY: "\\A## (✓|✗|\\?|○) ".encode(),
    names.VERDICT: rb'"schema":\s*"rarefy\.verdict/',
    names.RECORD: rb'"schema":\s*"rarefy\.run/',
    names.ANSWERS: rb'"schema":\s*"rarefy\.answers/',
    names.JUNIT: rb'<testsuites name="rarefy"',
    names.METRICS: rb"\A# TYPE rarefy_",
}
"""What each file contains if rarefy wrote it."""
_FINISHED = rb'<testsuites name="rarefy"(?s:.*)<properties>'
"""In the junit.xml of a run that reached its end, which also wrote the files without a mark."""
_MANIFEST = rb'"schema":\s*"rarefy\.artifact/'


def check(directory: Path) -> None:
    """Raise RecipeError if a file or folder that a run would replace was not written by rarefy.

    The formats of Bencher and github-action-benchmark have no room for a mark: they are rarefy's if
    the junit.xml beside them is that of a finished run.
    """
    finished = _has(directory / names.JUNIT, _FINISHED)
    for name in names.FILES:
        path = directory / name
        ours = _has(path, _MARKS[name]) if name in _MARKS else finished
        if path.exists() and not ours:
            raise _foreign(path)
    folder = directory / names.BUNDLE
    ours = folder.is_dir() and not folder.is_symlink()
    if ours and any(folder.iterdir()):
        ours = _has(folder / MANIFEST, _MANIFEST)
    if os.path.lexists(folder) and not ours:
        raise _foreign(folder)


def check_page(page: Path) -> None:
    """Raise RecipeError if a page would replace a file that rarefy did not write."""
    if page.is_file() and page.stat().st_size and not _has(page, _MARKS[names.REPORT]):
        raise RecipeError(
            f"{page}: rarefy did not write this and would replace it; choose another name"
        )


def _has(path: Path, mark: bytes) -> bool:
    return path.is_file() and re.search(mark, path.read_bytes()) is not None


def _foreign(path: Path) -> RecipeError:
    return RecipeError(
        f"{path}: rarefy did not make this and would replace it; move it away, or choose another "
        "folder with --out"
    )
