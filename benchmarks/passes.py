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
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest import mock

import numpy as np
import onnx

from benchmarks import planned
from benchmarks.record import Claim, finish
from rarefy.exporters.build import build
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
from rarefy.pipeline.measure.measurements import CANDIDATE
from rarefy.pipeline.measure.statistics import intervals
from rarefy.pipeline.model.quantization import plan as quantization
from rarefy.pipeline.model.runtime.bundle_model import BundleModel
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
    patches = [mock.patch.object(each, "apply", return_value=0) for each in passes]
    for patch in patches:
        patch.start()
    try:
        yield
    finally:
        for patch in patches:
            patch.stop()


def name_of(module: ModuleType) -> str:
    return module.__name__.rsplit(".", 1)[-1]


def main() -> int:
    """Export, time, print and record."""
    source = planned.source(__doc__)
    task, split = planned.rows(source)
    task = replace(task, max_length=LENGTHS[-1])
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory(prefix="rarefy-passes-") as name:
        folder = Path(name)
        int8 = planned.int8(source, folder / "planned")
        plan = quantization.read(int8)
        assert plan is not None
        # Each pass builds on those before it: without the mask's, attention cannot be matched.
        left_out = {CANDIDATE: (), DEFAULT: (), INT4: ()} | {
            name_of(each): (each, attention) if each in (mask, scale) else (each,)
            for each in PASSES
        }
        bundles, found = {}, dict[str, int]()
        for form, passes in left_out.items():
            if passes and not found.get(form):
                print(f"{form}: finds nothing in this model", flush=True)
                continue
            bundles[form] = folder / f"without-{form}"
            bundles[form].mkdir()
            bits = {"embeddings": "int4" if form == INT4 else "int8"}
            quantization.write(plan.model_copy(update=bits), int8)
            with without(*passes):
                info = build(int8, bundles[form], task=task, split=split, form="deploy")
            found = found or info.passes
            if form in (DEFAULT, name_of(residual)):
                options = {"graph_optimization_level": "all", "intra_op_num_threads": 1}
                (bundles[form] / "session_options.json").write_text(json.dumps(options))
            rows.append(
                {
                    "without": form if form != CANDIDATE else "nothing",
                    "also": [name_of(each) for each in passes[1:]],
                    "nodes": nodes(bundles[form]),
                    "operators": info.operators,
                    "size": info.size,
                    "parity": info.parity.max_difference,
                    "agreement": info.parity.agreement,
                    "accuracy": accuracy(bundles[form], split),
                }
            )
        timed = latency.measure(
            bundles, split.texts[:200], processes=PROCESSES, seconds=SECONDS, lengths=LENGTHS
        )
    for row in rows:
        form = CANDIDATE if row["without"] == "nothing" else row["without"]
        whole = DEFAULT if form == name_of(residual) else CANDIDATE
        ratios = {"rows": timed.ratio(form, whole)}
        for length, models in timed.fixed.items():
            ratios[length] = intervals.percentile_ratio(models[form], models[whole], 50)
        row["slower"] = {at: ratio._asdict() for at, ratio in ratios.items()}
        row["ms"] = timed.percentile(form, 50)._asdict()
        print(json.dumps({key: row[key] for key in ("without", "nodes", "slower")}), flush=True)
    return finish("passes", rows, [claim(row, rows[0]) for row in rows[2:]], seed=0)


def nodes(bundle: Path) -> int:
    """Count the nodes of a bundle's graph; an If is one, whatever is in its branches."""
    return len(onnx.load(bundle / "model.onnx", load_external_data=False).graph.node)


def accuracy(bundle: Path, split: Split) -> float:
    """Return the share of rows that a bundle answers rightly."""
    answers = BundleModel(bundle, threads=2).units(split.texts).argmax(axis=1)
    return float(np.mean(answers == np.array(split.labels)))


def claim(row: dict[str, Any], whole: dict[str, Any]) -> Claim:
    """Claim that a pass makes the bundle faster or smaller, and what it gives at each length.

    ``whole``: the row of the bundle with all passes.
    """
    found = {at: Interval(**ratio) for at, ratio in row["slower"].items()}
    shown = ", ".join(f"{at}: {ratio.value:.2f}" for at, ratio in found.items())
    interval = f"[{found['rows'].low:.2f}, {found['rows'].high:.2f}]"
    size, more = f"{row['size'] / 1e6:.1f}", row["size"] / whole["size"] - 1
    if row["without"] == INT4:
        return Claim(
            "the vocabulary in 4 bits: time as a ratio to that in 8",
            "a smaller bundle, and no point of accuracy lost",
            f"{shown} (rows {interval}); {size} MB ({more:+.1%}), "
            f"accuracy {row['accuracy']:.2%} (in 8 bits: {whole['accuracy']:.2%})",
            more < 0 and whole["accuracy"] - row["accuracy"] < POINT,
        )
    return Claim(
        f"without {row['without']}: time as a ratio to that with all passes"
        + (" (both at level all)" if row["without"] == name_of(residual) else ""),
        "above 1 on real rows, or a larger bundle",
        f"{shown} (rows {interval}); {row['nodes']} nodes, {size} MB ({more:+.1%})",
        found["rows"].value > 1 or row["size"] > LARGER * whole["size"],
    )


if __name__ == "__main__":
    raise SystemExit(main())
