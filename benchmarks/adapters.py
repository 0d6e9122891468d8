"""What adapters cost and give against fine-tuning all weights, on three tasks.

    python -m benchmarks.adapters --home DIR [--seeds N] [PART …]

One all-MiniLM-L6-v2 learns the labels of reviews, the concepts above a definition, and parts of
speech, each of a part of the examples' training rows: all weights, LoRA (Hu et al. 2022, arXiv
2106.09685) or DoRA (Liu et al. 2024, arXiv 2402.09353). The learning rate is that with the best
score on other training rows, with one seed, and DoRA has LoRA's; of reviews, which have one label
each, more rows are needed for that. Then three seeds answer a part of the eval rows. ``ranks``
compares scales of the update at the learning rate that is best at rank 8: alpha over the rank,
alpha over its root (rsLoRA, Kalajdzievski 2023, arXiv 2312.03732), and the same for every rank.
``layers`` adapts attention's alone, and ``dropout`` drops nothing. ``heads`` begins from a random
head, where a classifier's is else fitted to the frozen body first (Kumar et al. 2022, arXiv
2202.10054), at the learning rate that is best then; ``few`` compares the two on other rows of
reviews, eight times, since one draw of so few rows says little. A training has a process and a core
of its own, about half a minute each. All work is in DIR, and a run that was stopped goes on from
there; a part that is not named keeps what the record says of it.
"""

from __future__ import annotations

import argparse
import json
import math
import resource
import shutil
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any, ClassVar, Literal
from unittest.mock import patch

import numpy as np
from numpy.typing import NDArray

from benchmarks.bundle import ROOT
from benchmarks.record import HERE, Claim, finish, here, in_words, is_at_least, parse
from rarefy.pipeline.data.development_split import picked
from rarefy.pipeline.data.split import Split
from rarefy.pipeline.recipe import recipe as recipes
from rarefy.pipeline.run import decisions
from rarefy.pipeline.run.plan.plan import Plan
from rarefy.pipeline.sources.references import model_directory
from rarefy.pipeline.stage import Context, Stage
from rarefy.pipeline.store.artifact import Artifact, Kind, Manifest, StageRecord
from rarefy.pipeline.store.store import Store
from rarefy.pipeline.terms.interval import Interval
from rarefy.stages.adapt import Adapt
from rarefy.stages.finetune import Finetune

RESULTS = HERE / "results" / "adapters.json"
SEEDS = 3
EPOCHS, BATCH = 3, 16
RANK = 8
MARGIN = 2.0
"""Points that an adapter may lose."""
DRAWS = 2000


@dataclass(frozen=True)
class Subject:
    """A task: its example, and the number of rows for each purpose."""

    example: str
    rows: int
    """Of train, that are learned."""
    answered: int
    """Of eval."""
    dev: int
    """Of train, on which learning rates are compared."""


SUBJECTS = {
    "parts of speech": Subject("parts-of-speech", 300, 400, 200),
    "reviews": Subject("demo", 320, 800, 1000),
    "concepts": Subject("concepts", 3000, 800, 200),
}


@dataclass(frozen=True)
class Training:
    """One training: what is trained, how, and with which seed."""

    subject: str
    method: Literal["full", "lora", "dora"]
    learning_rate: float
    rank: int = 0
    scale: float = 0
    seed: int = 0
    modules: Literal["attention", "all-linear"] = "all-linear"
    dropout: float = 0.05
    head: Literal["fitted", "random"] = "fitted"
    draw: int = 0
    """The rows of which turn are learned: no row is in two."""

    @property
    def name(self) -> str:
        """The name of its folder."""
        what = (self.subject, self.method, self.rank, f"{self.scale:.3g}")
        parts = [*what, self.learning_rate, self.seed]
        if self.modules != "all-linear":
            parts.append(self.modules)
        if self.dropout != Training.dropout:
            parts.append(f"dropout-{self.dropout:g}")
        if self.head != Training.head:
            parts.append(f"{self.head}-head")
        if self.draw:
            parts.append(f"draw-{self.draw}")
        return "-".join(map(str, parts)).replace(" ", "-")


