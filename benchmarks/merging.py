"""What the mean of several fine-tunes of one model is worth: soup, greedy soup, and SLERP.

    python -m benchmarks.merging --home DIR [--groups N]

all-MiniLM-L6-v2 is fine-tuned on some hundred of the bundled reviews, concepts or parts of speech,
in groups of three seeds, whose new heads are drawn alike. Each group is merged by ``merge``: the
mean of all three (soup), and that of those that do not lower the score on dev (greedy; Wortsman et
al. 2022, arXiv 2203.05482). Both are compared with the mean score of the group's seeds, and with
the score of the seed that is best on dev, on the same eval rows. SLERP of two seeds (Shoemake
1985), tensor by tensor, is compared with the soup of the same two, in the first group. No time is
measured, so the machine need not be quiet; a quarter of an hour of one core with bf16. All work is
in DIR, and a run that was stopped goes on from there.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from torch import Tensor

from benchmarks.bundle import ROOT
from benchmarks.record import Claim, finish, here, in_words, is_at_least
from benchmarks.students import MINILM
from rarefy.pipeline.data.split import Split
from rarefy.pipeline.measure.predictions.predict import checkpoint_outputs
from rarefy.pipeline.model.safe_loading import WEIGHTS
from rarefy.pipeline.recipe import recipe as recipes
from rarefy.pipeline.run.engine import Run
from rarefy.pipeline.run.plan.plan import Plan
from rarefy.pipeline.store.home import Home
from rarefy.pipeline.tasks.shared.formulas import Score
from rarefy.pipeline.terms.interval import Interval
from rarefy.pipeline.terms.progress import silent

GROUPS = 3
SEEDS = 3
"""Fine-tunes of a group."""
DRAWS = 2000
LEAST = 0.001
"""Points by which one is better: equal answers are not."""
WAYS = ("soup", "greedy")


@dataclass(frozen=True)
class Setting:
    """A task, a part of its bundled rows, and how a model is fine-tuned on them."""

    task: str
    data: str
    rows: int
    """Of train, the first."""
    answered: int
    """Of eval, the first."""
    columns: dict[str, Any]
    finetune: dict[str, Any]


SETTINGS = {
    "reviews": Setting(
        "text-classification",
        "movie-reviews",
        400,
        1000,
        {"text": "text", "label": "label", "dev": "20 %", "max_length": 64},
        {"epochs": 3, "learning_rate": 1e-4, "batch_size": 16},
    ),
    "parts of speech": Setting(
        "token-classification",
        "brown-tags",
        400,
        500,
        {"text": "tokens", "label": "tags", "dev": "20 %", "max_length": 64},
        {"epochs": 2, "learning_rate": 2e-4, "batch_size": 16},
    ),
    "concepts": Setting(
        "multi-label-classification",
        "wordnet-concepts",
        500,
        1000,
        {"text": "text", "label": "labels", "dev": "20 %", "max_length": 48},
        {"epochs": 3, "learning_rate": 2e-4, "batch_size": 16},
    ),
}


@dataclass
class Group:
    """The models of one group on eval: each is a score as a function of the weights of blocks."""

    blocks: int
    """Of eval: its rows, or sentences."""
    chosen: int = 0
    """The models in the greedy soup."""
    members: list[Score] = field(default_factory=list)
    on_dev: list[float] = field(default_factory=list)
    merged: dict[str, Score] = field(default_factory=dict)

    @property
    def best(self) -> Score:
        """The member with the best score on dev."""
        return self.members[int(np.argmax(self.on_dev))]

    def row(self) -> dict[str, Any]:
        """Return the scores as they are recorded."""
        seeds = [value(member, self.blocks) for member in self.members]
        merged = {way: value(one, self.blocks) for way, one in self.merged.items()}
        return {"seeds": seeds, "on_dev": self.on_dev, "chosen": self.chosen, **merged}


def rows_of(setting: Setting, home: Path) -> dict[str, str]:
    """Write the first rows of each split, once, and return the files."""
    files = {}
    data = ROOT / "examples" / "data" / setting.data
    counts = {"train": setting.rows, "eval": setting.answered}
    for split, count in counts.items():
        source = data / f"{split}.jsonl"
        path = home / f"{setting.data}-{split}-{count}.jsonl"
        if not path.is_file():
            lines = source.read_text().splitlines(keepends=True)
            path.write_text("".join(lines[:count]))
        files[split] = str(path)
    return files


def fine_tunes(setting: Setting, seeds: Sequence[int]) -> list[Any]:
    """Return the stages that fine-tune the model with several seeds."""
    stages: list[Any] = []
    for seed in seeds:
        stage = {"finetune": setting.finetune, "as": f"seed-{seed}", "from": "model", "seed": seed}
        stages.append(stage)
    return stages


def recipe(setting: Setting, home: Path, seeds: Sequence[int]) -> dict[str, Any]:
    """Return the recipe that fine-tunes the model with several seeds, and merges them."""
    stages = fine_tunes(setting, seeds)
    names = [f"seed-{seed}" for seed in seeds]
    for way in WAYS:
        merge = {"models": names, "method": way}
        stages.append({"merge": merge, "as": way})
    if 0 in seeds:
        pair = {"models": names[:2], "method": "soup"}
        stages.append({"merge": pair, "as": "soup-of-two"})
    return {
        "name": f"{setting.data}-{seeds[0]}",
        "model": MINILM,
        "task": setting.task,
        "data": {**rows_of(setting, home), **setting.columns},
        "stages": stages,
    }


def checkpoints(values: dict[str, Any], home: Path) -> tuple[Plan, dict[str, Path]]:
    """Run a recipe's stages on one thread, without scoring; return its plan and their folders."""
    path = home / f"{values['name']}.yaml"
    path.write_text(yaml.safe_dump(values, sort_keys=False))
    store = Home(home / "home").store()
    plan = Plan(recipes.load(path), store)
    plan.threads = 1
    run = Run(plan, scored=False)
    folders = {}
    for step in plan.steps():
        finished = run.execute(step.id)
        folders[step.id] = finished.artifact.directory
        print(f"{values['name']} {step.id}: {finished.seconds:.0f} s", flush=True)
    return plan, folders


