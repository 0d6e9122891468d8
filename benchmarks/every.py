"""Run every benchmark, even after one broke off, and print a table of the outcomes.

``make benchmark`` calls it. It takes long and needs a quiet machine; with names, only
those run. With ``--stale``, nothing runs: it lists the records whose subject has changed since.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from rich.console import Console
from rich.table import Table

from benchmarks import stale

NAMES: Final = (
    "demo",
    "newcomer",
    "operations",
    "tasks",
    "reach",
    "coverage",
    "coverage_tasks",
    "wrong_verdicts",
    "false_alarms",
    "queues",
    "gates",
    "power",
    "throughput",
    "knowledge",
    "lexicon",
    "promises",
    "hostile",
    "pages",
    "large",
    "passes",
    "opset",
    "floor",
    "tried",
    "deployed",
    "serving_calls",
    "site",
    "sources",
    "sweep",
    "race",
    "gpu",
    "ablation",
    "pruning",
    "repair",
    "low_rank",
    "recovery",
    "merging",
    "adapters",
    "adapter_bundles",
    "students",
)
WITH_STUDENTS: Final = (
    "newcomer",
    "knowledge",
    "lexicon",
    "gpu",
    "ablation",
    "pruning",
    "repair",
    "low_rank",
    "recovery",
    "merging",
    "adapters",
    "adapter_bundles",
    "students",
)
"""Those that keep their work in a folder of their own in ``--students``."""
OUTCOMES: Final = {
    0: "every claim holds",
    3: "a claim does not hold",
    4: "a claim is undecided",
    5: "not run: this machine lacks something that it needs",
}
"""Exit code of a benchmark -> what it means."""


def command(name: str, race: Path, students: Path) -> list[str]:
    """Return the command that runs a benchmark.

    Args:
        name: one of ``NAMES``.
        race: the folder in which the race keeps its tools.
        students: the folder in which those of ``WITH_STUDENTS`` keep their work.
    """
    words = [sys.executable, "-m", f"benchmarks.{name}"]
    if name == "race":
        words += ["--home", str(race)]
    if name in WITH_STUDENTS:
        words += ["--home", str(students / name)]
    return words


def outcomes(codes: Mapping[str, int]) -> Table:
    """Return a table of each benchmark's outcome."""
    table = Table("benchmark", "outcome", title="every benchmark")
    for name, code in codes.items():
        table.add_row(name, OUTCOMES.get(code, f"broke off with exit code {code}"))
    return table


def main(arguments: Sequence[str] | None = None) -> int:
    """Run them one after another; return 1 if one broke off, else 0."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help="default: all")
    parser.add_argument("--race", type=Path, help="where the race keeps its tools")
    parser.add_argument("--students", type=Path, help="where students are kept")
    parser.add_argument("--stale", action="store_true", help="list the records that are stale")
    options = parser.parse_args(arguments)
    if options.stale:
        Console().print(stale.table())
        return 0
    if options.race is None or options.students is None:
        parser.error("--race and --students say where tools and work are kept")
    unknown = set(options.names) - set(NAMES)
    if unknown:
        parser.error(f"no such benchmark: {', '.join(sorted(unknown))}")
    codes = {}
    for name in options.names or NAMES:
        print(f"== {name}", flush=True)
        words = command(name, options.race, options.students)
        codes[name] = subprocess.run(words, check=False).returncode
    Console().print(outcomes(codes))
    broke_off = any(code not in OUTCOMES for code in codes.values())
    return int(broke_off)


if __name__ == "__main__":
    sys.exit(main())
