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
    options = parser.parse_args()
    rows: list[dict[str, Any]] = []
    claims: list[Claim] = []
    with tempfile.TemporaryDirectory(prefix="rarefy-promises-") as temporary:
        folder = options.folder or Path(temporary)
        if options.interleavings:
            outcomes = interleavings.measure(options.interleavings, folder / "interleavings", SEED)
            rows.append({"part": "interleavings", "commit": COMMIT} | summary(outcomes))
            claims.append(claim_of_interleavings(outcomes))
            print(f"what the interleavings cannot show: {interleavings.LIMITS}")
        if options.kills:
            attempts = kills.measure(options.kills, folder / "kills", SEED)
            for attempt in attempts:
                if attempt["ended"] or attempt["violations"]:
                    rows.append({"part": "kills", "commit": COMMIT} | attempt)
            claims.append(claim_of_kills(attempts))
            print(f"what the kills cannot show: {kills.LIMITS}")
    for part, count in (("interleavings", options.interleavings), ("kills", options.kills)):
        if not count:
            earlier_rows, earlier_claims = earlier(part)
            rows += earlier_rows
            claims += earlier_claims
    return finish("promises", rows, claims, SEED)


def earlier(part: str) -> tuple[list[dict[str, Any]], list[Claim]]:
    """Return what the record says of a part that is not measured now: its rows and its claim."""
    if not RESULTS.is_file():
        return [], []
    record = json.loads(RESULTS.read_text())
    rows = []
    for row in record["rows"]:
        if row["part"] == part:
            rows.append({"commit": record["commit"]} | row)
    word = "SIGKILLs" if part == "kills" else "interleavings"
    claims = [Claim(**claim) for claim in record["must_show"] if f" {word} " in claim["claim"]]
    return rows, claims


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


def claim_of_interleavings(rows: list[dict[str, Any]]) -> Claim:
    """Return the claim on the interleavings: none of them violates a promise."""
    total = summary(rows)
    wrong = len(total["violations"])
    operations = sum(total["outcomes"].values())
    return Claim(
        f"{len(rows)} interleavings of {interleavings.PROCESSES} processes: every tag points at "
        "whole bytes, histories are linear, no move and nothing in use is lost",
        f"no violation in {interleavings.COUNT}",
        f"{wrong} with a violation; {operations} operations, {total['moves']} moves of tags",
        wrong == 0 and len(rows) >= interleavings.COUNT,
    )


def claim_of_kills(rows: list[dict[str, Any]]) -> Claim:
    """Return the claim on the kills: no attempt violates a promise."""
    ended = [row for row in rows if row["ended"]]
    digests = {row["digest"] for row in ended}
    wrong = [row for row in rows if row["violations"]]
    steps = sum(len(row["made"]) for row in rows)
    count = kills.killed(rows)
    return Claim(
        f"{count} SIGKILLs over {len(ended)} runs of a chain of 10 steps on MiniLM: "
        "the same bundle as without, all artifacts whole, nothing published is computed again",
        f"no violation in {kills.COUNT}",
        f"{len(wrong)} with a violation; {steps} steps, {len(digests)} digest(s) of the bundle",
        not wrong and len(digests) == 1 and count >= kills.COUNT,
    )


if __name__ == "__main__":
    raise SystemExit(main())
