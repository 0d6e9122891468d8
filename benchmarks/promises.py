"""What rarefy's stores promise, put to the test: random interleavings of everything at once.

    python -m benchmarks.promises [--interleavings 500] [--folder FOLDER]      about 20 minutes

With ``--folder``, what is measured is kept there, and only what is missing is measured: a run that
was stopped goes on where it was. Nothing is compared by time, so the machine need not be quiet.
"""

from __future__ import annotations

import argparse
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

from benchmarks import interleavings
from benchmarks.record import Claim, finish

SEED = 0


def main() -> int:
    """Measure, print what the measurement cannot show, and record the claims."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--interleavings", type=int, default=interleavings.COUNT)
    parser.add_argument("--folder", type=Path, default=None)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="rarefy-promises-") as temporary:
        folder = given.folder or Path(temporary)
        mixed = interleavings.measure(given.interleavings, folder / "interleavings", SEED)
    rows = [{"part": "interleavings"} | row for row in mixed]
    print(f"what this cannot show: {interleavings.LIMITS}")
    return finish("promises", rows, [of_interleavings(mixed)], SEED)


def of_interleavings(rows: list[dict[str, Any]]) -> Claim:
    """Return the claim on the interleavings: none of them violates a promise."""
    outcomes: Counter[str] = Counter()
    for row in rows:
        outcomes.update(row["outcomes"])
    wrong = sum(1 for row in rows if row["violations"])
    moves = sum(row["moves"] for row in rows)
    return Claim(
        f"{len(rows)} interleavings of {interleavings.PROCESSES} processes: every tag points at "
        "whole bytes, histories are linear, no move and nothing in use is lost",
        "no violation",
        f"{wrong} with a violation; {sum(outcomes.values())} operations, {moves} moves of tags",
        wrong == 0,
    )


if __name__ == "__main__":
    raise SystemExit(main())
