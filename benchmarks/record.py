"""Record a benchmark's results: a table to read and a JSON file with the claims' outcomes."""

from __future__ import annotations

import json
import subprocess
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from pipeline.measure import machine

HERE = Path(__file__).parent
VERSIONS = ("rarefy", "torch", "transformers", "onnx", "onnxruntime", "optimum", "peft", "prefect")

COMMIT = subprocess.run(
    ["git", "rev-parse", "HEAD"], cwd=HERE, capture_output=True, text=True, check=False
).stdout.strip()
"""Read when the benchmark starts, because commits made while it runs are not measured."""


@dataclass(frozen=True)
class Claim:
    """What is claimed, its target, what was measured, and whether the claim holds."""

    claim: str
    target: str
    measured: str
    holds: bool


def here() -> dict[str, str]:
    """Return what a row was measured at and on: rows of a record need not be of one run."""
    return {"commit": COMMIT, "cpu": cpu()}


def cpu() -> str:
    """Return the CPU's name, and flags that tell two generations apart that clouds call alike."""
    facts = machine.fingerprint()
    name = str(facts["cpu"])
    newer = [flag for flag in ("avx_vnni", "amx_int8") if flag in facts["flags"]]
    if newer:
        name += f" ({', '.join(newer)})"
    return name


def is_of_now(note: Path) -> bool:
    """Return whether a note says that what it is about was measured at this commit on this CPU."""
    return note.is_file() and bool(json.loads(note.read_text()) == here())


def note_now(note: Path) -> None:
    """Write such a note, once what was measured before is gone."""
    note.parent.mkdir(parents=True, exist_ok=True)
    note.write_text(json.dumps(here()))


def finish(name: str, rows: list[dict[str, Any]], claims: list[Claim], seed: int) -> int:
    """Print the claims and write ``results/name.json``.

    Args:
        name: of the benchmark.
        rows: what was measured, as it can be written to JSON.
        claims: what is claimed of the rows.
        seed: of the measurement.

    Returns:
        The exit code: 0 if all claims hold, else 3.
    """
    table = Table("holds", "claim", "target", "measured", title=name)
    for claim in claims:
        holds = "yes" if claim.holds else "NO"
        table.add_row(holds, claim.claim, claim.target, claim.measured)
    Console().print(table)
    result = {
        "name": name,
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": COMMIT,
        "machine": machine.fingerprint(),
        "versions": {package: version(package) for package in VERSIONS},
        "seed": seed,
        "rows": rows,
        "must_show": [asdict(claim) for claim in claims],
    }
    path = HERE / "results" / f"{name}.json"
    path.write_text(json.dumps(result, indent=1) + "\n")
    print(f"written to {path.relative_to(HERE.parent)}")
    return 0 if all(claim.holds for claim in claims) else 3
