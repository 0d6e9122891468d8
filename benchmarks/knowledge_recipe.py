"""Run the second example recipe (knowledge, low rank, LoRA, int8) and check its budgets.

    python -m benchmarks.knowledge_recipe        about twenty minutes on two cores

``benchmarks.knowledge`` measures what the facts alone contribute. Uses RAREFY_HOME like the
command line; stages that are in its store are not repeated.
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
    """Run the recipe and write the outcomes of its budgets."""
    rarefy = Path(sys.executable).with_name("rarefy")
    done = subprocess.run(
        [rarefy, "run", RECIPE, "--engine", "inline", "--json"],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
        check=False,
    )
    output = json.loads(done.stdout)
    claims = [
        Claim(
            f"{budget['metric']} {budget['form']} against {budget['against']}",
            f"{budget['limit']:g}",
            f"{budget['reason']}: {budget['outcome']}",
            budget["outcome"] == "pass",
        )
        for budget in output["budgets"]
    ]
    return finish("knowledge_recipe", output["ledger"], claims, SEED)


if __name__ == "__main__":
    sys.exit(main())