def outputs(plan: Plan, folder: Path, split: Split, notes: Path) -> NDArray[np.float64]:
    """Return a checkpoint's raw outputs (units, width), kept in ``notes``."""
    path = notes / f"{folder.name}-{split.name}.npy"
    if not path.is_file():
        notes.mkdir(parents=True, exist_ok=True)
        np.save(path, checkpoint_outputs(folder, plan.task, split, silent))
    raw: NDArray[np.float64] = np.load(path)
    return raw


def score(plan: Plan, folder: Path, split: Split, notes: Path) -> Score:
    """Return a checkpoint's main score as a function of block weights (draws, blocks)."""
    raw = outputs(plan, folder, split, notes)
    config = json.loads((folder / "config.json").read_text())
    task = plan.task.of_model(config)
    scorer = task.scorer
    predictions = scorer.retained(task.head.predictions(raw), split)
    truth = scorer.truth(split)
    main_formula = next(iter(scorer.formulas(truth).values()))
    return main_formula(predictions, truth)


def blocks_of(plan: Plan, split: Split) -> int:
    """Return the number of blocks of a split, such as rows or sentences."""
    blocks = plan.task.scorer.blocks(split)
    return len(split) if blocks is None else len(blocks)


def spherical(first: Path, second: Path, folder: Path) -> Path:
    """Write a checkpoint half way between two, on the arc between each pair of tensors."""
    if (folder / WEIGHTS).is_file():
        return folder
    shutil.copytree(first, folder)
    ends = load_file(second / WEIGHTS)
    tensors = {}
    for name, start in load_file(first / WEIGHTS).items():
        tensors[name] = _half_way(start, ends[name])
    (folder / WEIGHTS).unlink()
    save_file(tensors, folder / WEIGHTS, metadata={"format": "pt"})
    return folder


def _half_way(start: Tensor, end: Tensor) -> Tensor:
    """Return the middle of the arc, which is the mean, made as long as the arc is there."""
    cosine = torch.nn.functional.cosine_similarity(start.flatten(), end.flatten(), dim=0)
    half = torch.arccos(cosine.clamp(-1, 1)) / 2
    return (start + end) / (2 * torch.cos(half))


def decide(plan: Plan, folder: Path, notes: Path) -> None:
    """Let the task decide for a checkpoint on dev, as the engine does after each stage."""
    split = plan.splits["dev"]
    raw = outputs(plan, folder, split, notes)
    decisions = plan.task.head.choose(raw, split)
    path = folder / "config.json"
    config = json.loads(path.read_text())
    path.write_text(json.dumps(config | decisions))


