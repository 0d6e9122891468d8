"""Run lint and tests as CI does, in a fresh clone with a fresh environment.

``python -m benchmarks.suite`` takes about a quarter of an hour.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from benchmarks.demo import SEEDS, Checkout, fresh_clone
from benchmarks.record import Claim, finish


def suite(checkout: Checkout) -> list[Claim]:
    """Run lint and tests as CI does."""
    lint, _ = checkout.call("make lint", "make", "lint")
    test, seconds = checkout.call("make test", "make", "test")
    for line in test.stdout.splitlines():
        if line.startswith(("FAILED", "ERROR")):
            print(line, file=sys.stderr)
    closing = (test.stdout.strip().splitlines() or ["no output"])[-1].strip("= ")
    return [
        Claim(
            "make lint passes", "exit code 0", f"exit code {lint.returncode}", not lint.returncode
        ),
        Claim(
            "make test passes in a fresh clone",
            "at most 15 minutes",
            f"{seconds / 60:.1f} minutes: {closing}",
            test.returncode == 0 and seconds <= 900,
        ),
    ]


def main() -> int:
    """Run both and write the results."""
    with tempfile.TemporaryDirectory(prefix="rarefy-suite-") as folder:
        checkout = fresh_clone(Path(folder) / "rarefy")
        return finish("suite", checkout.rows, suite(checkout), SEEDS[0])


if __name__ == "__main__":
    raise SystemExit(main())
