"""What quantization-aware training wins back on a small student, beside training without it.

    python -m benchmarks.qat [--checkpoint DIR] [--folder DIR]   about 20 minutes; needs `make demo`

Per seed, a student of two layers is distilled from the checkpoint (by default the demo's teacher),
and every layer gets a plan: static ranges from the smallest to the largest input, or dynamic ones.
``after`` is the student rounded after training; ``qat`` trained one more epoch under the rounding;
``control`` trained that epoch on the same answers without it, and was then rounded by a plan of its
own. Bundles answer the eval rows. Differences are of the same rows and seeds. With ``--folder``, a
run that was killed goes on from there.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks import planned
from benchmarks.ablation import interval
from benchmarks.record import Claim, finish
from exporters.build import build
from pipeline.model.runtime import BundleModel
from pipeline.terms.interval import Interval
from stages.distill import Distill
from stages.notes import Notes
from stages.qat import Qat
from stages.quantize import Quantize

SEEDS, MODES = (0, 1, 2), ("static", "dynamic")
LAYERS, EPOCHS, RATE = 2, 1, 5e-5
FORMS = ("float", "after", "qat", "control")


def answered(checkpoint: Path, folder: Path) -> list[list[float]]:
    """Return the logarithms of the probabilities that a checkpoint's bundle gives the eval rows."""
    task, split = planned.rows(checkpoint)
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder) as name:
        build(checkpoint, Path(name), task=task, split=split, form="deploy", samples=False)
        found: list[list[float]] = planned.logarithms(
            BundleModel(Path(name)).units(split.texts)
        ).tolist()
    return found


def answers(source: Path, folder: Path, seed: int) -> dict[str, list[list[float]]]:
    """Return the answers of a seed's student in each form and mode."""
    notes = Notes(folder / "answers.json")
    distil = Distill(layers=LAYERS, epochs=3, learning_rate=2e-4, batch_size=64, hidden_weight=1)
    student = planned.run(distil, source, folder / "student", seed)
    longer = Distill(teacher="student", epochs=EPOCHS, learning_rate=RATE)
    control = planned.run(longer, student, folder / "control", seed, student=student)

    def noted(name: str, checkpoint: Path) -> None:
        print(f"seed {seed}: {name}", flush=True)
        found[name] = notes.get(name, lambda: answered(checkpoint, folder))

    found = dict[str, list[list[float]]]()
    noted("float", student)
    for mode in MODES:
        plan = Quantize(mode=mode, sensitivity=False)
        after = planned.run(plan, student, folder / f"after-{mode}", seed)
        trained = planned.run(
            Qat(epochs=EPOCHS, learning_rate=RATE), after, folder / f"qat-{mode}", seed
        )
        (trained / "quantization.json").write_bytes((after / "quantization.json").read_bytes())
        noted(f"after {mode}", after)
        noted(f"qat {mode}", trained)
        noted(f"control {mode}", planned.run(plan, control, folder / f"control-{mode}", seed))
    return found


def compared(given: list[dict[str, Any]], labels: NDArray[Any], one: str, other: str) -> Interval:
    """Return how much more accurate one form is than another, all seeds together."""
    ours, theirs = (
        np.mean([np.array(each[name]).argmax(1) == labels for each in given], axis=0)
        for name in (one, other)
    )
    return interval(ours - theirs, 1)  # a row of several seeds counts once


def row(given: list[dict[str, Any]], labels: NDArray[Any], form: str) -> dict[str, Any]:
    """Return a form's accuracy, its divergence from the float student and its difference to it."""
    accuracies, divergences = [], []
    for each in given:
        exact, answers = np.array(each["float"]), np.array(each[form])
        accuracies.append(float((answers.argmax(1) == labels).mean()))
        divergences.append(float((np.exp(exact) * (exact - answers)).sum(axis=1).mean()))
    return {
        "form": form,
        "accuracy": accuracies,
        "kl": divergences,
        "difference": compared(given, labels, form, "float")._asdict(),
    }


def claims(given: list[dict[str, Any]], labels: NDArray[Any], rows: list[Any]) -> list[Claim]:
    """Return what must be shown of each mode."""
    kl = {each["form"]: float(np.mean(each["kl"])) for each in rows}
    found = []
    for mode in MODES:
        won = compared(given, labels, f"qat {mode}", f"after {mode}")
        more = compared(given, labels, f"qat {mode}", f"control {mode}")
        found += [
            Claim(
                f"{mode}: training under rounding wins accuracy back",
                "more than 0",
                f"{points(won)}; beside the control {points(more)}",
                won.low > 0,
            ),
            Claim(
                f"{mode}: and brings the answers nearer to those of the float student",
                "KL below rounding after training",
                ", ".join(f"{form} {kl[f'{form} {mode}']:.2g}" for form in FORMS[1:]),
                kl[f"qat {mode}"] < kl[f"after {mode}"],
            ),
        ]
    return found


def points(difference: Interval) -> str:
    value, low, high = (100 * each for each in (difference.value, difference.low, difference.high))
    return f"{value:+.2f} points [{low:+.2f}, {high:+.2f}]"


def main() -> int:
    """Train, round, answer; write the record."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--checkpoint", type=Path, default=None)
    parser.add_argument("--folder", type=Path, default=None)
    named = parser.parse_args()
    source = named.checkpoint or planned.teacher()
    labels = np.array(planned.rows(source)[1].labels)
    with tempfile.TemporaryDirectory(prefix="rarefy-qat-") as temporary:
        folder = named.folder or Path(temporary)
        given = [answers(source, folder / str(seed), seed) for seed in SEEDS]
    rows = [row(given, labels, form) for form in given[0]]
    for each in rows:
        print(each)
    return finish("qat", rows, claims(given, labels, rows), seed=0)


if __name__ == "__main__":
    raise SystemExit(main())
