"""Pruning by measured latency: whether it lands where it was asked to, and what it is worth.

    python -m benchmarks.pruning --home DIR [--mpnet CHECKPOINT --rows DIR]

Two models are profiled on this machine and pruned to three speed-ups each, without training: the
demo's teacher (6×384, `make demo`) and a fine-tuned 12×768 (``--mpnet``, with the train.jsonl and
eval.jsonl of its data set in ``--rows``: ``benchmarks.students`` makes both), if one is given. The
first is then pruned once more to each speed-up with the same share of every layer, and both ways
recover for an epoch, with three seeds; the accuracies of the same rows are compared. The second
loses half of its feed-forward neurons, without training; what is recorded of it stays without
``--mpnet``. Needs a quiet machine, and about an hour. All work is in DIR, and a run that was
stopped goes on from there.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from benchmarks import curves, planned
from benchmarks.ablation import interval
from benchmarks.bundle import ROOT
from benchmarks.record import HERE, Claim, finish, here, is_of_now, note_now
from rarefy.exporters.build import build
from rarefy.pipeline.measure.latency import session as latency
from rarefy.pipeline.measure.statistics import intervals
from rarefy.pipeline.model.runtime.bundle_model import BundleModel
from rarefy.pipeline.stage import Context
from rarefy.pipeline.terms.errors import ModelError
from rarefy.pipeline.terms.interval import Interval
from rarefy.stages.common.resume import Notes
from rarefy.stages.prune import Prune, latency_table
from rarefy.stages.prune.profile import Profile
from rarefy.stages.prune.selection import MULTIPLES
from rarefy.stages.prune.speedup import Ranked, Speedup
from rarefy.stages.surgery.units import Unit

RESULTS = HERE / "results" / "pruning.json"
PICTURE = ROOT / "docs" / "pruning.svg"
LARGE = "12×768"
TARGETS = (1.3, 1.7, 2.2)
SEEDS = (0, 1, 2)
RECOVERY = {"recover_epochs": 1, "learning_rate": 1e-4}
NEAR = 0.10
TIMED = 300


class Uniform(Speedup):
    """The same share of units in every layer, as much as the time allows."""

    def counts(self, importance: Ranked, asked: float) -> dict[Unit, list[int]]:
        """Return equal counts, the most that keep within the budget."""
        budget = self.table.ms(self._counted(self.origin)) / asked
        for share in np.linspace(1, 0, 2001).tolist():
            counts = {
                unit: [
                    max(
                        MULTIPLES[unit],
                        round(share * len(values) / MULTIPLES[unit]) * MULTIPLES[unit],
                    )
                    for values in ranked
                ]
                for unit, ranked in importance.items()
            }
            depth = range(len(next(iter(counts.values()))))
            if self.table.ms([{u: counts[u][at] for u in counts} for at in depth]) <= budget:
                return counts
        raise ModelError(f"{asked}: out of reach")


class UniformPrune(Prune):
    """Pruning with the same share of every layer."""

    def _speedup(
        self, context: Context, origin: Any, network: Any, tokenizer: Any
    ) -> Speedup | None:
        table = context.artifacts[str(self.table)].directory
        return Uniform(context, origin, network, tokenizer, table, float(self.speedup or 1))


class Model(NamedTuple):
    """A model to prune, and the folder of its data set."""

    name: str
    source: Path
    data: Path


def answered(checkpoint: Path, data: Path, folder: Path) -> list[list[float]]:
    """Return the logits of a checkpoint's fp32 bundle for the eval rows."""
    notes = Notes(folder / "answers.json")

    def ask() -> list[list[float]]:
        task, split = planned.rows(checkpoint, data)
        bundle = folder / "bundle"
        bundle.mkdir(parents=True, exist_ok=True)
        build(checkpoint, bundle, task=task, split=split, form="deploy", samples=False)
        found: list[list[float]] = BundleModel(bundle, threads=2).units(split.texts).tolist()
        return found

    return notes.get("logits", ask)


