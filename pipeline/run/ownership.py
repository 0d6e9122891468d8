"""Tell the files that rarefy wrote to a run's folder from files of others with the same name.

Only rarefy's own files may be replaced or removed. ``--out`` can be any folder, and ``run.json`` or
``metrics.txt`` are common names.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from pipeline.terms.errors import RecipeError

_MARKS = {
    "report.html": rb'<meta name="generator" content="rarefy">|<p class="eyebrow"><span>rarefy<',
    "summary.md": "\\A## (✓|✗|\\?|○) ".encode(),
    "verdict.json": rb'"schema":\s*"rarefy\.verdict/',
    # Records of earlier versions have no schema.
    "run.json": rb'"schema":\s*"rarefy\.run/|"ledger":(?s:.*)"lineage":',
    "answers.safetensors": rb'"schema":\s*"rarefy\.answers/',
    "junit.xml": rb'<testsuites name="rarefy"',
    "metrics.txt": rb"\A# TYPE rarefy_",
}
"""What each file contains if rarefy wrote it."""
_FINISHED = rb'<testsuites name="rarefy"(?s:.*)<properties>'
"""In the junit.xml of a run that reached its end, which also wrote the files without a mark."""
_MANIFEST = rb'"schema":\s*"rarefy\.artifact/'


def check(directory: Path, files: tuple[str, ...], bundle: str) -> None:
    """Raise RecipeError if one of ``files``, or the folder ``bundle``, is not rarefy's.

    The formats of Bencher and github-action-benchmark have no room for a mark: they are rarefy's if
    the junit.xml beside them is that of a finished run.
    """
    finished = _has(directory / "junit.xml", _FINISHED)
    for name in files:
        path = directory / name
        ours = _has(path, _MARKS[name]) if name in _MARKS else finished
        if path.exists() and not ours:
            raise _foreign(path)
    folder = directory / bundle
    ours = folder.is_dir() and not folder.is_symlink()
    if ours and any(folder.iterdir()):
        ours = _has(folder / "manifest.json", _MANIFEST)
    if os.path.lexists(folder) and not ours:
        raise _foreign(folder)


def _has(path: Path, mark: bytes) -> bool:
    return path.is_file() and re.search(mark, path.read_bytes()) is not None


def _foreign(path: Path) -> RecipeError:
    return RecipeError(
        f"{path}: rarefy did not make this and would replace it; move it away, or choose another "
        "folder with --out"
    )
