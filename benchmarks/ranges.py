"""How near to float int8 answers are, by how the ranges of inputs are found; and what it costs.

    python -m benchmarks.ranges [--checkpoint DIR]     about 6 minutes; needs a quiet machine and
                                                       `make demo`

Every linear layer of the checkpoint (by default the demo's teacher) is int8. ``dynamic`` finds a
range at each call; the others take it from 256 training sentences, by each method of
``quantize.calibration``. ``smooth`` divides large channels where that pays, and ``smooth by half``
everywhere with the strength that SmoothQuant's paper begins with. ``qdq`` is the nearest method in
the form for other runtimes.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import tempfile
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np

from benchmarks import planned
from benchmarks.record import Claim, finish
from exporters.build import build
from pipeline.measure import latency
from pipeline.measure.measurements import CANDIDATE
from pipeline.model import checkpoint, quantization
from pipeline.model.quantization import Calibration, LinearPlan, Plan
from pipeline.model.runtime import BundleModel
from stages import ranges, sensitivity, smoothing
from stages.quantize import Quantize

ROWS, TIMED, PERCENTILE = 256, 200, 99.99
METHODS = ("min-max", "percentile", "entropy", "mse")
FURTHER: dict[str, dict[str, Any]] = {
    "dynamic, smooth": {"smooth": True},
    "dynamic, smooth by half": {"smooth": True},
    "mse, smooth": {"mode": "static", "calibration": "mse", "smooth": True},
}
"""Form -> parameters of ``quantize`` besides those of every form."""


def static(source: Path, folder: Path, method: Any) -> Path:
    """Copy a checkpoint with a static plan for all of its layers; return the folder."""
    task, _ = planned.rows(source)
    texts = [json.loads(line)["text"] for line in planned.TRAIN.read_text().splitlines()]
    split = planned.split(texts[:: len(texts) // ROWS][:ROWS])
    network = checkpoint.load(source)
    how = Calibration(method=method, percentile=PERCENTILE, rows=ROWS)
    rows = task.encoder.examples(checkpoint.load_tokenizer(source), split, range(len(split)))
    found = ranges.measure(network, sensitivity.linear_layers(network), rows, how)
    linears = {
        name: LinearPlan(precision="int8", **limits._asdict()) for name, limits in found.items()
    }
    shutil.copytree(source, folder)
    quantization.write(Plan(mode="static", calibration=how, linears=linears), folder)
    return folder


def further(source: Path, folder: Path, form: str) -> Path:
    """Return a checkpoint with the plan of one of ``FURTHER``."""
    stage = Quantize(sensitivity=False, calibration_rows=ROWS, **FURTHER[form])
    half = {"STRENGTHS": (0.5,), "WORTH": float("inf")} if form.endswith("by half") else {}
    with mock.patch.multiple(smoothing, **half) if half else contextlib.nullcontext():
        return planned.run(stage, source, folder)


def main() -> int:
    """Export, answer, time; write the record."""
    source = planned.source(__doc__)
    task, split = planned.rows(source)
    labels, rows = np.array(split.labels), list[dict[str, Any]]()
    with tempfile.TemporaryDirectory(prefix="rarefy-ranges-") as name:
        folder = Path(name)
        plans = {"fp32": source, "dynamic": planned.int8(source, folder / "dynamic-plan")}
        plans |= {each: static(source, folder / f"{each}-plan", each) for each in METHODS}
        plans |= {each: further(source, folder / f"{each}-plan", each) for each in FURTHER}
        bundles: dict[str, Path] = {}

        def add(form: str, plan: Path, **options: Any) -> None:
            bundles[form] = folder / form
            bundles[form].mkdir()
            build(plan, bundles[form], task=task, split=split, form="deploy", **options)
            answers = planned.logarithms(BundleModel(bundles[form]).units(split.texts))
            exact = rows[0]["answers"] if rows else answers
            kl = (np.exp(exact) * (exact - answers)).sum(axis=1).mean()
            accuracy = float((answers.argmax(1) == labels).mean())
            rows.append({"form": form, "kl": float(kl), "accuracy": accuracy, "answers": answers})
            print(form, f"KL {kl:.2g}", f"accuracy {accuracy:.2%}", flush=True)

        for form, plan in plans.items():
            add(form, plan)
        best = min(METHODS, key=lambda method: by_form(rows)[method]["kl"])
        add("qdq", plans[best], products="qdq")
        timed = latency.measure(
            {CANDIDATE: bundles[best]} | {form: bundles[form] for form in ("dynamic", "qdq")},
            split.texts[:TIMED],
            processes=9,
            seconds=60,
        )
    for row in rows:
        del row["answers"]
    slower = {form: timed.ratio(form, CANDIDATE) for form in ("dynamic", "qdq")}
    for form, ratio in slower.items():
        by_form(rows)[form]["slower"] = ratio._asdict()
    return finish("ranges", rows, claims(by_form(rows), best, slower), seed=0)


def by_form(rows: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    return {row["form"]: row for row in rows}


def claims(rows: dict[str, dict[str, Any]], best: str, slower: dict[str, Any]) -> list[Claim]:
    """Return what must be shown."""
    shown = ", ".join(
        f"{form} {rows[form]['kl']:.2g} ({rows[form]['accuracy']:.2%})"
        for form in ("dynamic", *METHODS)
    )
    dynamic, portable = slower["dynamic"], slower["qdq"]
    kl = {form: rows[form]["kl"] for form in rows}
    return [
        Claim(
            "smoothing with the strength of each group brings the answers nearer to fp32",
            "at most half of the KL",
            f"dynamic {kl['dynamic, smooth']:.2g} of {kl['dynamic']:.2g}, "
            f"mse {kl['mse, smooth']:.2g} of {kl['mse']:.2g}",
            kl["dynamic, smooth"] <= kl["dynamic"] / 2 and kl["mse, smooth"] <= kl["mse"] / 2,
        ),
        Claim(
            "one strength of a half for all layers is worse",
            "a larger KL",
            f"{kl['dynamic, smooth by half']:.2g}; without smoothing {kl['dynamic']:.2g}",
            kl["dynamic, smooth by half"] > kl["dynamic"],
        ),
        Claim(
            "the nearest method's divergence from fp32 is smaller than with the largest range",
            "smaller",
            f"KL in nats (accuracy): {shown}; fp32 {rows['fp32']['accuracy']:.2%}",
            rows[best]["kl"] < rows["min-max"]["kl"],
        ),
        Claim(
            f"static ranges ({best}) are as near to fp32 as dynamic ones",
            "KL at most that of dynamic",
            f"{rows[best]['kl']:.2g}; dynamic {rows['dynamic']['kl']:.2g}",
            rows[best]["kl"] <= rows["dynamic"]["kl"],
        ),
        Claim(
            "static ranges are faster than dynamic ones",
            "dynamic takes more than 1",
            f"{dynamic.value:.3f} [{dynamic.low:.3f}, {dynamic.high:.3f}]",
            dynamic.low > 1,
        ),
        Claim(
            "qdq in ONNX Runtime, as a ratio to the fused form (a cost, not a gain)",
            "stated",
            f"{portable.value:.2f} [{portable.low:.2f}, {portable.high:.2f}]",
            True,
        ),
    ]


if __name__ == "__main__":
    raise SystemExit(main())
