"""Pruning, its repair and low rank once the model is trained again, and on other models.

    python -m benchmarks.recovery --home DIR [--seeds N] [SUBJECT …]

The subjects: all-MiniLM-L6-v2 (6×384) fine-tuned on half of the bundled reviews, and
all-mpnet-base-v2 (12×768, from its packages) on fewer of them, each with up to three seeds; and
all-MiniLM-L6-v2 as it is, which finds definitions, with one. Each is compressed in several ways,
and then trained by ``distill`` to give its own answers again: for an epoch, or for six, which is
long for these rows. Divergences are from the model that was compressed. The int8 bundles of the
first seeds of the last two subjects are timed in turns in one process, by the time of its CPU, so
the machine need not be quiet. All work is in DIR, and a run that was stopped goes on from there; a
subject that is not named keeps what the record says of it.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.bundle import ROOT
from benchmarks.contestants import unpacked_mpnet
from benchmarks.low_rank import timed
from benchmarks.merging import Setting, blocks_of, checkpoints, gain, outputs, rows_of, score, value
from benchmarks.record import HERE, Claim, finish, here, in_words, is_at_least, parse
from benchmarks.repair import agreed, ratio, smaller
from benchmarks.students import MINILM
from rarefy.pipeline.run.plan.plan import Plan
from rarefy.pipeline.tasks.shared.formulas import Score
from rarefy.pipeline.terms.interval import Interval
from rarefy.pipeline.terms.wording import plural
from rarefy.stages.common.resume import Notes

RESULTS = HERE / "results" / "recovery.json"
SEEDS = 3
UNTRAINED, EPOCH, LONG = "untrained", "an epoch later", "six epochs later"
TRAININGS: dict[str, dict[str, Any]] = {
    EPOCH: {"epochs": 1, "learning_rate": 1e-4, "batch_size": 32},
    LONG: {"epochs": 6, "learning_rate": 3e-4, "batch_size": 32},
}
UNREPAIRED, REPAIRED = "65% pruned, not repaired", "65% pruned"
LOW_RANK, SAME_BYTES, FASTER = "50% of the weights", "50% pruned", "30% pruned"
STAGES: dict[str, dict[str, Any]] = {
    UNREPAIRED: {"prune": {"remove_macs": "65 %", "repair": False}},
    REPAIRED: {"prune": {"remove_macs": "65 %"}},
    LOW_RANK: {"factorize": {"keep_weights": "50 %"}},
    SAME_BYTES: {"prune": {"remove_macs": "50 %"}},
    FASTER: {"prune": {"remove_macs": "30 %"}},
}
"""Ways to compress. On 6×384, ``FASTER`` takes as long as ``LOW_RANK``; see ``low_rank``."""
REPAIR_ALONE = (UNREPAIRED, REPAIRED)
RANKS_AND_UNITS = (LOW_RANK, SAME_BYTES, FASTER)
COMPARED = ((REPAIRED, UNREPAIRED), (LOW_RANK, SAME_BYTES), (LOW_RANK, FASTER))
REVIEWS = {"text": "text", "label": "label", "dev": "20 %", "max_length": 64}
TASK = "text-classification"


@dataclass(frozen=True)
class Subject:
    """A model, how it comes to its task, and what is done to it."""

    setting: Setting
    trainings: dict[str, tuple[str, ...]]
    """How it is trained again -> the ways to compress that are."""
    large: bool = False
    most_seeds: int = 1
    timed_seed: int | None = 0
    """Whose bundles are timed: one seed's are enough."""


