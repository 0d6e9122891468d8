"""What a batch does to the demo's dynamic int8 bundle: answers and time, rows alone and together.

python -m benchmarks.batches [RUN]     after `rarefy run examples/demo.yaml`; about ten seconds
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.record import Claim, finish
from rarefy.pipeline.release.predict import BATCH, Bundle

ROOT = Path(__file__).parent.parent
EVAL = ROOT / "examples/data/movie-reviews/eval.jsonl"


def main() -> int:
    """Ask every eval row alone, as by default, and in batches; write how the answers differ."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", nargs="?", default=str(ROOT / ".rarefy/runs/demo/bundle"))
    model = Bundle(parser.parse_args().run)
    texts = [json.loads(line)["text"] for line in EVAL.read_text().splitlines()]
    rows: list[dict[str, Any]] = []
    shares, labels = {}, {}
    for name, size in (("alone", 1), ("default", None), ("together", BATCH)):
        began = time.perf_counter()
        answers = model.predict(texts, batch_size=size)
        seconds = round(time.perf_counter() - began, 3)
        shares[name] = np.array([[*answer.probabilities.values()] for answer in answers])
        labels[name] = [answer.label for answer in answers]
        rows.append({"rows": name, "batch_size": size, "seconds": seconds})
    for name in ("default", "together"):
        moved = np.abs(shares[name] - shares["alone"]).max(axis=1)
        flips = sum(a != b for a, b in zip(labels[name], labels["alone"], strict=True))
        rows.append({"rows": name, "flips": flips, "largest": float(moved.max())})
    default, together = rows[-2], rows[-1]
    claims = [
        Claim(
            "by default a dynamic int8 bundle answers each row as if it were alone",
            "no probability differs",
            f"{default['flips']} of {len(texts)} labels, at most {default['largest']:.3f}",
            default["largest"] == 0,
        ),
        Claim(
            f"in batches of {BATCH} the answers differ, so batches must be asked for",
            "some label differs",
            f"{together['flips']} of {len(texts)} labels, at most {together['largest']:.3f}",
            together["flips"] > 0,
        ),
    ]
    return finish("batches", rows, claims, seed=0)


if __name__ == "__main__":
    sys.exit(main())
