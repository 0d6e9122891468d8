"""Pruning by measured latency: whether it lands on its target, and what it is worth.

    python -m benchmarks.pruning --home DIR [--mpnet CHECKPOINT --rows DIR] [PART …]

``landing``     two models are profiled on this machine and pruned to three speed-ups each, without
                training: the demo's teacher (6×384, `make demo`) and a fine-tuned 12×768
                (``--mpnet``, with the train.jsonl and eval.jsonl of its data set in ``--rows``:
                ``benchmarks.students`` makes both), if one is given. The second also loses half of
                its feed-forward neurons.
``comparison``  the first is pruned once more to each speed-up, with the same share of every layer;
                both ways recover for an epoch, with three seeds, and the accuracies of the same
                rows are compared.
``untrained``   three teachers, fine-tuned as the demo's with three seeds, are pruned both ways to
                each speed-up without training; accuracies and divergences are compared.

Needs a quiet machine: 20 minutes for the first part without a 12×768, 70 for the second and 20 for
the third. All work is in DIR, and a run that was stopped goes on from there. What is not measured
again keeps what the record says of it.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from benchmarks import planned, repair
from benchmarks.ablation import interval
from benchmarks.bundle import ROOT
from benchmarks.record import (
    HERE,
    Claim,
    finish,
    here,
    in_words,
    is_at_least,
    is_at_most,
    is_of_now,
    note_now,
    parse,
    worst,
)
from rarefy.exporters.build import build
from rarefy.pipeline.measure.latency import session as latency
from rarefy.pipeline.measure.statistics import intervals
from rarefy.pipeline.model.runtime.bundle_model import BundleModel
from rarefy.pipeline.report import wording
from rarefy.pipeline.report.figures.chart import HEIGHT, Axis, Font, Plot, style
from rarefy.pipeline.report.pictures import WIDE, stand_alone
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
PICTURE = ROOT / "docs/images/pruning.svg"
LARGE = "12×768"
PARTS = ("landing", "comparison", "untrained")
TARGETS = (1.3, 1.7, 2.2)
SEEDS = (0, 1, 2)
NEAR = 0.10
TIMED = 300
APART = 15.0
"""Pixels between the names of two curves."""
NAMES = 220.0
"""Pixels kept free at the right for the names."""
SPEEDUP = "times faster than before, in int8 · faster →"


def equal_count(share: float, unit: Unit, total: int) -> int:
    """Return a share of a layer's units, rounded as the kernels like it, and at least one step."""
    step = MULTIPLES[unit]
    steps = round(share * total / step)
    return max(step, steps * step)


class Uniform(Speedup):
    """The same share of units in every layer, as much as the time allows."""

    def counts(self, importance: Ranked, asked: float) -> dict[Unit, list[int]]:
        """Return equal counts, the most that keep within the budget."""
        whole = self.units(self.origin)
        budget = self.table.ms(whole) / asked
        for share in np.linspace(1, 0, 2001).tolist():
            counts: dict[Unit, list[int]] = {}
            for unit, layers in importance.items():
                counts[unit] = [equal_count(share, unit, len(values)) for values in layers]
            layer_counts = []
            for layer in zip(*counts.values(), strict=True):
                layer_counts.append(dict(zip(counts, layer, strict=True)))
            if self.table.ms(layer_counts) <= budget:
                return counts
        raise ModelError(f"{asked}: out of reach")


class UniformPrune(Prune):
    """Pruning with the same share of every layer."""

    def _speedup(
        self, context: Context, origin: Any, network: Any, tokenizer: Any
    ) -> Speedup | None:
        table = context.artifacts[str(self.table)].directory
        return Uniform(context, origin, network, tokenizer, table, float(self.speedup or 1))


WAYS: dict[str, type[Prune]] = {"uneven": Prune, "uniform": UniformPrune}


class Model(NamedTuple):
    """A model to prune, and the folder of its data set."""

    name: str
    source: Path
    data: Path


