"""What `quantize: {mode: search}` finds: accuracy and speed beside float and plain static int8.

    python -m benchmarks.plan_search [--checkpoint DIR] [--folder DIR]    about 15 minutes; needs a
                                                       quiet machine and `make demo`

``plain`` is the checkpoint (by default the demo's teacher). ``outliers`` gives the same answers,
but two channels of the values of each attention are 50 times larger, and what reads them as much
smaller: a range for all channels leaves the others five or six integers. ``mpnet`` is the real
model that int8 harms most of those that we tried: all-mpnet-base-v2 (12×768), fine-tuned on a
fifth of the rows. ``static`` is int8 for every layer, with the largest range. Accuracy is on the
eval rows, which the search does not see. With ``--folder``, a run that was killed goes on from
there.
"""

from __future__ import annotations

import argparse
import json
import shutil
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import contestants, planned
from benchmarks.ranges import static
from benchmarks.record import Claim, finish
from rarefy.exporters.build import build
from rarefy.pipeline.measure.latency import session as latency
from rarefy.pipeline.measure.statistics import intervals
from rarefy.pipeline.model import checkpoint
from rarefy.pipeline.model.runtime.bundle_model import BundleModel
from rarefy.pipeline.terms.errors import ModelError
from rarefy.pipeline.terms.interval import Interval
from rarefy.stages.common.resume import Notes
from rarefy.stages.quantize import Quantize
from rarefy.stages.quantize.stage import SEARCH

LARGER, CHANNELS = 50.0, (3, 200)
POINT, SPEED = 0.005, 1.5
FORMS = ("float", "static", "search")


def with_outliers(source: Path, folder: Path) -> Path:
    """Write a BERT with the same answers and large channels; return its folder."""
    import torch

    network = checkpoint.load(source)
    with torch.no_grad():
        for layer in network.bert.encoder.layer:
            value, reader = layer.attention.self.value, layer.attention.output.dense
            value.weight[list(CHANNELS)] *= LARGER
            value.bias[list(CHANNELS)] *= LARGER
            reader.weight[:, list(CHANNELS)] /= LARGER
    folder.mkdir(parents=True, exist_ok=True)
    checkpoint.save(network, checkpoint.load_tokenizer(source), folder)
    return folder


def mpnet(folder: Path) -> Path:
    """Write the race's MPNet, unless it is there; return its folder."""
    if not folder.is_dir():
        part = folder.with_name(f"{folder.name}.part")
        shutil.rmtree(part, ignore_errors=True)
        contestants.mpnet(part)
        part.rename(folder)
    return folder


def searched(source: Path, folder: Path) -> tuple[Path, dict[str, Any]]:
    """Run the stage on a checkpoint; return the planned checkpoint and the search's record."""
    output = planned.run(Quantize(mode="search"), source, folder)
    return output, json.loads((output / SEARCH).read_text())


def compared(source: Path, folder: Path) -> dict[str, Any]:
    """Return accuracy, divergence and latency of each form of a checkpoint, and the search."""
    task, split = planned.rows(source)
    plan, record = searched(source, folder / "search")
    shutil.rmtree(folder / "static-plan", ignore_errors=True)
    plans = {
        "float": source,
        "static": static(source, folder / "static-plan", "min-max"),
        "search": plan,
    }
    labels, bundles, answers = np.array(split.labels), dict[str, Path](), dict[str, Any]()
    for form, directory in plans.items():
        bundles[form] = folder / "bundles" / form
        shutil.rmtree(bundles[form], ignore_errors=True)
        bundles[form].mkdir(parents=True)
        try:
            build(directory, bundles[form], task=task, split=split, form="deploy")
        except ModelError as error:
            bundles.pop(form)
            print(form, error)
            continue
        answers[form] = planned.logarithms(BundleModel(bundles[form]).units(split.texts))
    timed = latency.measure(bundles, split.texts[:200], processes=7, seconds=45)
    exact = answers["float"]
    found: dict[str, Any] = {"search": record, "forms": {}}
    for form, given in answers.items():
        right, before = given.argmax(1) == labels, exact.argmax(1) == labels
        gains, losses = int((right & ~before).sum()), int((before & ~right).sum())
        found["forms"][form] = {
            "accuracy": float(right.mean()),
            "difference": intervals.paired_difference(gains, losses, len(labels))._asdict(),
            "kl": float((np.exp(exact) * (exact - given)).sum(axis=1).mean()),
            "ms": timed.percentile(form, 50)._asdict(),
            "speed": timed.ratio("float", form)._asdict(),
        }
    return found


def claims(name: str, found: dict[str, Any]) -> list[Claim]:
    """Return what must be shown of a model."""
    static_, best = found["forms"].get("static"), found["forms"]["search"]
    lost, speed = Interval(**best["difference"]), Interval(**best["speed"])
    plain = (
        f"plain static {100 * static_['difference']['value']:+.2f}, KL {static_['kl']:.2g}"
        if static_
        else "plain static is refused by the export"
    )
    return [
        Claim(
            f"{name}: the search's plan is as accurate as float",
            "within 0.5 point",
            f"{100 * lost.value:+.2f} points [{100 * lost.low:+.2f}, {100 * lost.high:+.2f}], "
            f"KL {best['kl']:.2g}; {plain}",
            abs(lost.value) <= POINT,
        ),
        Claim(
            f"{name}: and faster",
            f"at least {SPEED} × float",
            f"{speed.value:.2f} × [{speed.low:.2f}, {speed.high:.2f}]",
            speed.low >= SPEED,
        ),
        Claim(
            f"{name}: what the search took",
            "at most 10 minutes",
            f"{found['search']['seconds']:.0f} s, {len(found['search']['plans'])} plans",
            found["search"]["seconds"] <= 600,
        ),
    ]


def main() -> int:
    """Search, export, answer, time; write the record."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--checkpoint", type=Path, default=None)
    parser.add_argument("--folder", type=Path, default=None)
    given = parser.parse_args()
    source = given.checkpoint or planned.teacher()
    with tempfile.TemporaryDirectory(prefix="rarefy-search-") as temporary:
        folder = given.folder or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        notes, rows = Notes(folder / "done.json"), list[dict[str, Any]]()
        models = {
            "plain": lambda: source,
            "outliers": lambda: with_outliers(source, folder / "outliers-model"),
            "mpnet": lambda: mpnet(folder / "mpnet-model"),
        }
        for name, made in models.items():
            found = notes.get(name, lambda name=name, made=made: compared(made(), folder / name))
            rows.append({"model": name} | found)
            print(name, json.dumps(found["forms"]), flush=True)
    shown = [claim for row in rows for claim in claims(row["model"], row)]
    return finish("plan_search", rows, shown, seed=0)


if __name__ == "__main__":
    raise SystemExit(main())
