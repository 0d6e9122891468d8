"""The bundle and rows that the benchmarks of measurement use: those of the demo."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from rich.progress import Progress

ROOT = Path(__file__).parent.parent
ROWS = 200
TRIALS = 100
"""Number of trials behind the claims; with fewer, a run is a rehearsal and proves nothing."""


def parser(about: str) -> argparse.ArgumentParser:
    """Return a parser of ``--bundle`` and ``--trials``."""
    parser = argparse.ArgumentParser(
        description=about, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--bundle", type=Path, default=ROOT / ".rarefy" / "runs" / "demo" / "bundle"
    )
    parser.add_argument("--trials", type=int, default=TRIALS)
    return parser


def arguments(parser: argparse.ArgumentParser) -> argparse.Namespace:
    """Read the arguments; exit if there is no bundle."""
    options = parser.parse_args()
    if not (options.bundle / "model.onnx").is_file():
        sys.exit(f"{options.bundle}: no bundle; run `make demo`, or name a bundle with --bundle")
    return options


def texts() -> list[str]:
    """Return the first rows of the demo's eval split."""
    return all_texts()[:ROWS]


def all_texts() -> list[str]:
    """Return all rows of the demo's eval split."""
    path = ROOT / "examples" / "data" / "movie-reviews" / "eval.jsonl"
    return [json.loads(line)["text"] for line in path.read_text().splitlines()]


def progress() -> Progress:
    """Return a progress bar on stderr."""
    from rich.console import Console

    return Progress(console=Console(stderr=True))
