"""What low rank is worth: in which metric a weight is cut, and against pruning at equal time.

    python -m benchmarks.low_rank --home DIR [--seeds N] [PART …]

The demo's teacher (6×384), fine-tuned with up to three seeds. The parts, in this order:

``embeddings``  the table of tokens at low rank against fewer bits at equal bytes.
``metrics``     its linear layers keep a share of their weights, by the SVD of the weight itself, in
                the metric of its inputs (SVD-LLM, Wang et al. 2024, arXiv 2403.07378), and in that
                of the gradients at its outputs as well, as ``factorize`` does. Also how far the
                gradients' moment is damped, with the first seed.
``drawn``       the first seed's, by gradients of labels that the teacher's answers draw.
``time``        the first seed's int8 bundles of low rank and of pruned models take turns in one
                process, by the time of its CPU. Between the pruned ones, the share to remove for
                the time of a low rank is read; the models that lost it are then timed as well.
``pruning``     ``prune`` removes that share of the multiply-adds, and the share that leaves as many
                bytes.
``chained``     half of the multiply-adds are pruned, and the rest is made low rank; or more is
                pruned, for equal time.

What an epoch of training leaves of it, and other models: ``benchmarks.recovery``. All work is in
DIR, and a run that was stopped goes on from there: start in another one if the code has changed.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from benchmarks import planned
from benchmarks.ablation import interval
from benchmarks.record import Claim, finish, here, parse
from benchmarks.repair import divergence, logarithms, ratio, smaller, teacher
from rarefy.exporters.build import build
from rarefy.pipeline.data.split import Split
from rarefy.pipeline.model import checkpoint
from rarefy.pipeline.model.quantization import plan as quantization
from rarefy.pipeline.model.runtime.bundle_model import BundleModel
from rarefy.pipeline.tasks import Task
from rarefy.pipeline.terms.interval import Interval
from rarefy.stages.common.resume import Notes
from rarefy.stages.factorize import Factorize, moments, svd, thin
from rarefy.stages.factorize.moments import Moments
from rarefy.stages.prune import Prune
from rarefy.stages.quantization import bundles, sensitivity
from rarefy.stages.training import calibration_rows

PARTS = ("embeddings", "metrics", "drawn", "time", "pruning", "chained")
AT_EQUAL_TIME = {"time", "pruning", "chained"}
SHARES = (0.7, 0.5)
"""Of the weights of linear layers that stay."""
REMOVED = (0.15, 0.35, 0.5, 0.6)
"""Of the multiply-adds of heads and neurons, in the pruned models that are timed."""
FIRST, THEN = 0.5, 0.7
"""The share of the multiply-adds that is pruned first, and of the weights that low rank keeps."""
DAMPINGS = (0.1, 1.0)
"""Beside that of the stage."""
CALIBRATION = 512
LENGTH = 64
EVERY = 4
"""Of the eval rows, every fourth one is answered."""
TIMED, ROUNDS = 30, 8
RANKS = (96, 128, 192)
"""Of embeddings. 192 columns in int8 are the bytes of 384 in four bits, without their scales."""
CHAINED, PRUNED_MORE = "pruned, then low rank", "pruned more, equal time"
Key = tuple[float | None, str]
"""The share of the weights that low rank keeps, and what else was done; None if that says it."""


@dataclass
class Seed:
    """A teacher, its eval rows, and what it answers them."""

    home: Path
    number: int
    source: Path
    task: Task
    split: Split
    answers: NDArray[np.float64]

    def folder(self, name: str) -> Path:
        """Return the folder for a variant's work, which exists."""
        folder = self.home / f"{self.number}-{name}"
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def compare(self, output: Path) -> tuple[NDArray[Any], NDArray[Any]]:
        """Return rows of a checkpoint: divergence from the teacher in nats, and who is correct."""
        answers = logarithms(output, self.task, self.split, output.parent / "answers.json")
        is_correct = answers.argmax(1) == np.array(self.split.labels)
        return divergence(self.answers, answers), is_correct


