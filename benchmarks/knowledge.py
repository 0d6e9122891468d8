"""What injection teaches: the second example's glosses, with shuffled glosses as a control.

    python -m benchmarks.knowledge [--seeds 3]       about 15 minutes per seed on two cores

A body improves at the probe just by reading glosses, whether or not they fit their terms. So each
training runs twice: with the true glosses, and with the same glosses shuffled among the terms. The
difference is what the glosses teach. Nothing is timed, so the machine need not be quiet. Uses
RAREFY_HOME like the command line; training that is in its store is not repeated.
"""

from __future__ import annotations

import argparse
import json
import math
import random
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import yaml

from benchmarks.record import Claim, finish
from stages import knowledge

ROOT = Path(__file__).parent.parent
RECIPE = ROOT / "examples/knowledge.yaml"
SEEDS = 3
VANISHED = 0.1
"""The control's gain counts as none if it is at most this share of the true glosses' gain."""
HELD_OUT = 0.1
"""Inject's default, which the recipe uses."""


def main() -> int:
    """Train with true and shuffled glosses, seed by seed, and write both probes' results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=SEEDS)
    seeds = parser.parse_args().seeds
    rows: list[dict[str, Any]] = []
    for seed in range(seeds):
        row = {
            "seed": seed,
            "leaked": leaked(seed),
            "true": probe(seed, shuffled=False),
            "shuffled": probe(seed, shuffled=True),
        }
        rows.append(row)
        code = finish("knowledge", rows, claims(rows), seed=0)  # keeps results if interrupted
    return code


def probe(seed: int, *, shuffled: bool) -> dict[str, float]:
    """Run the recipe's injection; return its metrics, among them the cloze probe's, by name."""
    recipe = yaml.safe_load(RECIPE.read_text())
    parameters = next(iter(recipe["stages"][0].values()))
    parameters["facts"] = str(RECIPE.parent / parameters["facts"])
    for name in ("train", "eval"):
        recipe["data"][name] = str(RECIPE.parent / recipe["data"][name])
    if shuffled:
        parameters["shuffled"] = True
    injection = {key: recipe[key] for key in ("name", "model", "task", "data")}
    injection |= {"seed": seed, "stages": [{"inject": parameters}]}
    with tempfile.TemporaryDirectory(prefix="rarefy-knowledge-") as folder:
        path = Path(folder) / "injection.yaml"
        path.write_text(yaml.safe_dump(injection))
        rarefy = Path(sys.executable).with_name("rarefy")
        command = [str(rarefy), "run", str(path), "--engine", "inline", "--json"]
        process = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True)
    report = Path(json.loads(process.stdout)["report"])
    run = json.loads((report.parent / "run.json").read_text())
    (injected,) = (node for node in run["lineage"] if node["stage"] == "inject")
    return {metric["name"]: round(metric["value"], 4) for metric in injected["metrics"]}


def leaked(seed: int) -> int:
    """Return how many held-out glosses also occur word for word among the learned ones."""
    facts = knowledge.read(ROOT / "examples/data/wordnet-glosses/glosses.tsv")
    learned, held_out = knowledge.split(facts, HELD_OUT, random.Random(seed))
    texts = {fact.object for fact in learned}
    return sum(fact.object in texts for fact in held_out)


def claims(rows: list[dict[str, Any]]) -> list[Claim]:
    """Return the claims: the probe's gain from true glosses, and from shuffled ones."""
    claims = [
        Claim(
            "held-out glosses that occur word for word among the learned ones",
            "none",
            ", ".join(f"{row['leaked']} (seed {row['seed']})" for row in rows),
            all(row["leaked"] == 0 for row in rows),
        )
    ]
    for kind in ("learned", "held_out"):
        true = mean([gain(row["true"], kind) for row in rows])
        control = mean([gain(row["shuffled"], kind) for row in rows])
        share = math.inf
        if true > 0:
            share = control / true
        claims.append(
            Claim(
                f"the gain on {kind.replace('_', '-')} glosses (cloze probe, mean reciprocal rank) "
                "is knowledge: it vanishes if glosses are shuffled among the terms",
                f"shuffled glosses gain at most {VANISHED:.0%} of it",
                f"{true:+.4f} from true glosses, {control:+.4f} from shuffled ones "
                f"({share:.0%} of it); {len(rows)} of {SEEDS} seeds",
                share <= VANISHED,
            )
        )
    return claims


def gain(probed: dict[str, float], kind: str) -> float:
    """Return how much training raised the mean reciprocal rank."""
    return probed[f"cloze_{kind}_mrr_after"] - probed[f"cloze_{kind}_mrr_before"]


def mean(values: list[float]) -> float:
    return sum(values) / len(values)


if __name__ == "__main__":
    sys.exit(main())