class Variant(Adapt):
    """An adapter of any scale, which also trains the magnitudes of the weights if it is DoRA."""

    name: ClassVar[str] = "variant"

    scale: float
    magnitudes: bool

    def configuration(self, network: Any) -> Any:
        """Return peft's configuration."""
        configuration = super().configuration(network)
        configuration.lora_alpha = self.scale * self.rank
        configuration.use_dora = self.magnitudes
        return configuration


LORA = {"method": "lora", "rank": RANK, "scale": 2.0}
METHODS: dict[str, tuple[dict[str, Any], tuple[float, ...]]] = {
    "all weights": ({"method": "full"}, (2e-4, 6e-4)),
    "LoRA": (LORA, (5e-4, 1.5e-3, 5e-3)),
}
"""Name -> what is trained, and the learning rates that are tried."""
RANKS = (64,)
RANKED = "parts of speech"
"""The task on which ranks are compared."""
RULES = {
    "alpha over rank": lambda rank: 2.0 * RANK / rank,
    "alpha over its root": lambda rank: 2.0 * math.sqrt(RANK / rank),
    "fixed": lambda rank: 2.0,
}
"""The scale of the update by its rank; all are 2 at rank 8."""
IMPORTED = ["peft", "rarefy.stages.training.loop", "transformers.models.bert.modeling_bert"]
"""Modules that a training's process need not import itself, so that each has the same memory."""
OVER_LORA = "DoRA against LoRA"
AGAINST = "{} against alpha over rank"
ATTENTION = "LoRA on attention alone against all layers"
DROPOUT = "LoRA with a dropout of 5% against none"
HEADS = "{} from a fitted head against a random one"
DRAWN = HEADS + ", by the rows that are drawn"
CLASSIFIERS = ("reviews", "concepts")
"""The tasks whose head is fitted first."""
DRAWN_TIMES = 8
PARTS = ("parts of speech", "reviews", "ranks", "concepts", "layers", "dropout", "heads", "few")


def trained(home: Path, training: Training) -> dict[str, Any]:
    """Return what a training cost and scored; train in a process of its own if that is new."""
    note = home / training.name / "note.json"
    if not note.is_file():
        processes = get_context("forkserver")
        processes.set_forkserver_preload(IMPORTED)
        with ProcessPoolExecutor(1, processes) as pool:
            pool.submit(train, home, training).result()
    numbers: dict[str, Any] = json.loads(note.read_text())
    return numbers


def train(home: Path, training: Training) -> None:
    """Train, answer the development rows and eval, and write what it cost and scored."""
    from rarefy.pipeline.measure.predictions.predict import checkpoint_answers
    from rarefy.pipeline.model import checkpoint
    from rarefy.pipeline.terms.progress import silent
    from rarefy.stages.training import head_start

    folder = home / training.name
    shutil.rmtree(folder, ignore_errors=True)
    for name in ("work", "output"):
        (folder / name).mkdir(parents=True)
    plan = planned(home, training.subject)
    subject, train_rows = SUBJECTS[training.subject], plan.splits["train"]
    first = subject.dev + training.draw * subject.rows
    learned = range(first, first + subject.rows)
    splits = {
        "train": picked(train_rows, learned, "train", "0" * 64),
        "dev": picked(train_rows, range(subject.dev), "dev", "0" * 64),
        "eval": answered(plan, training.subject),
    }
    context = Context(
        task=plan.task,
        splits=splits,
        seed=training.seed,
        device="cpu",
        threads=1,
        work=folder / "work",
        output=folder / "output",
        artifacts={},
        base=folder,
    )
    started = time.process_time()
    with ExitStack() as stack:
        if training.head == "random":
            stack.enter_context(patch.object(head_start, "fit_new_head"))
        draft = stage_of(training).run(context, encoder(plan))
    seconds = time.process_time() - started
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    decisions.choose(context, Kind.CHECKPOINT, context.output)
    scores = {}
    for name in ("dev", "eval"):
        answers = checkpoint_answers(context.output, plan.task, splits[name], silent)
        np.save(folder / f"{name}.npy", answers)
        truth = plan.task.scorer.truth(splits[name])
        formula = next(iter(plan.task.scorer.formulas(truth).values()))
        blocks = len(plan.task.scorer.correct(answers, truth))
        scores[name] = float(formula(answers, truth)(np.ones((1, blocks)))[0])
    parameters = checkpoint.describe(checkpoint.load(context.output))["parameters"]
    adapter = draft.model.get("adapter", {"trainable": parameters})
    numbers = {"trained": adapter["trainable"], "seconds": seconds, "peak": peak, **scores}
    for name in ("work", "output"):
        shutil.rmtree(folder / name)
    (folder / "note.json").write_text(json.dumps(numbers))


