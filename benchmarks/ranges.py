"""How near to float int8 answers are, by how the ranges of inputs are found; and what it costs.

    python -m benchmarks.ranges [--checkpoint DIR]     about 6 minutes; needs a quiet machine and
                                                       `make demo`

Every linear layer of the checkpoint (by default the demo's teacher) is int8. ``dynamic`` finds a
range at each call; the others take it from 256 training sentences, by each method of
``quantize.calibration``. ``qdq`` is the nearest of them in the form for other runtimes.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import planned
from benchmarks.record import Claim, finish
from exporters.build import build
from pipeline.measure import latency
from pipeline.measure.measurements import CANDIDATE
from pipeline.model import checkpoint, quantization
from pipeline.model.quantization import Calibration, LinearPlan, Plan
from pipeline.model.runtime import BundleModel
from stages import ranges, sensitivity

ROWS, TIMED, PERCENTILE = 256, 200, 99.99
METHODS = ("min-max", "percentile", "entropy", "mse")


def static(source: Path, folder: Path, method: Any) -> Path:
    """Copy a checkpoint with a static plan for all of its layers; return the folder."""
    task, _ = planned.rows(source)
    texts = [json.loads(line)["text"] for line in planned.TRAIN.read_text().splitlines()]
    split = planned.split(texts[:: len(texts) // ROWS][:ROWS])
    network = checkpoint.load(source)
    how = Calibration(method=method, percentile=PERCENTILE, rows=ROWS)
    rows = task.examples(checkpoint.load_tokenizer(source), split, range(len(split)))
    found = ranges.measure(network, sensitivity.linear_layers(network), rows, how)
    linears = {
        name: LinearPlan(precision="int8", **limits._asdict()) for name, limits in found.items()
    }
    shutil.copytree(source, folder)
    quantization.write(Plan(mode="static", calibration=how, linears=linears), folder)
    return folder


def main() -> int:
    """Export, answer, time; write the record."""
    source = planned.source(__doc__)
    task, split = planned.rows(source)
    labels, rows = np.array(split.labels), list[dict[str, Any]]()
    with tempfile.TemporaryDirectory(prefix="rarefy-ranges-") as name:
        folder = Path(name)
        plans = {"fp32": source, "dynamic": planned.int8(source, folder / "dynamic-plan")}
        plans |= {each: static(source, folder / f"{each}-plan", each) for each in METHODS}
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
    return [
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
