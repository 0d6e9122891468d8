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
from rarefy.stages.inject import facts as knowledge

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
    asked = parser.parse_args().seeds
    rows: list[dict[str, Any]] = []
    for seed in range(asked):
        true, control = probe(seed, shuffled=False), probe(seed, shuffled=True)
        rows.append({"seed": seed, "leaked": leaked(seed), "true": true, "shuffled": control})
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
        done = subprocess.run(
            [rarefy, "run", path, "--engine", "inline", "--json"],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        )
    output = json.loads(done.stdout)
    run = json.loads((Path(output["report"]).parent / "run.json").read_text())
    metrics = next(node["metrics"] for node in run["lineage"] if node["stage"] == "inject")
    return {metric["name"]: round(metric["value"], 4) for metric in metrics}


def leaked(seed: int) -> int:
    """Return how many held-out glosses also occur word for word among the learned ones."""
    facts = knowledge.read(ROOT / "examples/data/wordnet-glosses/glosses.tsv")
    learned, kept = knowledge.split(facts, HELD_OUT, random.Random(seed))
    texts = {fact.object for fact in learned}
    return sum(fact.object in texts for fact in kept)


def claims(rows: list[dict[str, Any]]) -> list[Claim]:
    """Return the claims: the probe's gain from true glosses, and from shuffled ones."""
    found = [
        Claim(
            "held-out glosses that occur word for word among the learned ones",
            "none",
            ", ".join(f"{row['leaked']} (seed {row['seed']})" for row in rows),
            all(row["leaked"] == 0 for row in rows),
        )
    ]
    for kind in ("learned", "held_out"):
        true = [gain(row["true"], kind) for row in rows]
        control = [gain(row["shuffled"], kind) for row in rows]
        share = mean(control) / mean(true) if mean(true) > 0 else math.inf
        found.append(
            Claim(
                f"the gain on {kind.replace('_', '-')} glosses (cloze probe, mean reciprocal rank) "
                "is knowledge: it vanishes if glosses are shuffled among the terms",
                f"shuffled glosses gain at most {VANISHED:.0%} of it",
                f"{mean(true):+.4f} from true glosses, {mean(control):+.4f} from shuffled ones "
                f"({share:.0%} of it); {len(rows)} of {SEEDS} seeds",
                share <= VANISHED,
            )
        )
    return found


def gain(probed: dict[str, float], kind: str) -> float:
    """Return how much training raised the mean reciprocal rank."""
    return probed[f"cloze_{kind}_mrr_after"] - probed[f"cloze_{kind}_mrr_before"]


def mean(values: list[float]) -> float:
    return sum(values) / len(values)


if __name__ == "__main__":
    sys.exit(main())