def opened(home: Path, number: int) -> Seed:
    """Return a seed's teacher, which is fine-tuned now if it is not there."""
    source = teacher(home, number)
    task, split = planned.rows(source)
    labels = list(split.labels or [])
    few = planned.split(split.texts[::EVERY], labels[::EVERY])
    answers = logarithms(source, task, few, home / f"teacher-{number}.answers.json")
    return Seed(home, number, source, task, few, answers)


class Measured:
    """The layers of a seed's teacher and their moments, from which each way takes what it uses."""

    def __init__(self, seed: Seed, *, drawn: bool = False) -> None:
        self.seed, self.drawn = seed, drawn
        self.decomposed: dict[str, list[thin.Layer]] = {}

    @cached_property
    def model(self) -> Any:
        """The teacher."""
        return checkpoint.load(self.seed.source)

    @cached_property
    def layers(self) -> dict[str, Any]:
        """Its linear layers by name."""
        return moments.eligible(self.model)

    @cached_property
    def batches(self) -> list[dict[str, Tensor]]:
        """Rows of train with their labels, or with labels that are drawn."""
        tokenizer = checkpoint.load_tokenizer(self.seed.source)
        config = (self.seed.source / "config.json").read_text()
        numbers = json.loads(config)["label2id"]
        lines = [json.loads(line) for line in planned.TRAIN.read_text().splitlines()]
        lines = lines[planned.DEV :]
        few = [lines[at * len(lines) // CALIBRATION] for at in range(CALIBRATION)]
        texts = [line["text"] for line in few]
        labels = [numbers[str(line["label"])] for line in few]
        train = planned.split(texts, labels)
        if self.drawn:
            labels = _drawn_labels(self.seed, train)
            train = planned.split(texts, labels)
        rows = self.seed.task.encoder.examples(tokenizer, train, range(len(few)))
        return list(calibration_rows.batches(rows, "cpu"))

    @cached_property
    def sums(self) -> list[Moments]:
        """The moments of each layer."""
        loss = self.seed.task.objective.summed_loss()
        layers = list(self.layers.values())
        return moments.measure(self.model, layers, self.batches, loss, lambda *_: None)

    def save(self, way: str, share: float, decompose: Callable[..., Any]) -> Path:
        """Make the teacher thin in one way; return the folder of the checkpoint."""
        folder = self.seed.folder(f"{share}-{way}")
        output = folder / "output"
        if (folder / "done").is_file():
            return output
        if way not in self.decomposed:
            layers = []
            for (name, linear), sums in zip(self.layers.items(), self.sums, strict=True):
                decomposition = decompose(linear.weight.detach(), sums)
                layers.append(thin.Layer(name, decomposition))
            self.decomposed[way] = layers
        layers = self.decomposed[way]
        ranks = thin.ranks_within(layers, share)
        model = checkpoint.load(self.seed.source)
        thin.replace(model, layers, ranks)
        checkpoint.save(model, checkpoint.load_tokenizer(self.seed.source), output)
        (folder / "done").touch()
        return output


def _drawn_labels(seed: Seed, split: Split) -> list[int]:
    """Return labels drawn from the teacher's probabilities, as in the true Fisher information."""
    answers = logarithms(seed.source, seed.task, split, seed.folder("drawn") / "answers.json")
    generator = np.random.default_rng(0)
    labels = []
    for row in answers:
        label = generator.choice(len(row), p=np.exp(row))
        labels.append(int(label))
    return labels


def plain(weight: Tensor, sums: Moments) -> svd.Decomposition:
    """Return the SVD of the weight itself."""
    outputs, inputs = weight.shape
    return svd.decompose(weight, torch.eye(inputs), torch.eye(outputs))


def by_inputs(weight: Tensor, sums: Moments) -> svd.Decomposition:
    """Return the SVD in the metric of the inputs; layers weigh as their mean squared gradient."""
    mean = sums.mean_gradients.diagonal().mean()
    return svd.decompose(weight, sums.inputs, mean * torch.eye(len(weight)))


def by_both(
    weight: Tensor, sums: Moments, damping: float = svd.GRADIENT_DAMPING
) -> svd.Decomposition:
    """Return the SVD in the metric of both sides, as the stage does."""
    return svd.decompose(weight, sums.inputs, sums.mean_gradients, damping)


def metric_ways(measured: Measured, share: float) -> dict[str, Path]:
    """Return way -> checkpoint, of all metrics; the damping is tried once."""
    ways = {
        "both": measured.save("both", share, by_both),
        "inputs": measured.save("inputs", share, by_inputs),
        "plain": measured.save("plain", share, plain),
    }
    if measured.seed.number > 0 or share < SHARES[0]:
        return ways
    for damping in DAMPINGS:
        damped = partial(by_both, damping=damping)
        name = f"both, damping {damping:g}"
        ways[name] = measured.save(f"both-{damping:g}", share, damped)
    return ways


def drawn_ways(measured: Measured, share: float) -> dict[str, Path]:
    """Return way -> checkpoint, by gradients of labels that the teacher's answers draw."""
    return {"both, drawn labels": measured.save("drawn", share, by_both)}


def pruned(seed: Seed, removed: float) -> Path:
    """Return the teacher without a share of its multiply-adds."""
    stage = Prune(remove_macs=removed, calibration_rows=CALIBRATION)
    name = f"pruned-{removed:.3f}"
    return planned.run(stage, seed.source, seed.folder(name), seed.number)


def chained(seed: Seed) -> Path:
    """Return the teacher that is pruned first and then made low rank."""
    stage = Factorize(keep_weights=THEN, calibration_rows=CALIBRATION)
    return planned.run(stage, pruned(seed, FIRST), seed.folder("chained"), seed.number)


def exported(seed: Seed, source: Path, name: str) -> Path:
    """Return the int8 bundle of a checkpoint."""
    folder = seed.folder("bundles") / name
    if (folder / "done").is_file():
        return folder / "bundle"
    quantization.write(bundles.rounded(checkpoint.load(source)), source)
    (folder / "bundle").mkdir(parents=True, exist_ok=True)
    labels = list(seed.split.labels or [])
    dev = planned.split(seed.split.texts[:100], labels[:100])
    build(source, folder / "bundle", task=seed.task, split=dev, form="deploy", samples=False)
    (source / quantization.FILE).unlink()
    (folder / "done").touch()
    return folder / "bundle"


def timed(bundles: dict[str, Path], texts: Sequence[str]) -> dict[str, list[float]]:
    """Return for each bundle the seconds of CPU of some texts, each the least of several rounds."""
    models = {}
    for name, bundle in bundles.items():
        models[name] = BundleModel(bundle, threads=1)
    chosen = [texts[at * len(texts) // TIMED] for at in range(TIMED)]
    least = {name: [float("inf")] * TIMED for name in models}
    for _ in range(ROUNDS):
        for at, text in enumerate(chosen):
            for name, model in models.items():
                before = time.process_time()
                model.units([text])
                seconds = time.process_time() - before
                least[name][at] = min(least[name][at], seconds)
    return least


def speedup(whole: list[float], small: list[float]) -> Interval:
    """Return how many times as fast a bundle is, bootstrapped over texts."""
    return ratio([np.array(whole)], [np.array(small)])


def equal_share(times: dict[str, list[float]], name: str) -> float:
    """Return the share of multiply-adds to remove for the time of a bundle.

    Between the measured ones, and 0, at which nothing is removed. Ends the benchmark if the bundle
    is faster than all of them.
    """
    sums = [sum(times["whole"])]
    for removed in REMOVED:
        sums.append(sum(times[f"pruned-{removed}"]))
    falling = np.minimum.accumulate(sums)
    asked = sum(times[name])
    if asked < falling[-1]:
        raise SystemExit(f"{name} is faster than all pruned models: remove more in REMOVED")
    shares = (0.0, *REMOVED)
    share = np.interp(asked, falling[::-1], shares[::-1])
    return round(float(share), 3)


def times_of(seed: Seed, measured: Measured) -> tuple[dict[str, list[float]], dict[str, float]]:
    """Return the times of the first seed's bundles, measured once, and shares of equal time."""
    low_ranks = {}
    for share in SHARES:
        low_ranks[f"both-{share}"] = measured.save("both", share, by_both)
    low_ranks["chained"] = chained(seed)
    sources = {"whole": seed.source, **low_ranks}
    for removed in REMOVED:
        sources[f"pruned-{removed}"] = pruned(seed, removed)
    times = _timed_once(seed, sources)
    shares = {name: equal_share(times, name) for name in low_ranks}
    again = {"whole": seed.source, **low_ranks}
    for name, removed in shares.items():
        again[f"{name}, pruned by {removed:.1%}"] = pruned(seed, removed)
    return _timed_once(seed, again), shares


def _timed_once(seed: Seed, sources: dict[str, Path]) -> dict[str, list[float]]:
    """Return the times of bundles, which are kept under the names of all."""
    notes = Notes(seed.home / "times.json")

    def measure() -> dict[str, list[float]]:
        bundles = {name: exported(seed, source, name) for name, source in sources.items()}
        return timed(bundles, seed.split.texts)

    return notes.get(", ".join(sources), measure)


def tables(seed: Seed) -> dict[str, Path]:
    """Return way -> checkpoint, whose table of tokens is rounded or of low rank."""
    ways = {}
    for name, change in table_changes(seed).items():
        folder = seed.folder(f"table-{name.replace(' ', '-')}")
        ways[f"table: {name}"] = folder / "output"
        if not (folder / "done").is_file():
            model = checkpoint.load(seed.source)
            change(model.get_input_embeddings())
            tokenizer = checkpoint.load_tokenizer(seed.source)
            checkpoint.save(model, tokenizer, folder / "output")
            (folder / "done").touch()
    return ways


def table_changes(seed: Seed) -> dict[str, Callable[[Any], None]]:
    """Return what is done to a table in place, by name."""
    tokenizer = checkpoint.load_tokenizer(seed.source)
    lines = [json.loads(line)["text"] for line in planned.TRAIN.read_text().splitlines()]
    often = torch.ones(len(tokenizer))
    for ids in tokenizer(lines, truncation=True, max_length=LENGTH)["input_ids"]:
        often[ids] += 1

    def low_rank(table: Any, rank: int) -> None:
        wide = table.weight.detach().double()
        moment = (wide * often.double()[:, None]).T @ wide
        basis = torch.linalg.eigh(moment).eigenvectors[:, -rank:]
        table.weight.data = (wide @ basis @ basis.T).float()

    def rounded(table: Any, precision: Any) -> None:
        with sensitivity.rounded_tables(table, precision):
            weight = table.weight.data
        table.weight.data = weight

    changes: dict[str, Callable[[Any], None]] = {}
    for rank in RANKS:
        changes[f"rank {rank}"] = partial(low_rank, rank=rank)
    for precision in ("int8", "int4"):
        changes[precision] = partial(rounded, precision=precision)
    return changes


def claims(results: dict[Key, list[Any]], shares: dict[str, float]) -> list[Claim]:
    """Return what low rank must show."""
    pairs: list[tuple[str, Key, Key, float]] = []
    for kept in SHARES:
        both: Key = (kept, "both")
        title = f"{kept:.0%} of the weights"
        pairs.append((f"{title}: plain over both sides", (kept, "plain"), both, 2.0))
        pairs.append((f"{title}: inputs over both sides", (kept, "inputs"), both, 1.2))
        removed = shares.get(f"both-{kept}", 0.0)
        cut = f"{title}, about equal time ({removed:.1%} of the multiply-adds pruned)"
        pairs.append((f"{cut}: pruned over low rank", (kept, "pruned, equal time"), both, 1.0))
        cut = f"{title}, equal bytes ({1 - kept:.0%} of the multiply-adds pruned)"
        pairs.append((f"{cut}: pruned over low rank", (kept, "pruned, equal bytes"), both, 1.0))
    title = (
        f"{FIRST:.0%} of the multiply-adds pruned, then {THEN:.0%} of the weights kept, or "
        f"{shares.get('chained', 0.0):.1%} pruned, about equal time: pruned alone over both"
    )
    pairs.append((title, (None, PRUNED_MORE), (None, CHAINED), 1.0))
    rank = f"table: rank {RANKS[-1]}"
    pairs.append((f"{rank} over int4", (None, rank), (None, "table: int4"), 1.0))
    judged = []
    for title, above, below, least in pairs:
        if above not in results or below not in results:
            continue  # a part that was not asked for
        over = [divergence for divergence, _ in results[above]]
        under = [divergence for divergence, _ in results[below]]
        judged.append(smaller(f"divergence from the teacher, {title}", over, under, least))
    return judged


def measured_rows(
    home: Path, seeds: int, parts: list[str]
) -> tuple[dict[Key, list[Any]], dict[Key, int], dict[str, float], dict[str, list[float]]]:
    """Return what each way came to, seed after seed, its bytes, shares of equal time, and times."""
    results: dict[Key, list[Any]] = {}
    sizes: dict[Key, int] = {}
    times: dict[str, list[float]] = {}
    shares: dict[str, float] = {}
    for number in range(seeds):
        seed = opened(home, number)
        measured = Measured(seed)

        def note(kept: float | None, ways: dict[str, Path], seed: Seed = seed) -> None:
            for way, output in ways.items():
                rows, is_correct = seed.compare(output)
                results.setdefault((kept, way), []).append((rows, is_correct))
                sizes.setdefault((kept, way), (output / "model.safetensors").stat().st_size)
                title = way if kept is None else f"{kept:.0%} {way}"
                summary = f"{rows.mean():.5f} nats, {is_correct.mean():.2%}"
                print(f"seed {seed.number}, {title}: {summary}", flush=True)

        if "embeddings" in parts:
            note(None, tables(seed))
        if "metrics" in parts:
            for kept in SHARES:
                note(kept, metric_ways(measured, kept))
        if "drawn" in parts and number == 0:
            drawn = Measured(seed, drawn=True)
            for kept in SHARES:
                note(kept, drawn_ways(drawn, kept))
        if not times and AT_EQUAL_TIME.intersection(parts):
            times, shares = times_of(seed, measured)
            print(shares, flush=True)
            for name, seconds in times.items():
                print(f"{name}: {speedup(times['whole'], seconds)}", flush=True)
        if "pruning" in parts:
            for kept in SHARES:
                note(kept, {"pruned, equal time": pruned(seed, shares[f"both-{kept}"])})
                note(kept, {"pruned, equal bytes": pruned(seed, 1 - kept)})
        if "chained" in parts:
            more = pruned(seed, shares["chained"])
            note(None, {CHAINED: chained(seed), PRUNED_MORE: more})
    return results, sizes, shares, times


def main() -> int:
    """Measure, and write the record."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--home", type=Path, required=True, help="folder for all that is kept")
    parser.add_argument("--seeds", type=int, default=3, help="number of seeds")
    options = parse(parser, PARTS, "PART")
    home = options.home.resolve()
    home.mkdir(parents=True, exist_ok=True)
    results, sizes, shares, times = measured_rows(home, options.seeds, options.names)
    rows: list[dict[str, Any]] = []
    for (kept, way), seeds in results.items():
        nats = [float(divergence.mean()) for divergence, _ in seeds]
        accuracies = [interval(is_correct, 1)._asdict() for _, is_correct in seeds]
        facts = {"kept": kept, "way": way, "seeds": list(range(len(seeds)))}
        measured = {"bytes": sizes[kept, way], "nats": nats, "accuracy": accuracies}
        rows.append(facts | measured | here())
    for name, seconds in times.items():
        faster = speedup(times["whole"], seconds)
        rows.append({"bundle": name, "seeds": [0], "speedup": faster._asdict()} | here())
    for name, removed in shares.items():
        rows.append({"bundle": name, "equal time at multiply-adds removed": removed} | here())
    return finish("low_rank", rows, claims(results, shares), 0)


if __name__ == "__main__":
    raise SystemExit(main())