SUBJECTS = {
    "reviews, 6×384": Subject(
        Setting(
            TASK,
            "movie-reviews",
            4000,
            2000,
            REVIEWS,
            {"epochs": 1, "learning_rate": 1e-4, "batch_size": 64},
        ),
        {EPOCH: REPAIR_ALONE + RANKS_AND_UNITS, LONG: REPAIR_ALONE},
        most_seeds=SEEDS,
        timed_seed=None,
    ),
    "search, 6×384": Subject(
        Setting(
            "sentence-embeddings",
            "wordnet-search",
            4000,
            1500,
            {
                "corpus": str(ROOT / "examples/data/wordnet-search/corpus.jsonl"),
                "text": ["query", "positive"],
                "label": None,
                "max_length": 48,
            },
            {},
        ),
        {EPOCH: RANKS_AND_UNITS},
    ),
    "reviews, 12×768": Subject(
        Setting(
            TASK,
            "movie-reviews",
            2400,
            1000,
            REVIEWS,
            {"epochs": 2, "learning_rate": 3e-5, "batch_size": 32},
        ),
        {EPOCH: RANKS_AND_UNITS},
        large=True,
        most_seeds=SEEDS,
    ),
}


@dataclass
class Way:
    """What one way came to, seed after seed."""

    divergences: list[NDArray[Any]] = field(default_factory=list)
    """Of each unit, from the model that was compressed."""
    scores: list[Score] = field(default_factory=list)


Results = dict[tuple[str, str], Way]
"""What was done to a model and how it was trained again -> what that came to."""


def slug(*words: str) -> str:
    """Return words as the id of a step."""
    return "-".join(words).replace("%", "").replace(",", "").replace(" ", "-")


def recipe(name: str, home: Path, seed: int) -> dict[str, Any]:
    """Return the recipe that compresses a subject in all its ways, and trains the results."""
    subject = SUBJECTS[name]
    setting = subject.setting
    model = str(unpacked_mpnet(home / "mpnet")) if subject.large else MINILM
    teacher, stages = "model", []
    if setting.finetune:
        teacher = "teacher"
        stages.append({"finetune": setting.finetune, "as": teacher, "seed": seed})
    compressed = set().union(*subject.trainings.values())
    for way, stage in STAGES.items():
        if way in compressed:
            stages.append({**stage, "as": slug(way), "from": teacher, "seed": seed})
    for training, ways in subject.trainings.items():
        distill = {"distill": {"teacher": teacher, **TRAININGS[training]}, "seed": seed}
        for way in ways:
            stages.append({**distill, "as": slug(way, training), "from": slug(way)})
    if seed == subject.timed_seed:
        for step in (teacher, *map(slug, RANKS_AND_UNITS)):
            stages.append({"quantize": {"sensitivity": False}, "as": f"{step}-int8", "from": step})
            stages.append({"export": {}, "as": f"{step}-bundle"})
    return {
        "name": f"{slug(name.replace('×', 'x'))}-{seed}",
        "model": model,
        "task": setting.task,
        "data": {**rows_of(setting, home), **setting.columns},
        "stages": stages,
    }


def measured(name: str, home: Path, seeds: int) -> tuple[list[dict[str, Any]], list[Claim]]:
    """Compress and train a subject with some seeds; return the rows and their claims."""
    subject = SUBJECTS[name]
    results: Results = {}
    times: dict[str, list[float]] = {}
    for seed in range(min(seeds, subject.most_seeds)):
        plan, folders = checkpoints(recipe(name, home, seed), home)
        split = plan.splits["eval"]
        notes = home / "answers" / slug(name, str(seed))
        teacher = folders["teacher" if subject.setting.finetune else "model"]
        whole = torch.tensor(outputs(plan, teacher, split, notes))
        origin = results.setdefault(("whole", UNTRAINED), Way())
        origin.scores.append(score(plan, teacher, split, notes))
        for key, step in steps(subject):
            answers = torch.tensor(outputs(plan, folders[step], split, notes))
            nats = plan.task.objective.divergence(whole, answers).numpy()
            way = results.setdefault(key, Way())
            way.divergences.append(nats)
            way.scores.append(score(plan, folders[step], split, notes))
            print(f"{name}, seed {seed}, {', '.join(key)}: {nats.mean():.4f}", flush=True)
        if seed == subject.timed_seed:
            times = bundle_times(name, home, plan, folders)
    blocks = blocks_of(plan, split)
    return rows_of_results(name, results, times, blocks), claims_of(name, results, blocks)