def group(setting: Setting, home: Path, number: int) -> Group:
    """Fine-tune and merge the models of one group, and score them."""
    seeds = range(SEEDS * number, SEEDS * (number + 1))
    values = recipe(setting, home, seeds)
    plan, folders = checkpoints(values, home)
    notes = home / "answers" / values["name"]
    names = [f"seed-{seed}" for seed in seeds]
    merged = {way: folders[way] for way in WAYS}
    if 0 in seeds:
        first, second = folders[names[0]], folders[names[1]]
        arc = spherical(first, second, home / "arcs" / f"{first.name[:16]}-{second.name[:16]}")
        decide(plan, arc, notes)
        merged |= {"soup-of-two": folders["soup-of-two"], "slerp": arc}
    dev, evaluated = plan.splits["dev"], plan.splits["eval"]
    facts = json.loads((folders["greedy"] / "manifest.json").read_text())
    measured = Group(blocks_of(plan, evaluated), len(facts["model"]["merged"]))
    for name in names:
        measured.members.append(score(plan, folders[name], evaluated, notes))
        on_dev = score(plan, folders[name], dev, notes)
        measured.on_dev.append(value(on_dev, blocks_of(plan, dev)))
    for way, folder in merged.items():
        measured.merged[way] = score(plan, folder, evaluated, notes)
    return measured


def value(score: Score, blocks: int) -> float:
    """Return a score on all blocks."""
    return float(score(np.ones((1, blocks)))[0])


def gain(
    ours: Sequence[Score], theirs: Sequence[Sequence[Score]], blocks: int, comparisons: int
) -> Interval:
    """Return the mean over groups of a score less the mean of others', in points.

    Args:
        ours: a score of each group.
        theirs: the scores that it is compared with, of each group.
        blocks: number of blocks, which are drawn with replacement, the same for all models.
        comparisons: allowed for in the interval at 95 % (Bonferroni).
    """
    generator = np.random.default_rng(0)
    equally = np.full(blocks, 1 / blocks)
    weights = generator.multinomial(blocks, equally, DRAWS).astype(float)
    whole = np.ones((1, blocks))
    drawn = 100 * _differences(ours, theirs, weights)
    tail = 0.025 / comparisons
    low, high = np.quantile(drawn, [tail, 1 - tail])
    middle = 100 * _differences(ours, theirs, whole)[0]
    return Interval(float(middle), float(low), float(high))


def _differences(
    ours: Sequence[Score], theirs: Sequence[Sequence[Score]], weights: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return the mean difference over groups for each draw of weights (draws,)."""
    differences = []
    for our_score, others in zip(ours, theirs, strict=True):
        mean = np.mean([other(weights) for other in others], axis=0)
        differences.append(our_score(weights) - mean)
    return np.asarray(np.mean(differences, axis=0))


def claims(groups: dict[str, list[Group]]) -> list[Claim]:
    """Compare the merged models of each task with single ones; a task without groups is left out.

    ``groups``: what was measured, by task.
    """
    judged = []
    for name, measured in groups.items():
        if measured:
            judged += _claims_of(name, measured)
    return judged


def _claims_of(name: str, groups: list[Group]) -> list[Claim]:
    members = [one.members for one in groups]
    best = [[one.best] for one in groups]
    blocks = groups[0].blocks
    judged = []
    for way in WAYS:
        merged = [one.merged[way] for one in groups]
        for against, others in (("the mean of its seeds", members), ("the best on dev", best)):
            more = gain(merged, others, blocks, len(SETTINGS))
            title = f"{name}: {way} against {against}"
            judged.append(_claim(title, more, len(groups)))
    slerp, soup = (groups[0].merged[way] for way in ("slerp", "soup-of-two"))
    more = gain([slerp], [[soup]], blocks, len(SETTINGS))
    title = f"{name}: SLERP of two against the soup of the same two"
    judged.append(_claim(title, more, 1))
    return judged


def _claim(title: str, more: Interval, groups: int) -> Claim:
    measured = f"{in_words(more)}, {groups} groups"
    return Claim(title, "better, allowing for three tasks", measured, is_at_least(more, LEAST))


def main() -> int:
    """Fine-tune, merge, measure, and write the record after each of them."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--home", type=Path, required=True, help="folder for all that is kept")
    parser.add_argument("--groups", type=int, default=GROUPS)
    options = parser.parse_args()
    home = options.home.resolve()
    home.mkdir(parents=True, exist_ok=True)
    rows: list[dict[str, Any]] = []
    groups: dict[str, list[Group]] = {name: [] for name in SETTINGS}
    for number in range(options.groups):
        for name, setting in SETTINGS.items():
            measured = group(setting, home, number)
            groups[name].append(measured)
            row = {"task": name, "group": number, **measured.row(), **here()}
            rows.append(row)
            print(json.dumps(row), flush=True)
            finish("merging", rows, claims(groups), seed=0)
    return finish("merging", rows, claims(groups), seed=0)


if __name__ == "__main__":
    sys.exit(main())
