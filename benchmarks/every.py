"""Run every benchmark, whatever the one before came to, and say at the end what each came to.

``make benchmark`` calls it. It takes long and needs a quiet machine; with names, only
those run. Left out are ``vocabulary`` and ``beside``, which need a folder or a commit to be named.
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

NAMES: Final = (
    *("suite", "demo", "operations", "tasks", "reach", "blocks", "batches", "knowledge_recipe"),
    *(
        "coverage",
        "coverage_tasks",
        "false_alarms",
        "queues",
        "power",
        "knowledge",
        "promises",
        "million",
    ),
    *(
        "large",
        "passes",
        "four_bits",
        "ranges",
        "saturation",
        "portable",
        "plan_search",
        "floor",
        "chains",
        "threads",
    ),
    *(
        "attention",
        "tried",
        "deployed",
        "sweep",
        "race",
        "gpu",
        "ablation",
        "pruning",
        "students",
        "long_texts",
    ),
)
IN_STUDENTS: Final = ("gpu", "ablation", "pruning", "students", "long_texts")
"""Those that keep what they make in a folder of their own, in ``--students``."""
CODES: Final = {
    0: "every claim holds",
    3: "a claim does not hold",
    5: "not run: this machine lacks something that it needs",
}


def command(name: str, race: Path, students: Path) -> list[str]:
    """Return what runs a benchmark."""
    kept = {"race": race} | {each: students / each for each in IN_STUDENTS}
    words = ["--home", str(kept[name])] if name in kept else []
    return [sys.executable, "-m", f"benchmarks.{name}", *words]


def table(codes: Mapping[str, int]) -> Table:
    """Return what each benchmark came to."""
    made = Table("benchmark", "came to", title="every benchmark")
    for name, code in codes.items():
        made.add_row(name, CODES.get(code, f"broke off with exit code {code}"))
    return made


def main(arguments: Sequence[str] | None = None) -> int:
    """Run them one after another; return 1 if one broke off, else 0."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help="default: all")
    parser.add_argument("--race", type=Path, required=True, help="where the race keeps its tools")
    parser.add_argument("--students", type=Path, required=True, help="where students are kept")
    given = parser.parse_args(arguments)
    if unknown := set(given.names) - set(NAMES):
        parser.error(f"no such benchmark: {', '.join(sorted(unknown))}")
    codes = {}
    for name in given.names or NAMES:
        print(f"== {name}", flush=True)
        words = command(name, given.race, given.students)
        codes[name] = subprocess.run(words, check=False).returncode
    Console().print(table(codes))
    return int(any(code not in CODES for code in codes.values()))


if __name__ == "__main__":
    sys.exit(main())