def stage_of(training: Training) -> Stage:
    """Return the stage that trains."""
    common: dict[str, Any] = {
        "epochs": EPOCHS,
        "batch_size": BATCH,
        "learning_rate": training.learning_rate,
    }
    if training.method == "full":
        return Finetune(**common)
    return Variant(
        rank=training.rank,
        scale=training.scale,
        modules=training.modules,
        dropout=training.dropout,
        magnitudes=training.method == "dora",
        **common,
    )


def planned(home: Path, subject: str) -> Plan:
    """Return the plan of a task's example, which reads its rows."""
    loaded = recipes.load(ROOT / "examples" / f"{SUBJECTS[subject].example}.yaml")
    return Plan(loaded, Store(home / "store"))


def answered(plan: Plan, subject: str) -> Split:
    """Return the eval rows that are answered."""
    return picked(plan.splits["eval"], range(SUBJECTS[subject].answered), "eval", "0" * 64)


def encoder(plan: Plan) -> Artifact:
    """Return the model of an example as an artifact."""
    directory, _ = model_directory(plan.loaded.recipe.model, plan.loaded.base)
    record = StageRecord(name="import", version=1, parameters={}, fingerprint="0")
    manifest = Manifest(kind=Kind.ENCODER, stage=record, files=())
    return Artifact(directory, manifest, manifest.digest)


def best(home: Path, subject: str, name: str, **options: Any) -> Training:
    """Return a method's training with the learning rate that is best on the development rows."""
    what, rates = METHODS[name]
    what = what | options
    trainings = [Training(subject, learning_rate=rate, **what) for rate in rates]
    scores = [trained(home, training)["dev"] for training in trainings]
    return trainings[int(np.argmax(scores))]


def seeds(training: Training, count: int) -> list[Training]:
    """Return the same training with each seed."""
    values = asdict(training)
    return [Training(**values | {"seed": seed}) for seed in range(count)]


def difference(home: Path, ours: list[Training], theirs: list[Training]) -> Interval:
    """Return how many points more some trainings score than others, on the same eval rows.

    The mean over seeds, bootstrapped over the rows; what a row gives in all seeds is drawn
    together.
    """
    plan = planned(home, ours[0].subject)
    truth = plan.task.scorer.truth(answered(plan, ours[0].subject))
    formula = next(iter(plan.task.scorer.formulas(truth).values()))
    scores = []
    for training in (*ours, *theirs):
        answers = np.load(home / training.name / "eval.npy")
        scores.append(formula(answers, truth))
    blocks = len(plan.task.scorer.correct(answers, truth))
    generator = np.random.default_rng(0)
    even = np.full(blocks, 1 / blocks)
    weights = generator.multinomial(blocks, even, size=DRAWS).astype(float)
    weights = np.vstack([np.ones(blocks), weights])
    values = np.array([score(weights) for score in scores])
    gain = 100 * (values[: len(ours)].mean(0) - values[len(ours) :].mean(0))
    low, high = np.quantile(gain[1:], [0.025, 0.975])
    return Interval(float(gain[0]), float(low), float(high))