def eval_logits(checkpoint: Path, data: Path, folder: Path) -> list[list[float]]:
    """Return the logits (rows, labels) of a checkpoint's fp32 bundle for the eval rows."""
    notes = Notes(folder / "answers.json")

    def predict() -> list[list[float]]:
        task, split = planned.rows(checkpoint, data)
        bundle = folder / "bundle"
        bundle.mkdir(parents=True, exist_ok=True)
        build(checkpoint, bundle, task=task, split=split, form="deploy", samples=False)
        model = BundleModel(bundle, threads=2)
        logits: list[list[float]] = model.units(split.texts).tolist()
        return logits

    return notes.get("logits", predict)


def correct_rows(checkpoint: Path, data: Path, folder: Path) -> NDArray[np.bool_]:
    """Return whether a checkpoint labels each eval row correctly (rows)."""
    _, split = planned.rows(checkpoint, data)
    logits = np.array(eval_logits(checkpoint, data, folder))
    correct: NDArray[np.bool_] = logits.argmax(1) == np.array(split.labels)
    return correct


def landing(model: Model, home: Path) -> Iterator[dict[str, Any]]:
    """Prune a model to each speed-up without training; yield what was measured of each."""
    name, source, data = model
    profile = planned.run(Profile(), source, home / "profile", data=data)
    table = latency_table.load(profile)
    for target in TARGETS:
        folder = home / f"to-{target}"
        stage = Prune(speedup=target, table="profile")
        output = planned.run(stage, source, folder, data=data, profile=profile)
        faster = timed(source, output, data, folder)
        after = correct_rows(output, data, folder)
        before = correct_rows(source, data, home)
        yield {
            "model": name,
            "asked": target,
            "speedup": faster._asdict(),
            "accuracy": float(after.mean()),
            "before": float(before.mean()),
            "tokens": table.tokens,
        }


def timed(source: Path, pruned: Path, data: Path, folder: Path) -> Interval:
    """Return how much faster a pruned model is, both in int8: not what the search measured."""
    notes = Notes(folder / "timed.json")

    def measure() -> list[float]:
        task, split = planned.rows(source, data)
        bundles = {}
        for name, checkpoint in (("whole", source), ("pruned", pruned)):
            int8 = folder / f"{name}-int8"
            bundle = folder / f"{name}-bundle"
            for partial in (int8, bundle):  # of a run that was stopped
                shutil.rmtree(partial, ignore_errors=True)
            planned.int8(checkpoint, int8)
            bundle.mkdir()
            build(int8, bundle, task=task, split=split, form="deploy", samples=False)
            bundles[name] = bundle
        times = latency.measure(bundles, split.texts[:TIMED], processes=9, seconds=60)
        return list(times.ratio("whole", "pruned"))

    return Interval(*notes.get("ratio", measure))


def comparison(model: Model, home: Path, target: float) -> dict[str, Any]:
    """Return how much more accurate uneven pruning is than the same share everywhere.

    A row's difference is the mean over the seeds, so that a row counts once.
    """
    _, source, data = model
    profile = planned.run(Profile(), source, home / "profile", data=data)
    correct: dict[str, list[NDArray[np.bool_]]] = {side: [] for side in WAYS}
    speedups: dict[str, list[float]] = {side: [] for side in WAYS}
    for seed in SEEDS:
        for side, prune in WAYS.items():
            folder = home / f"{side}-{target}-{seed}"
            stage = prune(speedup=target, table="profile", recover_epochs=1, learning_rate=1e-4)
            output = planned.run(stage, source, folder, seed, data, profile=profile)
            correct[side].append(correct_rows(output, data, folder))
            speedup = planned.metrics(folder)["speedup"]
            speedups[side].append(speedup["value"])
    return {"comparison": target, "speedup": speedups, **accuracies(correct)}


