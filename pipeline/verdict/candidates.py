"""How many candidates were judged on the same eval rows: the best of several may pass by chance.

A limit that is at the truth lets up to 5 % of candidates pass; of three, the best passes in 12 % of
cases, of ten in 35 % (docs/explanation/accuracy.md).
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from rarefy.pipeline.terms.errors import RarefyError
from rarefy.pipeline.terms.wording import plural

if TYPE_CHECKING:
    from rarefy.pipeline.measure.measurements import Measurements
    from rarefy.pipeline.verdict.history_numbers import Past


def number_of(path: Path, data: str, bundle: str | None = None) -> int:
    """Return how many bundles the history in a file has verdicts on, by the same eval rows.

    A history that is missing, damaged or of another version has none: whoever adds to it says so.

    Args:
        path: the history's file.
        data: the digest of the eval rows.
        bundle: another one that is counted.
    """
    bundles = {bundle} if bundle else set[str]()
    if path.is_file():
        from rarefy.pipeline.verdict.history import History

        try:
            bundles |= History(path).judged_on(data)
        except RarefyError:
            return 0
    return len(bundles)


def ordinals(verdicts: Iterable[Past]) -> dict[int, int]:
    """Return for each verdict, by its id, which candidate on its eval rows it was about, from 1.

    ``verdicts``: those of all recipes, the oldest first.
    """
    from rarefy.pipeline.verdict.history import DATA

    numbers: dict[int, int] = {}
    judged: dict[str, dict[str, int]] = {}
    for past in verdicts:
        data = past.machine.facts.get(DATA)
        if data and past.bundle:
            on_these = judged.setdefault(data, {})
            numbers[past.id] = on_these.setdefault(past.bundle, len(on_these) + 1)
    return numbers


def notes(path: Path, measurements: Measurements) -> list[str]:
    """Return what there is to say of a candidate that was just judged; ``path`` as above."""
    from rarefy.pipeline.measure.measurements import CANDIDATE

    bundle = measurements.models[CANDIDATE].digest
    note = sentence(number_of(path, measurements.data, bundle), this=True)
    return [note] if note else []


def sentence(count: int, *, this: bool = False) -> str:
    """Return what the number of candidates means, "" if there is at most one.

    ``this``: whether the last of them is the one that was just judged.
    """
    if count < 1 + this:
        return ""
    verb = "has" if count == 1 else "have"
    including = ", this one included" if this else ""
    return (
        f"eval: {plural(count, 'candidate')} {verb} been judged on these rows{including}; the more "
        "are, the more often the best of them passes by chance"
    )
