"""What each graph pass gives: operators, parity and latency of the bundle with and without it.

    python -m benchmarks.passes [--checkpoint DIR]     about 10 minutes; needs a quiet machine and
                                                       `make demo`

The checkpoint (by default the demo's teacher, 6×384) is exported with all passes, and once without
each of them that finds something in it (``relative_bias`` does in MPNet's). Rows have at most 128
tokens, so that ``positions`` cuts something. One bundle has its vocabulary in 4 bits. The bundles
take turns in blocks of calls at fixed lengths, one thread, batch 1.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest import mock

import numpy as np
import onnx

from benchmarks import planned
from benchmarks.record import Claim, finish, is_at_least
from rarefy.exporters.build import BuildInfo, build
from rarefy.exporters.passes import (
    attention,
    embeddings,
    first_token,
    mask,
    positions,
    relative_bias,
    residual,
    scale,
)
from rarefy.pipeline.data.split import Split
from rarefy.pipeline.measure.latency import session as latency
from rarefy.pipeline.measure.measurements import CANDIDATE, Latency
from rarefy.pipeline.measure.statistics import intervals
from rarefy.pipeline.model.quantization import plan as quantization
from rarefy.pipeline.model.runtime.bundle_model import BundleModel
from rarefy.pipeline.tasks import Task
from rarefy.pipeline.terms.interval import Interval

PASSES = (mask, scale, relative_bias, first_token, positions, attention, residual, embeddings)
LENGTHS = (8, 16, 32, 64, 128)
LARGER = 1.002
"""A bundle that is larger than another by more than some nodes, as a ratio of bytes."""
PROCESSES, SECONDS = 9, 90.0
DEFAULT = "level all"
"""All passes, at the runtime's default level, which ``residual`` makes safe to use."""
INT4 = "8 bits for the vocabulary"
"""All passes, with 4 bits instead."""
POINT = 0.01


@contextmanager
def without(*passes: ModuleType) -> Iterator[None]:
    """Export without these passes."""
    with ExitStack() as patches:
        for module in passes:
            patches.enter_context(mock.patch.object(module, "apply", return_value=0))
        yield


def name_of(module: ModuleType) -> str:
    return module.__name__.rsplit(".", 1)[-1]


def omissions() -> dict[str, tuple[ModuleType, ...]]:
    """Return form -> the passes that it is exported without."""
    forms: dict[str, tuple[ModuleType, ...]] = {CANDIDATE: (), DEFAULT: (), INT4: ()}
    for module in PASSES:
        # Each pass builds on those before it: without the mask's, attention cannot be matched.
        needed = module in (mask, scale)
        forms[name_of(module)] = (module, attention) if needed else (module,)
    return forms


def export(source: Path, folder: Path, task: Task, split: Split) -> dict[str, BuildInfo]:
    """Export every form to ``folder``/form.

    Args:
        source: the checkpoint.
        folder: for the bundles; also for the checkpoint with its plan.
        task: of the checkpoint.
        split: rows to compare the answers of the graph and of the network on.

    Returns:
        Form -> what the export found, but for passes that find nothing in this model.
    """
    int8 = planned.int8(source, folder / "planned")
    plan = quantization.read(int8)
    assert plan is not None
    infos: dict[str, BuildInfo] = {}
    for form, passes in omissions().items():
        if passes and not infos[CANDIDATE].passes.get(form):
            print(f"{form}: finds nothing in this model", flush=True)
            continue
        bundle = folder / form
        bundle.mkdir()
        precision = "int4" if form == INT4 else "int8"
        quantization.write(plan.model_copy(update={"embeddings": precision}), int8)
        with without(*passes):
            infos[form] = build(int8, bundle, task=task, split=split, form="deploy")
        if form in (DEFAULT, name_of(residual)):
            options = {"graph_optimization_level": "all", "intra_op_num_threads": 1}
            (bundle / "session_options.json").write_text(json.dumps(options))
    return infos


def time_row(form: str, timed: Latency) -> dict[str, Any]:
    """Return a form's median, and its times as ratios to those with all passes."""
    reference = DEFAULT if form == name_of(residual) else CANDIDATE
    ratios: dict[Any, Interval] = {"rows": timed.ratio(form, reference)}
    for length, models in timed.fixed.items():
        ratios[length] = intervals.percentile_ratio(models[form], models[reference], 50)
    slower = {length: ratio._asdict() for length, ratio in ratios.items()}
    return {"slower": slower, "ms": timed.percentile(form, 50)._asdict()}


def main() -> int:
    """Export, time, print and record."""
    source = planned.source(__doc__)
    task, split = planned.rows(source)
    task = replace(task, max_length=LENGTHS[-1])
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory(prefix="rarefy-passes-") as name:
        folder = Path(name)
        infos = export(source, folder, task, split)
        bundles = {form: folder / form for form in infos}
        timed = latency.measure(
            bundles, split.texts[:200], processes=PROCESSES, seconds=SECONDS, lengths=LENGTHS
        )
        for form, info in infos.items():
            row = {
                "without": "nothing" if form == CANDIDATE else form,
                "also": [name_of(module) for module in omissions()[form][1:]],
                "nodes": nodes(bundles[form]),
                "operators": info.operators,
                "size": info.size,
                "parity": info.parity.max_difference,
                "agreement": info.parity.agreement,
                "accuracy": accuracy(bundles[form], split),
                **time_row(form, timed),
            }
            rows.append(row)
            shown = {key: row[key] for key in ("without", "nodes", "slower")}
            print(json.dumps(shown), flush=True)
    claims = [claim(row, rows[0]) for row in rows[2:]]
    return finish("passes", rows, claims, seed=0)


def nodes(bundle: Path) -> int:
    """Count the nodes of a bundle's graph; an If is one, whatever is in its branches."""
    return len(onnx.load(bundle / "model.onnx", load_external_data=False).graph.node)


def accuracy(bundle: Path, split: Split) -> float:
    """Return the share of rows that a bundle labels correctly."""
    logits = BundleModel(bundle, threads=2).units(split.texts)
    labels = logits.argmax(axis=1)
    return float(np.mean(labels == np.array(split.labels)))


def claim(row: dict[str, Any], whole: dict[str, Any]) -> Claim:
    """Claim that a pass makes the bundle faster or smaller, and what it gives at each length.

    ``whole``: the row of the bundle with all passes.
    """
    ratios = row["slower"]
    shown = ", ".join(f"{length}: {ratio['value']:.2f}" for length, ratio in ratios.items())
    real = Interval(**ratios["rows"])
    interval = f"[{real.low:.2f}, {real.high:.2f}]"
    size = f"{row['size'] / 1e6:.1f}"
    more = row["size"] / whole["size"] - 1
    if row["without"] == INT4:
        return Claim(
            "the vocabulary in 4 bits: time as a ratio to that in 8",
            "a smaller bundle, and no point of accuracy lost",
            f"{shown} (rows {interval}); {size} MB ({more:+.1%}), "
            f"accuracy {row['accuracy']:.2%} (in 8 bits: {whole['accuracy']:.2%})",
            more < 0 and whole["accuracy"] - row["accuracy"] < POINT,
        )
    title = f"without {row['without']}: time as a ratio to that with all passes"
    if row["without"] == name_of(residual):
        title += " (both at level all)"
    larger = row["size"] > LARGER * whole["size"]
    return Claim(
        title,
        "above 1 on real rows, or a larger bundle",
        f"{shown} (rows {interval}); {row['nodes']} nodes, {size} MB ({more:+.1%})",
        larger or is_at_least(real, 1.0),
    )


if __name__ == "__main__":
    raise SystemExit(main())