def accuracies(correct: dict[str, list[NDArray[np.bool_]]]) -> dict[str, Any]:
    """Return the accuracy of each way and seed, and what uneven pruning gains over the other.

    Args:
        correct: way -> of each seed, whether each row is (rows).
    """
    uneven = np.mean(correct["uneven"], axis=0)
    uniform = np.mean(correct["uniform"], axis=0)
    return {
        "accuracy": {side: [float(rows.mean()) for rows in correct[side]] for side in WAYS},
        "difference": interval(uneven - uniform, len(TARGETS))._asdict(),
    }


def untrained(home: Path, profile: Path, target: float) -> dict[str, Any]:
    """Return what uneven pruning is worth before any training: three teachers, pruned both ways."""
    correct: dict[str, list[NDArray[np.bool_]]] = {side: [] for side in WAYS}
    divergences: dict[str, list[NDArray[Any]]] = {side: [] for side in WAYS}
    speedups: dict[str, list[float]] = {side: [] for side in WAYS}
    for seed in SEEDS:
        source = repair.teacher(home, seed)
        task, split = planned.rows(source)
        reference = repair.logarithms(source, task, split, home / f"teacher-{seed}.json")
        for side, prune in WAYS.items():
            folder = home / f"untrained-{side}-{target}-{seed}"
            stage = prune(speedup=target, table="profile")
            output = planned.run(stage, source, folder, seed, profile=profile)
            answers = repair.logarithms(output, task, split, folder / "answers.json")
            correct[side].append(answers.argmax(1) == np.array(split.labels))
            divergences[side].append(repair.divergence(reference, answers))
            speedups[side].append(planned.metrics(folder)["speedup"]["value"])
    pairs = zip(divergences["uniform"], divergences["uneven"], strict=True)
    return {
        "untrained": target,
        "speedup": speedups,
        **accuracies(correct),
        "divergence": repair.ratio(divergences["uniform"], divergences["uneven"])._asdict(),
        "divergence of seeds": [float(above.mean() / below.mean()) for above, below in pairs],
    }


def half(model: Model, home: Path) -> dict[str, Any]:
    """Remove half of the neurons of a 12×768 without training; return seconds and accuracies."""
    name, source, data = model
    folder = home / "half"
    seconds = folder / "seconds.json"
    if not seconds.is_file():
        (folder / "done").unlink(missing_ok=True)
        started = time.perf_counter()
        planned.run(Prune(remove_neurons=0.5), source, folder, data=data)
        seconds.write_text(json.dumps(time.perf_counter() - started))
    output = folder / "output"
    before = correct_rows(source, data, home)
    after = correct_rows(output, data, folder)
    gains = int((after & ~before).sum())
    losses = int((before & ~after).sum())
    return {
        "half": name,
        "seconds": json.loads(seconds.read_text()),
        "before": float(before.mean()),
        "after": float(after.mean()),
        "difference": intervals.paired_difference(gains, losses, len(after))._asdict(),
    }


def claims(rows: list[dict[str, Any]]) -> list[Claim]:
    """Return the claim of each row, by the kind of measurement."""
    claims = [landing_claim(row) for row in rows if "asked" in row]
    claims += [comparison_claim(row) for row in rows if "comparison" in row]
    for row in rows:
        if "untrained" in row:
            claims += untrained_claims(row)
    claims += [half_claim(row) for row in rows if "half" in row]
    return claims


def landing_claim(row: dict[str, Any]) -> Claim:
    """Claim that pruning lands where its target was."""
    speedup, target = Interval(**row["speedup"]), row["asked"]
    bounds = (
        is_at_least(speedup, (1 - NEAR) * target),
        is_at_most(speedup, (1 + NEAR) * target),
    )
    return Claim(
        f"{row['model']} pruned to {target}×, timed in int8 at {row['tokens']} tokens",
        f"within {NEAR:.0%}",
        f"{speedup.value:.2f}× [{speedup.low:.2f}, {speedup.high:.2f}]; accuracy "
        f"{row['before']:.1%} before, {row['accuracy']:.1%} after, in float and untrained",
        worst(bounds),
    )