def row(
    home: Path,
    title: str,
    trainings: list[Training],
    base: list[Training],
    compare: Callable[[Path, list[Training], list[Training]], Interval] = difference,
) -> dict[str, Any]:
    """Train with each seed; return what that came to, against others.

    Args:
        home: the benchmark's folder.
        title: what is trained.
        trainings: of that.
        base: what they are compared with.
        compare: returns the points that are gained, with their interval.
    """
    for training in base:
        trained(home, training)
    notes = [trained(home, training) for training in trainings]
    gain = compare(home, trainings, base)
    return {
        "task": trainings[0].subject,
        "trained": title,
        "rank": trainings[0].rank,
        "scale": round(trainings[0].scale, 3),
        "learning_rate": trainings[0].learning_rate,
        "parameters": notes[0]["trained"],
        "cpu_seconds": [round(note["seconds"], 1) for note in notes],
        "peak_bytes": [note["peak"] for note in notes],
        "scores": [note["eval"] for note in notes],
        "points": [gain.value, gain.low, gain.high],
        "floor": floor(home, trainings[0].subject),
    } | here()


def floor(home: Path, subject: str) -> float | None:
    """Return the score of one answer to every row: who scores no more has learned nothing."""
    plan = planned(home, subject)
    truth = plan.task.scorer.truth(answered(plan, subject))
    least: float | None = plan.task.scorer.floor(truth)
    return least


def compared(home: Path, subject: str, count: int) -> list[dict[str, Any]]:
    """Train all weights, LoRA and DoRA on a task with some seeds; return the rows."""
    runs = {name: seeds(best(home, subject, name), count) for name in METHODS}
    runs["DoRA"] = [replace(training, method="dora") for training in runs["LoRA"]]
    rows = [row(home, name, trainings, runs["all weights"]) for name, trainings in runs.items()]
    rows.append(row(home, OVER_LORA, runs["DoRA"], runs["LoRA"]))
    return [{**entry, "part": subject} for entry in rows]


def ranked(home: Path, count: int) -> list[dict[str, Any]]:
    """Train LoRA of other ranks by each rule of the scale; return the rows."""
    reference = best(home, RANKED, "LoRA")
    rows = []
    for rank in RANKS:
        runs = {}
        for name, rule in RULES.items():
            other = replace(reference, rank=rank, scale=rule(rank))
            runs[name] = seeds(other, count)
            rows.append(row(home, name, runs[name], seeds(reference, count)))
        for name in ("alpha over its root", "fixed"):
            rows.append(row(home, AGAINST.format(name), runs[name], runs["alpha over rank"]))
    return [{**entry, "part": "ranks"} for entry in rows]


def layers(home: Path, count: int) -> list[dict[str, Any]]:
    """Train LoRA on the layers of attention alone, on each task; return the rows."""
    rows = []
    for subject in SUBJECTS:
        everywhere = best(home, subject, "LoRA")
        alone = replace(everywhere, modules="attention")
        rows.append(row(home, ATTENTION, seeds(alone, count), seeds(everywhere, count)))
    return [{**entry, "part": "layers"} for entry in rows]


def dropout(home: Path, count: int) -> list[dict[str, Any]]:
    """Train LoRA without dropout as well, on each task; return the rows."""
    rows = []
    for subject in SUBJECTS:
        dropping = best(home, subject, "LoRA")
        without = replace(dropping, dropout=0.0)
        rows.append(row(home, DROPOUT, seeds(dropping, count), seeds(without, count)))
    return [{**entry, "part": "dropout"} for entry in rows]


def head_starts(home: Path, count: int) -> list[dict[str, Any]]:
    """Train from a random head as well, each classifier in each way; return the rows."""
    rows = []
    for subject in CLASSIFIERS:
        for name in METHODS:
            fitted = best(home, subject, name)
            random = best(home, subject, name, head="random")
            title = HEADS.format(name)
            rows.append(row(home, title, seeds(fitted, count), seeds(random, count)))
    return [{**entry, "part": "heads"} for entry in rows]


