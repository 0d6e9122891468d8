"""Whether an int8 bundle gives the same answers on a CPU without VNNI, and what that costs here.

    python -m benchmarks.portable [--checkpoint DIR]

About 5 minutes; needs qemu-user, a CPU with VNNI, and `make demo`. The checkpoint (by default the
demo's teacher) is exported four times: fp32; int8 that is right on every CPU, as by default; int8
for VNNI; and int8 with weights of 7 bits, as others do it. Each answers the same rows here and on
an emulated Haswell, which has AVX2 and no VNNI.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import planned
from benchmarks.record import Claim, finish
from exporters.build import build
from exporters.passes import integer_matmul
from pipeline.measure import latency
from pipeline.measure.measurements import CANDIDATE
from pipeline.model.quantization import LARGEST
from pipeline.model.runtime import BundleModel
from pipeline.stage.split import Split

EMULATED = ("qemu-x86_64", "-cpu", "Haswell")
ROWS, CLOSE = 200, 0.01
FORMS = ("fp32", "avx2", "vnni", "7 bits")


def bundles(source: Path, folder: Path, task: Any, split: Split) -> dict[str, Path]:
    """Return the bundle of each form."""
    int8 = planned.int8(source, folder / "planned")
    made, kept = {}, integer_matmul.weight_scales
    for form in FORMS:
        made[form] = folder / form.replace(" ", "-")
        made[form].mkdir()
        if form == "7 bits":
            integer_matmul.weight_scales = lambda weight, _: kept(weight, "vnni") * LARGEST / 63
        try:
            build(
                source if form == "fp32" else int8,
                made[form],
                task=task,
                split=split,
                form="deploy",
                isa="vnni" if form == "vnni" else "avx2",
            )
        finally:
            integer_matmul.weight_scales = kept
    return made


def emulated(folder: Path, texts: list[str]) -> np.ndarray[Any, Any]:
    """Return a bundle's logits on the emulated CPU, by the bundle's own predict.py."""
    code = (
        "import json, sys, numpy, predict\n"
        # The bundle for VNNI would refuse, rightly.
        "predict.beside('predict_session.py').exact = lambda: True\n"
        "predict.beside('predict_task.py').describe = lambda logits, _: logits.tolist()\n"
        "print(json.dumps(predict.answer(json.load(sys.stdin))))"
    )
    done = subprocess.run(
        [*EMULATED, sys.executable, "-c", code],
        cwd=folder,
        input=json.dumps(texts),
        capture_output=True,
        text=True,
        check=True,
    )
    return np.array(json.loads(done.stdout))


def check_emulator() -> None:
    """Exit with the remedy if there is no emulator."""
    if shutil.which(EMULATED[0]) is None:
        print("qemu-user is missing: apt-get install qemu-user", file=sys.stderr)
        sys.exit(5)


def main() -> int:
    """Export, answer here and there, time; write the record."""
    source, rows = planned.source(__doc__), list[dict[str, Any]]()
    check_emulator()
    task, split = planned.rows(source)
    texts, labels = split.texts, np.array(split.labels)
    with tempfile.TemporaryDirectory(prefix="rarefy-portable-") as name:
        made = bundles(source, Path(name), task, split)
        exact = planned.logarithms(BundleModel(made["fp32"]).units(texts))
        for form, folder in made.items():
            model = BundleModel(folder)
            every = model.units(texts)
            here, there = every[:ROWS], emulated(folder, texts[:ROWS])
            kl = (np.exp(exact) * (exact - planned.logarithms(every))).sum(axis=1).mean()
            rows.append(
                {
                    "form": form,
                    "largest": float(np.abs(here - there).max()),
                    "flips": int((here.argmax(1) != there.argmax(1)).sum()),
                    "accuracy": float((every.argmax(1) == labels).mean()),
                    "kl": float(kl),
                }
            )
            print(json.dumps(rows[-1]), flush=True)
        timed = latency.measure(
            {CANDIDATE: made["avx2"], "vnni": made["vnni"]}, texts[:ROWS], processes=9, seconds=60
        )
        ratio = timed.ratio(CANDIDATE, "vnni")
    return finish("portable", rows, claims({row["form"]: row for row in rows}, ratio), seed=0)


def claims(rows: dict[str, dict[str, Any]], ratio: Any) -> list[Claim]:
    """Return what must be shown."""
    plain, wide, seven = rows["avx2"], rows["vnni"], rows["7 bits"]
    return [
        Claim(
            f"the default int8 bundle answers {ROWS} rows alike with and without VNNI",
            f"labels equal, logits within {CLOSE}",
            f"{plain['flips']} flips, at most {plain['largest']:.2g}",
            plain["flips"] == 0 and plain["largest"] <= CLOSE,
        ),
        Claim(
            "the bundle for VNNI does not, so the test can fail",
            f"logits more than {CLOSE} apart",
            f"{wide['flips']} flips, at most {wide['largest']:.2g}",
            wide["largest"] > CLOSE,
        ),
        Claim(
            "its divergence from fp32 is smaller than with weights of 7 bits",
            "smaller",
            f"KL {plain['kl']:.2g}; 7 bits {seven['kl']:.2g}; VNNI {wide['kl']:.2g} nats",
            plain["kl"] < seven["kl"],
        ),
        Claim(
            "its cost on a CPU with VNNI: time",
            "at most 2 %",
            f"{ratio.value:.3f} [{ratio.low:.3f}, {ratio.high:.3f}] of the bundle for VNNI",
            ratio.value < 1.02,
        ),
        Claim(
            "its cost on a CPU with VNNI: accuracy",
            "at most half a point",
            f"{plain['accuracy']:.2%}; VNNI {wide['accuracy']:.2%}; "
            f"fp32 {rows['fp32']['accuracy']:.2%}",
            wide["accuracy"] - plain["accuracy"] <= 0.005,
        ),
    ]


if __name__ == "__main__":
    raise SystemExit(main())
