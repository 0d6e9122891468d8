"""Record a benchmark's results: a table to read and a JSON file with the claims' outcomes."""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import subprocess
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from rarefy.pipeline.measure.machine import fingerprint
from rarefy.pipeline.terms.digests import file_sha256
from rarefy.pipeline.terms.interval import Interval

HERE = Path(__file__).parent
GENERATIONS = ("avx512_bf16", "avx_vnni", "amx_int8")
"""Flags that tell generations of CPUs apart that clouds call alike."""
OUTCOMES = {True: "yes", False: "NO", None: "undecided"}
EXIT_CODES = {False: 3, None: 4}
VERSIONS = ("rarefy", "torch", "transformers", "onnx", "onnxruntime", "optimum", "peft", "prefect")

CHANGED = subprocess.run(
    ["git", "status", "--porcelain", "--", "*.py"],
    cwd=HERE.parent,
    capture_output=True,
    text=True,
    check=False,
).stdout.strip()
COMMIT = subprocess.run(
    ["git", "rev-parse", "HEAD"], cwd=HERE, capture_output=True, text=True, check=False
).stdout.strip()
"""Read when the benchmark starts, because commits made while it runs are not measured."""
MEASURED = f"{COMMIT}+changed" if CHANGED else COMMIT
"""The commit that rows are of; "+changed" if code was not committed."""


@dataclass(frozen=True)
class Claim:
    """What is claimed, its target, what was measured, and whether the claim holds.

    ``holds`` is None if the measurement cannot decide, as a budget is inconclusive.
    """

    claim: str
    target: str
    measured: str
    holds: bool | None


def is_at_least(interval: Interval, least: float) -> bool | None:
    """Return whether a measured value is at least a limit, as a budget judges it.

    True if the whole interval is, False if none of it is, otherwise None.
    """
    if interval.low >= least:
        return True
    if interval.high < least:
        return False
    return None


def is_at_most(interval: Interval, most: float) -> bool | None:
    """Return whether a measured value is at most a limit; see ``is_at_least``."""
    return is_at_least(Interval(-interval.value, -interval.high, -interval.low), -most)


def worst(outcomes: Sequence[bool | None]) -> bool | None:
    """Return False if one of several is False, None if one is undecided, otherwise True."""
    if False in outcomes:
        return False
    return None if None in outcomes else True


def mean(intervals: Sequence[Interval]) -> Interval:
    """Return the mean of the values of several seeds, and the means of their bounds.

    Runs on the same rows share those rows' chance, so the interval of the mean is taken to be as
    wide as theirs are on average: no narrower, however many seeds.
    """
    values, lows, highs = zip(*intervals, strict=True)
    return Interval(statistics.mean(values), statistics.mean(lows), statistics.mean(highs))


def in_words(points: Interval) -> str:
    """Return a difference in percentage points, with its interval."""
    return f"{points.value:+.2f} points [{points.low:+.2f}, {points.high:+.2f}]"


def here() -> dict[str, str]:
    """Return what a row was measured at and on: rows of a record need not be of one run."""
    return {"commit": MEASURED, "cpu": cpu()}


def cpu(machine: Mapping[str, Any] | None = None) -> str:
    """Return the name of a machine's CPU, this one's by default, with ``GENERATIONS``' flags."""
    facts = machine or fingerprint()
    name = str(facts["cpu"])
    newer = [flag for flag in GENERATIONS if flag in facts["flags"]]
    if newer:
        name += f" ({', '.join(newer)})"
    return name


def origins(result: Mapping[str, Any]) -> Counter[tuple[str, str]]:
    """Return on which CPU and at which commit how many rows of a record were measured."""
    counted: Counter[tuple[str, str]] = Counter()
    of_record = cpu(result["machine"])
    for row in result["rows"]:
        if "commit" in row:
            counted[row.get("cpu", "not noted"), row["commit"]] += 1
        else:
            counted[of_record, result["commit"]] += 1
    return counted


def is_of_now(note: Path, **subject: str) -> bool:
    """Return whether what a note is about was measured at this commit, on this CPU, of a subject.

    Args:
        note: a file that ``note_now`` wrote.
        subject: what was measured, in any words.
    """
    return note.is_file() and bool(json.loads(note.read_text()) == here() | subject)


def note_now(note: Path, **subject: str) -> None:
    """Write such a note, once what was measured before is gone."""
    note.parent.mkdir(parents=True, exist_ok=True)
    note.write_text(json.dumps(here() | subject))


def trials_of_now(name: str, bundle: Path) -> Path:
    """Return the folder of a benchmark's trials: with those of a run that was stopped.

    Trials of another bundle or commit, or of another CPU, are removed. Whoever comes to the end
    removes the folder, so that the next run measures again.

    Args:
        name: of the benchmark.
        bundle: what is measured.
    """
    folder = HERE.parent / ".rarefy" / "benchmarks" / name / "trials"
    note = folder / "measured.json"
    model = file_sha256(bundle / "model.onnx")
    if not is_of_now(note, model=model):
        shutil.rmtree(folder, ignore_errors=True)
        note_now(note, model=model)
    return folder


def load_or_make(path: Path, make: Callable[[], Any]) -> Any:
    """Return what a JSON file has; make and write it if it is missing."""
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        value = make()
        part = path.with_suffix(".part")
        part.write_text(json.dumps(value))
        part.rename(path)
    return json.loads(path.read_text())


def parse(parser: argparse.ArgumentParser, names: Iterable[str], what: str) -> argparse.Namespace:
    """Return the options of the command line, with ``names``: what to measure, or all of it.

    Args:
        parser: has the other options.
        names: of all that can be measured, in order.
        what: one of them is called, such as PART.
    """
    known = list(names)
    parser.add_argument("names", nargs="*", metavar=what, help="; ".join(known))
    options = parser.parse_args()
    for name in options.names:
        if name not in known:
            parser.error(f"no {what.lower()} {name!r}, only {'; '.join(known)}")
    options.names = options.names or known
    return options


def finish(name: str, rows: list[dict[str, Any]], claims: list[Claim], seed: int) -> int:
    """Print the claims and write ``results/name.json``.

    Args:
        name: of the benchmark.
        rows: what was measured, as it can be written to JSON.
        claims: what is claimed of the rows.
        seed: of the measurement.

    Returns:
        The exit code: 3 if a claim does not hold, 4 if one is undecided, else 0.
    """
    table = Table("holds", "claim", "target", "measured", title=name)
    for claim in claims:
        table.add_row(OUTCOMES[claim.holds], claim.claim, claim.target, claim.measured)
    Console().print(table)
    result = {
        "name": name,
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": MEASURED,
        "machine": fingerprint(),
        "versions": {package: version(package) for package in VERSIONS},
        "seed": seed,
        "rows": rows,
        "must_show": [asdict(claim) for claim in claims],
    }
    path = HERE / "results" / f"{name}.json"
    path.write_text(json.dumps(result, indent=1) + "\n")
    print(f"written to {path.relative_to(HERE.parent)}")
    for outcome in (False, None):
        if any(claim.holds is outcome for claim in claims):
            return EXIT_CODES[outcome]
    return 0
