"""The second example recipe: knowledge, low rank, LoRA and int8, and whether its budgets pass.

    python -m benchmarks.knowledge        about ten minutes on two cores

Takes RAREFY_HOME as the command line does: stages that are done there are not done again.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from benchmarks.record import Claim, finish

ROOT = Path(__file__).parent.parent
RECIPE = ROOT / "examples/knowledge.yaml"
SEED = 0


def main() -> int:
    """Run the recipe and write what its budgets and its cloze probe said."""
    rarefy = Path(sys.executable).with_name("rarefy")
    done = subprocess.run(
        [rarefy, "run", RECIPE, "--engine", "inline", "--json"],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
        check=False,
    )
    said = json.loads(done.stdout)
    claims = [
        Claim(
            f"{budget['metric']} {budget['form']} against {budget['against']}",
            f"{budget['limit']:g}",
            f"{budget['reason']}: {budget['outcome']}",
            budget["outcome"] == "pass",
        )
        for budget in said["budgets"]
    ]
    run = json.loads((Path(said["report"]).parent / "run.json").read_text())
    metrics = next(node["metrics"] for node in run["lineage"] if node["stage"] == "inject")
    probe = {metric["name"]: round(metric["value"], 4) for metric in metrics}
    before, after = probe["cloze_held_out_mrr_before"], probe["cloze_held_out_mrr_after"]
    claims.append(
        Claim(
            "cloze probe on held-out glosses, mean reciprocal rank",
            "higher after injection than before",
            f"{before:.4f} before, {after:.4f} after",
            after > before,
        )
    )
    return finish("knowledge", [*said["ledger"], {"probe": probe}], claims, SEED)


if __name__ == "__main__":
    sys.exit(main())
