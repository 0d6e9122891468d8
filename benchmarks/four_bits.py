"""What weights in 4 bits cost and save: bytes, answers, time at each length and to load.

    python -m benchmarks.four_bits [--checkpoint DIR]     about 6 minutes; needs a quiet machine and
                                                          `make demo`

The checkpoint (by default the demo's teacher, 6×384) is exported in float, in int8, with weights in
4 bits by GPTQ, and with weights rounded to the nearest of the same steps; the last two have their
vocabulary in 4 bits, too. Damage is KL in nats, from the float model's answers to eval rows. The
bundles take turns in blocks of calls, one thread, batch 1.
"""

from __future__ import annotations

import json
import shutil
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import planned
from benchmarks.record import Claim, finish
from rarefy.exporters.build import build
from rarefy.pipeline.measure.latency import session as latency
from rarefy.pipeline.measure.measurements import CANDIDATE
from rarefy.pipeline.measure.statistics import intervals
from rarefy.pipeline.model import checkpoint
from rarefy.pipeline.model.quantization import four_bits
from rarefy.pipeline.model.quantization import plan as quantization
from rarefy.pipeline.model.runtime.bundle_model import BundleModel
from rarefy.pipeline.terms.interval import Interval
from rarefy.stages.quantize import Quantize, sensitivity

LENGTHS = (4, 8, 16, 32, 64, 128)
PROCESSES, SECONDS = 9, 90.0
FLOAT, INT8, NEAREST = "fp32", "int8", "nearest"
SMALLER, POINT, SLOWER = 1.6, 0.01, 1.03
LOADS = 15
STAGE = Quantize(weights="int4", embeddings="int4", sensitivity=False)


def nearest(gptq: Path, folder: Path) -> Path:
    """Copy a checkpoint with int4 weights, each rounded to its nearest step; return the folder."""
    shutil.copytree(gptq, folder)
    network, plan = checkpoint.load(gptq), quantization.read(gptq)
    assert plan is not None
    layers = {name: sensitivity.linear(network, name) for name in plan.int4_modules}
    rounded = {name: four_bits.blocks(layer.weight.data.numpy()) for name, layer in layers.items()}
    four_bits.write(rounded, folder)
    return folder


def main() -> int:
    """Quantize, export, answer, time; write the record."""
    source = planned.source(__doc__)
    task, split = planned.rows(source)
    labels, rows = np.array(split.labels), list[dict[str, Any]]()
    with tempfile.TemporaryDirectory(prefix="rarefy-four-bits-") as name:
        folder = Path(name)
        gptq = planned.run(STAGE, source, folder / "gptq")
        plans = {
            FLOAT: source,
            INT8: planned.int8(source, folder / "int8-plan"),
            CANDIDATE: gptq,
            NEAREST: nearest(gptq, folder / "nearest-plan"),
        }
        bundles: dict[str, Path] = {}
        exact = None
        for form, plan in plans.items():
            bundles[form] = folder / form
            bundles[form].mkdir()
            info = build(plan, bundles[form], task=task, split=split, form="deploy")
            answers = planned.logarithms(BundleModel(bundles[form], threads=2).units(split.texts))
            exact = answers if exact is None else exact
            row = {
                "form": form if form != CANDIDATE else "int4",
                "size": info.size,
                "kl": float((np.exp(exact) * (exact - answers)).sum(axis=1).mean()),
                "accuracy": float((answers.argmax(axis=1) == labels).mean()),
            }
            rows.append(row)
            print(json.dumps(row), flush=True)
        del bundles[NEAREST]
        loads = loading(bundles)
        timed = latency.measure(
            bundles, split.texts[:200], processes=PROCESSES, seconds=SECONDS, lengths=LENGTHS
        )
    ratios = {"rows": timed.ratio(CANDIDATE, INT8)}
    for length, models in timed.fixed.items():
        ratios[str(length)] = intervals.percentile_ratio(models[CANDIDATE], models[INT8], 50)
    found = {str(row["form"]): row for row in rows}
    found["int4"]["slower"] = {at: ratio._asdict() for at, ratio in ratios.items()}
    for form in bundles:
        row = found["int4" if form == CANDIDATE else form]
        row |= {"ms": timed.percentile(form, 50)._asdict(), "load_ms": loads[form]}
    return finish("four_bits", rows, claims(found, ratios), seed=0)


def loading(bundles: dict[str, Path]) -> dict[str, float]:
    """Return the median milliseconds to load each bundle, in turns."""
    times: dict[str, list[float]] = {form: [] for form in bundles}
    for _ in range(LOADS):
        for form, bundle in bundles.items():
            started = time.perf_counter()
            BundleModel(bundle, threads=1)
            times[form].append(1000 * (time.perf_counter() - started))
    return {form: float(np.median(found)) for form, found in times.items()}


def claims(rows: dict[str, dict[str, Any]], ratios: dict[str, Interval]) -> list[Claim]:
    """Return what must be shown."""
    whole, int8, int4, near = (rows[form] for form in (FLOAT, INT8, "int4", NEAREST))
    shrink = int8["size"] / int4["size"]
    lost = int8["accuracy"] - int4["accuracy"]
    slower = ", ".join(f"{at}: {ratio.value:.2f}" for at, ratio in ratios.items())
    real = ratios["rows"]
    return [
        Claim(
            "weights and vocabulary in 4 bits: smaller than in int8",
            f"at least {SMALLER} times",
            f"{shrink:.2f} times: {int4['size'] / 1e6:.1f} MB, int8 {int8['size'] / 1e6:.1f} MB, "
            f"fp32 {whole['size'] / 1e6:.1f} MB",
            shrink >= SMALLER,
        ),
        Claim(
            "answers that are right, without any training",
            "less than a point below int8",
            f"{int4['accuracy']:.2%}, int8 {int8['accuracy']:.2%}, fp32 {whole['accuracy']:.2%}",
            lost < POINT,
        ),
        Claim(
            "GPTQ does less damage than rounding to the nearest step",
            "less KL",
            f"{int4['kl']:.2g}, nearest {near['kl']:.2g} (int8 {int8['kl']:.2g})",
            int4["kl"] < near["kl"],
        ),
        Claim(
            "time of real rows as a ratio to int8",
            f"at most {SLOWER}",
            f"{real.value:.2f} [{real.low:.2f}, {real.high:.2f}] ({slower}); to load: "
            f"{int4['load_ms']:.0f} ms, int8 {int8['load_ms']:.0f} ms",
            real.value <= SLOWER,
        ),
    ]


if __name__ == "__main__":
    raise SystemExit(main())