def comparison_claim(row: dict[str, Any]) -> Claim:
    """Claim that uneven pruning is better than the same share of every layer, once recovered."""
    return more_accurate(f"6×384 at {row['comparison']}×", row)


def untrained_claims(row: dict[str, Any]) -> list[Claim]:
    """Claim that it is better untrained too, and that it moves the predictions less."""
    name = f"6×384 at {row['untrained']}×, untrained"
    nearer = repair.times_smaller(
        f"{name}: divergence, the same share of every layer over uneven",
        Interval(**row["divergence"]),
        row["divergence of seeds"],
        1,
    )
    return [more_accurate(name, row), nearer]


def more_accurate(name: str, row: dict[str, Any]) -> Claim:
    """Claim that uneven pruning is more accurate than the same share of every layer."""
    accuracy = {side: np.mean(values) for side, values in row["accuracy"].items()}
    speedup = {side: np.mean(values) for side, values in row["speedup"].items()}
    is_better: bool | None = None
    if row["difference"]["high"] <= 0 or speedup["uneven"] < 0.99 * speedup["uniform"]:
        is_better = False
    elif row["difference"]["low"] > 0:
        is_better = True
    return Claim(
        f"{name}: uneven against the same share of every layer",
        "more accurate, the interval without zero, and no slower",
        f"{points(row['difference'])} ({accuracy['uneven']:.1%} at {speedup['uneven']:.2f}×, "
        f"{accuracy['uniform']:.1%} at {speedup['uniform']:.2f}×)",
        is_better,
    )


def half_claim(row: dict[str, Any]) -> Claim:
    """Claim how long it takes to remove half of the neurons."""
    return Claim(
        "a fine-tuned 12×768 without half of its neurons, untrained",
        "in under 5 minutes",
        f"{row['seconds'] / 60:.1f} minutes; accuracy {row['before']:.1%} before, "
        f"{row['after']:.1%} after ({points(row['difference'])})",
        row["seconds"] < 300,
    )


def points(difference: dict[str, float]) -> str:
    """Return a difference of shares in percentage points, with its interval."""
    return in_words(Interval(**{end: 100 * share for end, share in difference.items()}))


class Place(NamedTuple):
    """What a model became: how many times faster, and its accuracy as a share."""

    speedup: float
    accuracy: float


class Curve(NamedTuple):
    """Places by falling accuracy, of pruning by latency (``ours``) or of another way."""

    name: str
    places: list[Place]
    ours: bool


def draw(rows: list[dict[str, Any]], path: Path) -> None:
    """Draw the accuracy of the rows against the measured speed-up. Nothing is drawn of no rows."""
    curves = [*_untrained(rows), *_recovered(rows)]
    if curves:
        path.write_text(stand_alone(_picture(curves), "light"))


def _untrained(rows: list[dict[str, Any]]) -> Iterable[Curve]:
    """Yield each model as it was, and as pruned to each speed-up without training."""
    curves: dict[str, list[Place]] = {}
    for row in rows:
        if "asked" not in row:
            continue
        places = curves.setdefault(row["model"], [Place(1.0, row["before"])])
        places.append(Place(row["speedup"]["value"], row["accuracy"]))
    for model, places in curves.items():
        yield Curve(f"{model}, untrained", places, True)


def _recovered(rows: list[dict[str, Any]]) -> Iterable[Curve]:
    """Yield both ways of pruning after recovery, as means of the seeds."""
    compared = [row for row in rows if "comparison" in row]
    names = {"uneven": "after an epoch", "uniform": "after an epoch, equal shares"}
    for side, name in names.items():
        places = []
        for row in compared:
            speedup = float(np.mean(row["speedup"][side]))
            accuracy = float(np.mean(row["accuracy"][side]))
            places.append(Place(speedup, accuracy))
        if places:
            yield Curve(f"6×384, {name}", places, side == "uneven")