def right(checkpoint: Path, data: Path, folder: Path) -> NDArray[np.bool_]:
    """Return which eval rows a checkpoint answers rightly."""
    labels = np.array(planned.rows(checkpoint, data)[1].labels)
    found: NDArray[np.bool_] = np.array(answered(checkpoint, data, folder)).argmax(1) == labels
    return found


def landing(model: Model, home: Path) -> Iterator[dict[str, Any]]:
    """Prune a model to each speed-up without training; yield what was measured of each."""
    name, source, data = model
    profile = planned.run(Profile(), source, home / "profile", data=data)
    table = latency_table.load(profile)
    for asked in TARGETS:
        folder = home / f"to-{asked}"
        stage = Prune(speedup=asked, table="profile")
        output = planned.run(stage, source, folder, data=data, profile=profile)
        yield {
            "model": name,
            "asked": asked,
            "speedup": timed(source, output, data, folder)._asdict(),
            "accuracy": float(right(output, data, folder).mean()),
            "before": float(right(source, data, home).mean()),
            "tokens": table.tokens,
        }


def timed(source: Path, pruned: Path, data: Path, folder: Path) -> Interval:
    """Return how much faster a pruned model is, both in int8: not what the search measured."""
    notes = Notes(folder / "timed.json")

    def measure() -> list[float]:
        task, split = planned.rows(source, data)
        bundles = {}
        for name, each in (("whole", source), ("pruned", pruned)):
            int8, bundles[name] = folder / f"{name}-int8", folder / f"{name}-bundle"
            for begun in (int8, bundles[name]):  # by a run that was stopped
                shutil.rmtree(begun, ignore_errors=True)
            planned_as = planned.int8(each, int8)
            bundles[name].mkdir()
            build(planned_as, bundles[name], task=task, split=split, form="deploy", samples=False)
        found = latency.measure(bundles, split.texts[:TIMED], processes=9, seconds=60)
        return list(found.ratio("whole", "pruned"))

    return Interval(*notes.get("ratio", measure))


def comparison(model: Model, home: Path, asked: float) -> dict[str, Any]:
    """Return how much more accurate uneven pruning is than the same share everywhere.

    A row's difference is the mean over the seeds, so that a row counts once.
    """
    _, source, data = model
    profile = planned.run(Profile(), source, home / "profile", data=data)
    sides: dict[str, list[NDArray[np.bool_]]] = {"uneven": [], "uniform": []}
    speedups: dict[str, list[float]] = {"uneven": [], "uniform": []}
    for seed in SEEDS:
        for side, kind in (("uneven", Prune), ("uniform", UniformPrune)):
            folder = home / f"{side}-{asked}-{seed}"
            stage = kind(speedup=asked, table="profile", **RECOVERY)
            output = planned.run(stage, source, folder, seed, data, profile=profile)
            sides[side].append(right(output, data, folder))
            speedups[side].append(planned.metrics(folder)["speedup"]["value"])
    ours, theirs = (np.mean(sides[side], axis=0) for side in ("uneven", "uniform"))
    return {
        "comparison": asked,
        "accuracy": {side: [float(each.mean()) for each in sides[side]] for side in sides},
        "speedup": speedups,
        "difference": interval(ours - theirs, len(TARGETS))._asdict(),
    }


def half(model: Model, home: Path) -> dict[str, Any]:
    """Remove half of the neurons of a 12×768 without training; return seconds and accuracies."""
    name, source, data = model
    folder = home / "half"
    seconds = folder / "seconds.json"
    if not seconds.is_file():
        (folder / "done").unlink(missing_ok=True)
        started = time.perf_counter()
        planned.run(Prune(neurons=0.5), source, folder, data=data)
        seconds.write_text(json.dumps(time.perf_counter() - started))
    output = folder / "output"
    before, after = right(source, data, home), right(output, data, folder)
    gains, losses = int((after & ~before).sum()), int((before & ~after).sum())
    return {
        "half": name,
        "seconds": json.loads(seconds.read_text()),
        "before": float(before.mean()),
        "after": float(after.mean()),
        "difference": intervals.paired_difference(gains, losses, len(after))._asdict(),
    }