def steps(subject: Subject) -> list[tuple[tuple[str, str], str]]:
    """Return what was done to a subject's model, and the id of the step that did it."""
    pairs = []
    for training, ways in subject.trainings.items():
        for way in ways:
            pairs.append(((way, UNTRAINED), slug(way)))
            pairs.append(((way, training), slug(way, training)))
    return list(dict.fromkeys(pairs))


def bundle_times(
    name: str, home: Path, plan: Plan, folders: dict[str, Path]
) -> dict[str, list[float]]:
    """Return the seconds of CPU that each text takes in each int8 bundle, measured once."""
    whole = "teacher-bundle" if SUBJECTS[name].setting.finetune else "model-bundle"
    bundles = {"whole": folders[whole]}
    for way in RANKS_AND_UNITS:
        bundles[way] = folders[f"{slug(way)}-bundle"]
    notes = Notes(home / f"times-{slug(name)}.json")
    times: dict[str, list[float]] = notes.get(
        "times", lambda: timed(bundles, plan.splits["eval"].texts)
    )
    return times


def rows_of_results(
    name: str, results: Results, times: dict[str, list[float]], blocks: int
) -> list[dict[str, Any]]:
    """Return rows as they are recorded."""
    rows: list[dict[str, Any]] = []
    for (way, training), measured_way in results.items():
        rows.append(
            {
                "subject": name,
                "way": way,
                "trained": training,
                "seeds": list(range(len(measured_way.scores))),
                "scores": [value(one, blocks) for one in measured_way.scores],
                "divergence": [float(nats.mean()) for nats in measured_way.divergences],
            }
            | here()
        )
    for way, seconds in times.items():
        faster = ratio([np.array(times["whole"])], [np.array(seconds)])
        rows.append({"subject": name, "way": way, "speedup": faster._asdict()} | here())
    return rows


def claims_of(name: str, results: Results, blocks: int) -> list[Claim]:
    """Compare repaired with unrepaired models, and low rank with pruning."""
    judged = []
    for training in (UNTRAINED, *TRAININGS):
        for ours, theirs in COMPARED:
            if (theirs, training) not in results:
                continue
            one = results[ours, training]
            other = results[theirs, training]
            when = f"{name}, {training}"
            judged.append(more(f"{when}: {ours} over {theirs}", one, other, blocks))
            title = f"{when}: divergence, {theirs} over {ours}"
            judged.append(smaller(title, other.divergences, one.divergences, 1.0))
    return judged


def more(title: str, ours: Way, theirs: Way, blocks: int) -> Claim:
    """Return the claim that a way scores more than another, in every seed."""
    baselines = [[other] for other in theirs.scores]
    points = Interval(*gain(ours.scores, baselines, blocks, 1))
    seeds = []
    for one, other in zip(ours.scores, theirs.scores, strict=True):
        difference = value(one, blocks) - value(other, blocks)
        seeds.append(100 * difference)
    values = ", ".join(f"{difference:+.2f}" for difference in seeds)
    is_more = [difference >= 0 for difference in seeds]
    return Claim(
        f"{title}: score",
        "more, in every seed",
        f"{in_words(points)}; of {plural(len(seeds), 'seed')}: {values}",
        agreed(is_at_least(points, 0.0), is_more),
    )


def main() -> int:
    """Measure what is named, and record all."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--home", type=Path, required=True, help="folder for all that is kept")
    parser.add_argument("--seeds", type=int, default=SEEDS)
    options = parse(parser, SUBJECTS, "SUBJECT")
    home = options.home.resolve()
    home.mkdir(parents=True, exist_ok=True)
    rows: list[dict[str, Any]] = []
    claims: list[Claim] = []
    if RESULTS.is_file():
        record = json.loads(RESULTS.read_text())
        rows = record["rows"]
        claims = [Claim(**claim) for claim in record["must_show"]]
    for name in options.names:
        entries, judged = measured(name, home, options.seeds)
        rows = [row for row in rows if row["subject"] != name] + entries
        claims = [claim for claim in claims if not claim.claim.startswith(name)] + judged
        code = finish("recovery", rows, claims, seed=0)
    return code


if __name__ == "__main__":
    raise SystemExit(main())
