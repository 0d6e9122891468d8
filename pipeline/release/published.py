"""What runs on other machines found of a bundle, in a store's ``runs/RECIPE/TIME-RUN/``."""

from __future__ import annotations

import json
from pathlib import Path, PurePosixPath
from typing import Final

from pipeline.run import folder, names
from pipeline.store import remote
from pipeline.store.home import Home
from pipeline.store.remote import Remote
from pipeline.store.remote_files import READ_ONLY
from pipeline.terms.errors import EvidenceError
from pipeline.terms.vocabulary import REMOTE_TAG
from pipeline.verdict import history

RUNS: Final = "runs"
"""The folder of a store that holds what deployed runs publish."""
APART: Final = "~"
"""Between a run's time, by which they are sorted, and its recipe, in whose name it is not."""


def bring(reference: str, digest: str, into: Path) -> Home:
    """Fetch every run with a verdict on a bundle from the store of ``URL#TAG`` or ``URL#DIGEST``.

    Returns a home in the folder ``into`` with these runs, named for their time, and the history of
    their verdicts, so that what holds for runs of this machine can be asked of them. Other
    references, and the web, where no run can publish, have none.

    Raises EvidenceError if a run cannot be read, because its verdict may be a miss, and what
    reading the store raises.
    """
    home = Home(into)
    if REMOTE_TAG not in reference:
        return home
    there = Remote.open(remote.split(reference)[0])
    if there.protocols & READ_ONLY:
        return home
    past = history.History(home.path / history.FILE)
    for run in _runs(there):
        here = home.runs / f"{run.name}{APART}{run.parent.name}"
        if not _is_on(there, run, digest):
            continue
        here.mkdir(parents=True)
        for name in (names.RECORD, names.ANSWERS):
            data = there.read(f"{run}/{name}")
            if data is not None:
                (here / name).write_bytes(data)
        try:
            past.add(folder.read(here))
        except (OSError, ValueError) as error:
            raise EvidenceError(
                f"{there.url}/{run}: its verdict on {digest[:12]} cannot be read: {error}; delete "
                "this run there if it does not count"
            ) from None
    return home


def address(reference: str, run: Path) -> str:
    """Return where the run lies in the store that ``bring`` has fetched it from."""
    name, _, recipe = run.name.partition(APART)
    return f"{remote.split(reference)[0].rstrip('/')}/{RUNS}/{recipe}/{name}"


def _runs(there: Remote) -> list[PurePosixPath]:
    """Return the folders of a store's runs that have a verdict, the oldest first."""
    found = [PurePosixPath(RUNS, path).parent for path in there.sizes(RUNS) if _is_verdict(path)]
    return sorted(found, key=lambda run: run.name)


def _is_verdict(path: str) -> bool:
    return path.count("/") == 2 and path.endswith(f"/{names.VERDICT}")


def _is_on(there: Remote, run: PurePosixPath, digest: str) -> bool:
    """Return whether a run's verdict is on a bundle; of a damaged one, by the run's record."""
    try:
        found = json.loads(there.read(f"{run}/{names.VERDICT}") or b"null")
    except ValueError:
        return digest.encode() in (there.read(f"{run}/{names.RECORD}") or b"")
    return isinstance(found, dict) and found.get("bundle") == digest