def _last_accuracy(curve: Curve) -> float:
    """Return the accuracy of a curve's last place, beside which its name stands."""
    return curve.places[-1].accuracy


def _picture(curves: list[Curve]) -> str:
    places = [place for curve in curves for place in curve.places]
    least = min(place.accuracy for place in places)
    most = max(place.accuracy for place in places)
    room = 0.08 * (most - least)
    fastest = max(place.speedup for place in places)
    speedup = Axis(SPEEDUP, 1, fastest, "{:.1f}×".format, inset=(10, NAMES))
    accuracy = Axis("Accuracy", least - room, most + room, wording.share)
    plot = Plot("pruning", WIDE, HEIGHT, "Accuracy against speed-up", x=speedup, y=accuracy)
    for curve in curves:
        with plot.tooltip(curve.name):
            plot.series(curve.places, style(curve.ours))
            for place in curve.places:
                plot.dot(*plot.place(*place), curve.ours)
        values = [f"{place.accuracy:.1%} at {place.speedup:.2f}×" for place in curve.places]
        plot.descriptions.append(f"{curve.name}: {', '.join(values)}")
    x = plot.area.right - NAMES + 16
    y = plot.area.top
    for curve in sorted(curves, key=_last_accuracy, reverse=True):
        height = plot.up(_last_accuracy(curve))
        y = max(height, y + APART)
        font = Font(style(curve.ours).font.colour)
        plot.text(x, y, curve.name, font)
    return plot.svg()


def main() -> int:
    """Prune, measure, compare; write the record."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--home", type=Path, required=True, help="folder for all that is kept")
    parser.add_argument("--mpnet", type=Path, help="a fine-tuned 12×768 checkpoint")
    parser.add_argument("--rows", type=Path, help="folder of its train.jsonl and eval.jsonl")
    options = parse(parser, PARTS, "PART")
    home = options.home.resolve()
    small = Model("6×384", planned.teacher(), planned.DATA)
    large = None
    if options.mpnet:
        data = options.rows or planned.DATA
        large = Model(LARGE, options.mpnet.resolve(), data.resolve())
        planned.rows(large.source, large.data)  # its labels must be those of the rows
    note = home / "measured.json"
    if not is_of_now(note):
        for name in ("6x384", "12x768"):
            shutil.rmtree(home / name, ignore_errors=True)
        note_now(note)
    rows = {}
    if RESULTS.is_file():
        rows = {subject(row): row for row in json.loads(RESULTS.read_text())["rows"]}
    code = 0
    for row in measured(options.names, home, small, large):
        print(json.dumps(row), file=sys.stderr, flush=True)
        rows[subject(row)] = row | here()
        recorded = list(rows.values())
        draw(recorded, PICTURE)
        code = finish("pruning", recorded, claims(recorded), seed=0)
    return code


def measured(
    parts: Sequence[str], home: Path, small: Model, large: Model | None
) -> Iterator[dict[str, Any]]:
    """Yield the rows of some parts."""
    if "landing" in parts:
        yield from landing(small, home / "6x384")
    if "comparison" in parts:
        for target in TARGETS:
            yield comparison(small, home / "6x384", target)
    if "untrained" in parts:
        profile = planned.run(Profile(), small.source, home / "6x384" / "profile")
        for target in TARGETS:
            yield untrained(home / "6x384", profile, target)
    if large:
        yield half(large, home / "12x768")
        yield from landing(large, home / "12x768")


def subject(row: dict[str, Any]) -> tuple[Any, ...]:
    """Return what a row is of: a new one replaces the old one of the same."""
    return tuple(row.get(key) for key in ("model", "asked", "comparison", "untrained", "half"))


if __name__ == "__main__":
    sys.exit(main())