def claims(rows: list[dict[str, Any]]) -> list[Claim]:
    """Return what must be shown."""
    made = []
    for row in (row for row in rows if "asked" in row):
        found, asked = row["speedup"], row["asked"]
        made.append(
            Claim(
                f"{row['model']} pruned to {asked}×, timed in int8 at {row['tokens']} tokens",
                f"within {NEAR:.0%}",
                f"{found['value']:.2f}× [{found['low']:.2f}, {found['high']:.2f}]; accuracy "
                f"{row['before']:.1%} before, {row['accuracy']:.1%} after, in float and untrained",
                abs(found["value"] / asked - 1) <= NEAR,
            )
        )
    for row in (row for row in rows if "comparison" in row):
        difference = Interval(**row["difference"])
        means = {side: np.mean(values) for side, values in row["accuracy"].items()}
        paces = {side: np.mean(values) for side, values in row["speedup"].items()}
        made.append(
            Claim(
                f"6×384 at {row['comparison']}×: uneven against the same share of every layer",
                "more accurate, the interval without zero, and no slower",
                f"{100 * difference.value:+.2f} points [{100 * difference.low:+.2f}, "
                f"{100 * difference.high:+.2f}] ({means['uneven']:.1%} at {paces['uneven']:.2f}×, "
                f"{means['uniform']:.1%} at {paces['uniform']:.2f}×)",
                bool(difference.low > 0 and paces["uneven"] >= 0.99 * paces["uniform"]),
            )
        )
    for row in (row for row in rows if "half" in row):
        difference = Interval(**row["difference"])
        made.append(
            Claim(
                "a fine-tuned 12×768 without half of its neurons, untrained",
                "in under 5 minutes",
                f"{row['seconds'] / 60:.1f} minutes; accuracy {row['before']:.1%} before, "
                f"{row['after']:.1%} after ({100 * difference.value:+.2f} points "
                f"[{100 * difference.low:+.2f}, {100 * difference.high:+.2f}])",
                row["seconds"] < 300,
            )
        )
    return made


def main() -> int:
    """Prune, measure, compare; write the record."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--home", type=Path, required=True, help="folder for all that is kept")
    parser.add_argument("--mpnet", type=Path, help="a fine-tuned 12×768 checkpoint")
    parser.add_argument("--rows", type=Path, help="folder of its train.jsonl and eval.jsonl")
    given = parser.parse_args()
    home = given.home.resolve()
    small = Model("6×384", planned.teacher(), planned.DATA)
    large = None
    if given.mpnet:
        large = Model(LARGE, given.mpnet.resolve(), (given.rows or planned.DATA).resolve())
        planned.rows(large.source, large.data)  # its labels must be those of the rows
    rows: list[dict[str, Any]] = []
    if RESULTS.is_file() and large is None:
        recorded = json.loads(RESULTS.read_text())["rows"]
        rows += [row for row in recorded if LARGE in (row.get("model"), row.get("half"))]

    note = home / "measured.json"
    if not is_of_now(note):
        for name in ("6x384", "12x768"):
            shutil.rmtree(home / name, ignore_errors=True)
        note_now(note)

    def done(row: dict[str, Any]) -> None:
        row |= here()
        print(json.dumps(row), file=sys.stderr, flush=True)
        rows.append(row)  # of a run that is stopped, the folders are kept, and the old record

    for row in landing(small, home / "6x384"):
        done(row)
    for asked in TARGETS:
        done(comparison(small, home / "6x384", asked))
    if large:
        done(half(large, home / "12x768"))
        for row in landing(large, home / "12x768"):
            done(row)
    curves.draw(rows, PICTURE)
    return finish("pruning", rows, claims(rows), seed=0)


if __name__ == "__main__":
    sys.exit(main())