def few_rows(home: Path) -> list[dict[str, Any]]:
    """Train all weights of reviews on other rows too, from both heads; return the row."""
    fitted = draws(best(home, "reviews", "all weights"))
    random = draws(best(home, "reviews", "all weights", head="random"))
    entry = row(home, DRAWN.format("all weights"), fitted, random, over_draws)
    return [{**entry, "gains": gains(home, fitted, random).tolist(), "part": "few"}]


def draws(training: Training) -> list[Training]:
    """Return the same training on other rows each time."""
    return [replace(training, draw=draw) for draw in range(DRAWN_TIMES)]


def gains(home: Path, ours: list[Training], theirs: list[Training]) -> NDArray[np.float64]:
    """Return how many points more each training scores than the other of its draw (draws)."""
    scores = [[trained(home, training)["eval"] for training in side] for side in (ours, theirs)]
    points: NDArray[np.float64] = 100 * (np.array(scores[0]) - np.array(scores[1]))
    return points


def over_draws(home: Path, ours: list[Training], theirs: list[Training]) -> Interval:
    """Return the mean gain over the draws, with the interval of Student's t.

    Which rows are learned decides more than which are answered.
    """
    from scipy.stats import t as student

    points = gains(home, ours, theirs)
    middle = float(points.mean())
    error = points.std(ddof=1) / math.sqrt(len(points))
    half = float(error * student.ppf(0.975, len(points) - 1))
    return Interval(middle, middle - half, middle + half)


def measured(home: Path, part: str, count: int) -> list[dict[str, Any]]:
    """Return the rows of a part, measured with some seeds."""
    if part == "ranks":
        return ranked(home, count)
    if part == "layers":
        return layers(home, count)
    if part == "dropout":
        return dropout(home, count)
    if part == "heads":
        return head_starts(home, count)
    if part == "few":
        return few_rows(home)
    return compared(home, part, count)


def claims(rows: list[dict[str, Any]]) -> list[Claim]:
    """Return what adapters must show, of the rows there are."""
    judged = []
    for entry in rows:
        points = Interval(*entry["points"])
        place = f"{entry['task']}, rank {entry['rank']}"
        if entry["trained"] in ("LoRA", ATTENTION):
            title = f"{place}: {entry['trained']}"
            if entry["trained"] == "LoRA":
                title += " against all weights"
            holds = is_at_least(points, -MARGIN)
            judged.append(_claim(entry, title, f"at most {MARGIN:g} points less", holds))
        is_option = entry["trained"] in (OVER_LORA, DROPOUT)
        is_option = is_option or entry["trained"].endswith((HEADS[2:], DRAWN[2:]))
        if is_option or entry["trained"].endswith(AGAINST[2:]):
            title = f"{place}: {entry['trained']}"
            judged.append(_claim(entry, title, "more", is_at_least(points, 0.0)))
    return judged


def _claim(entry: dict[str, Any], title: str, target: str, holds: bool | None) -> Claim:
    measured = in_words(Interval(*entry["points"]))
    if max(entry["scores"]) <= (entry.get("floor") or 0):
        return Claim(title, target, f"{measured}, by models that have learned nothing", None)
    return Claim(title, target, measured, holds)


def main() -> int:
    """Train what is named, and record all."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--home", type=Path, required=True, help="folder for all that is kept")
    parser.add_argument("--seeds", type=int, default=SEEDS)
    options = parse(parser, PARTS, "PART")
    home = options.home.resolve()
    home.mkdir(parents=True, exist_ok=True)
    rows = []
    if RESULTS.is_file():
        rows = json.loads(RESULTS.read_text())["rows"]
    for part in options.names:
        entries = measured(home, part, options.seeds)
        rows = [entry for entry in rows if entry["part"] != part] + entries
        code = finish("adapters", rows, claims(rows), seed=0)
    return code


if __name__ == "__main__":
    raise SystemExit(main())
