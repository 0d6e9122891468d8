"""What rarefy's stores promise, put to the test: everything at once, and kills at any time.

    python -m benchmarks.promises [--interleavings 500] [--kills 200] [--folder FOLDER]

The interleavings take about 20 minutes, the kills about an hour. 0 leaves a part out, and what the
record says of it stays, with the commit that it was measured at.

With ``--folder``, what is measured is kept there, and only what is missing is measured: a run that
was stopped goes on where it was. Nothing is compared by time, so the machine need not be quiet.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

from benchmarks import interleavings, kills
from benchmarks.record import COMMIT, Claim, finish

SEED = 0
RESULTS = Path(__file__).parent / "results" / "promises.json"


def main() -> int:
    """Measure, print what the measurement cannot show, and record the claims."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--interleavings", type=int, default=interleavings.COUNT)
    parser.add_argument("--kills", type=int, default=kills.COUNT)
    parser.add_argument("--folder", type=Path, default=None)
    given = parser.parse_args()
    rows, claims = [], []
    with tempfile.TemporaryDirectory(prefix="rarefy-promises-") as temporary:
        folder = given.folder or Path(temporary)
        if given.interleavings:
            mixed = interleavings.measure(given.interleavings, folder / "interleavings", SEED)
            rows.append({"part": "interleavings", "commit": COMMIT} | summary(mixed))
            claims.append(of_interleavings(mixed))
            print(f"what the interleavings cannot show: {interleavings.LIMITS}")
        if given.kills:
            struck = kills.measure(given.kills, folder / "kills", SEED)
            rows += [
                {"part": "kills", "commit": COMMIT} | row
                for row in struck
                if row["ended"] or row["violations"]
            ]
            claims.append(of_kills(struck))
            print(f"what the kills cannot show: {kills.LIMITS}")
    left = [("interleavings", given.interleavings), ("kills", given.kills)]
    for part in [name for name, count in left if not count]:
        kept = earlier(part)
        rows, claims = [*rows, *kept[0]], [*claims, *kept[1]]
    return finish("promises", rows, claims, SEED)


def earlier(part: str) -> tuple[list[dict[str, Any]], list[Claim]]:
    """Return what the record says of a part that is not measured now: its rows and its claim."""
    if not RESULTS.is_file():
        return [], []
    record = json.loads(RESULTS.read_text())
    rows = [row for row in record["rows"] if row["part"] == part]
    word = "SIGKILLs" if part == "kills" else "interleavings"
    claims = [Claim(**claim) for claim in record["must_show"] if f" {word} " in claim["claim"]]
    return [{"commit": record["commit"]} | row for row in rows], claims


def summary(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Return how often each operation ended in which way, and what was wrong with which row."""
    outcomes: Counter[str] = Counter()
    for row in rows:
        outcomes.update(row["outcomes"])
    return {
        "count": len(rows),
        "moves": sum(row["moves"] for row in rows),
        "seconds": round(sum(row["seconds"] for row in rows)),
        "outcomes": dict(sorted(outcomes.items())),
        "violations": {row["number"]: row["violations"] for row in rows if row["violations"]},
    }


def of_interleavings(rows: list[dict[str, Any]]) -> Claim:
    """Return the claim on the interleavings: none of them violates a promise."""
    found = summary(rows)
    wrong, operations = len(found["violations"]), sum(found["outcomes"].values())
    return Claim(
        f"{len(rows)} interleavings of {interleavings.PROCESSES} processes: every tag points at "
        "whole bytes, histories are linear, no move and nothing in use is lost",
        f"no violation in {interleavings.COUNT}",
        f"{wrong} with a violation; {operations} operations, {found['moves']} moves of tags",
        wrong == 0 and len(rows) >= interleavings.COUNT,
    )


def of_kills(rows: list[dict[str, Any]]) -> Claim:
    """Return the claim on the kills: no attempt violates a promise."""
    ended = [row for row in rows if row["ended"]]
    digests = {row["digest"] for row in ended}
    wrong = [row for row in rows if row["violations"]]
    steps = sum(len(row["made"]) for row in rows)
    return Claim(
        f"{kills.killed(rows)} SIGKILLs over {len(ended)} runs of a chain of 10 steps on MiniLM: "
        "the same bundle as without, all artifacts whole, nothing published is computed again",
        f"no violation in {kills.COUNT}",
        f"{len(wrong)} with a violation; {steps} steps, {len(digests)} digest(s) of the bundle",
        not wrong and len(digests) == 1 and kills.killed(rows) >= kills.COUNT,
    )


if __name__ == "__main__":
    raise SystemExit(main())
