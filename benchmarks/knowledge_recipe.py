"""The second example recipe: knowledge, low rank, LoRA and int8, and whether its budgets pass.

    python -m benchmarks.knowledge_recipe        about twenty minutes on two cores

What the facts themselves bring, ``benchmarks.knowledge`` says. Takes RAREFY_HOME as the command
line does: stages that are done there are not done again.
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
    """Run the recipe and write what its budgets said."""
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
    return finish("knowledge_recipe", said["ledger"], claims, SEED)


if __name__ == "__main__":
    sys.exit(main())
