"""A lexicon of polarity as an auxiliary loss of fine-tuning on few movie reviews.

    pip install vaderSentiment
    python -m benchmarks.lexicon --home DIR [--seeds 3]

While all-MiniLM is fine-tuned, a second head predicts the score of each word of VADER's lexicon
(MIT licence) from the word's last hidden state; it is gone afterwards. In the control the scores
are shuffled among the words. Words of one token count. No time is measured; about 10 minutes of one
core. All work is in DIR, and a run that was stopped goes on from there.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import random
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from benchmarks.ablation import interval
from benchmarks.knowledge import MINILM, context, encoder
from benchmarks.planned import DATA
from benchmarks.record import Claim, finish, here, is_at_least
from rarefy.pipeline import tasks
from rarefy.pipeline.data.split import Split
from rarefy.pipeline.sources import references
from rarefy.pipeline.tasks.task import inputs_of
from rarefy.pipeline.terms.wording import plural
from rarefy.stages.finetune import Finetune
from rarefy.stages.training import run as training
from rarefy.stages.training.head_start import fit_head
from rarefy.stages.training.loop import collate

SEEDS = 3
EPOCHS: Mapping[int, int] = {50: 8, 200: 4}
EVAL = 800
LENGTH = 40
ARMS: Mapping[str, tuple[float, bool]] = {
    "none": (0.0, False),
    "lexicon, 0.1": (0.1, False),
    "lexicon, 1": (1.0, False),
    "shuffled, 1": (1.0, True),
}
"""Name -> the weight of the auxiliary loss, and whether scores are shuffled."""
LABELS = ("negative", "positive")
GREATEST = 4.0
"""The greatest score of a word."""


def scores_of_tokens(tokenizer: Any, seed: int, *, shuffled: bool) -> Tensor:
    """Return the score of each token that is a word of the lexicon, NaN for others."""
    found = importlib.util.find_spec("vaderSentiment")
    if found is None or found.origin is None:
        print("the lexicon is missing: pip install vaderSentiment")
        sys.exit(5)
    lines = (Path(found.origin).parent / "vader_lexicon.txt").read_text("utf-8").splitlines()
    vocabulary = tokenizer.get_vocab()
    words, scores = [], []
    for line in lines:
        word, score, *_ = line.split("\t")
        if word in vocabulary:
            words.append(vocabulary[word])
            scores.append(float(score) / GREATEST)
    if shuffled:
        random.Random(seed).shuffle(scores)
    table = torch.full((len(tokenizer),), torch.nan)
    table[words] = torch.tensor(scores)
    return table


class Loss:
    """The task's loss, and the squared error of the scores of words, weighted."""

    def __init__(self, task: tasks.Task, head: nn.Linear, table: Tensor, weight: float) -> None:
        self.task = task
        self.head = head
        self.table = table
        self.weight = weight

    def __call__(self, model: Any, batch: dict[str, Tensor]) -> Tensor:
        output = model(**inputs_of(batch), output_hidden_states=True)
        loss: Tensor = self.task.objective.loss(output.logits, batch, total=False)
        goals = self.table[batch["input_ids"]]
        known = ~goals.isnan()
        if not self.weight or not known.any():
            return loss
        predicted = self.head(output.hidden_states[-1][known].float()).squeeze(1)
        return loss + self.weight * nn.functional.mse_loss(predicted, goals[known])


def rows_of(name: str) -> list[tuple[str, int]]:
    lines = (json.loads(line) for line in (DATA / f"{name}.jsonl").read_text().splitlines())
    return [(line["text"], LABELS.index(line["label"])) for line in lines]


def correct(home: Path, arm: str, rows: int, seed: int) -> NDArray[np.float64]:
    """Fine-tune with few rows; return for each eval row whether its label is correct."""
    folder = home / f"{arm}-{rows}-{seed}"
    done = folder / "correct.json"
    if not done.is_file():
        answers = _predicted(folder, arm, rows, seed)
        asked = rows_of("eval")[:EVAL]
        hits = [int(answer == label) for answer, (_, label) in zip(answers, asked, strict=True)]
        done.write_text(json.dumps(hits))
    return np.array(json.loads(done.read_text()), float)


def _predicted(folder: Path, arm: str, rows: int, seed: int) -> list[int]:
    weight, shuffled = ARMS[arm]
    task = tasks.find("text-classification").bind(LABELS, LENGTH, ("text",))
    few = random.Random(seed).sample(rows_of("train"), max(EPOCHS))[:rows]
    texts, labels = zip(*few, strict=True)
    train = Split("train", "train.jsonl", "0" * 64, list(texts), None, list(labels))
    own = context(folder, task, seed, train)
    plain, _ = references.model_directory(MINILM, Path())
    training.prepare(own)
    network, tokenizer = training.open_network(own, encoder(plain))
    fit_head(own, network, tokenizer)
    network.lexicon = nn.Linear(network.config.hidden_size, 1)
    table = scores_of_tokens(tokenizer, seed, shuffled=shuffled)
    loss = Loss(task, network.lexicon, table, weight)
    stage = Finetune(epochs=EPOCHS[rows], learning_rate=1e-4, batch_size=16)
    training.train(own, stage, network, tokenizer, training.lessons(own, tokenizer, train), loss)
    return _answers(network, tokenizer, task)


def _answers(network: Any, tokenizer: Any, task: tasks.Task) -> list[int]:
    asked = [text for text, _ in rows_of("eval")[:EVAL]]
    split = Split("eval", "eval.jsonl", "0" * 64, asked, None, None)
    encoded = task.encoder.encode(tokenizer, split)
    answers: list[int] = []
    with torch.inference_mode():
        for start in range(0, len(encoded), 50):
            batch = collate(encoded[start : start + 50], tokenizer)
            answers += network(**batch).logits.argmax(1).tolist()
    return answers


def claims(hits: Mapping[tuple[str, int], Sequence[NDArray[np.float64]]]) -> list[Claim]:
    """Compare each weight of the lexicon with none, and the greatest with shuffled scores."""
    judged = []
    pairs = [("lexicon, 0.1", "none"), ("lexicon, 1", "none"), ("lexicon, 1", "shuffled, 1")]
    for rows in EPOCHS:
        for arm, other in pairs:
            ours, theirs = hits[arm, rows], hits[other, rows]
            gain = interval(np.mean(ours, axis=0) - np.mean(theirs, axis=0), 1)
            judged.append(
                Claim(
                    f"{rows} rows: accuracy with {arm} over {other}",
                    "more",
                    f"{100 * np.mean(ours):.1f} over {100 * np.mean(theirs):.1f} %: "
                    f"{100 * gain.value:+.2f} points [{100 * gain.low:+.2f}, "
                    f"{100 * gain.high:+.2f}]; {plural(len(ours), 'seed')}",
                    is_at_least(gain, 0.0),
                )
            )
    return judged


def main() -> int:
    """Fine-tune, and write the record after each seed."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--home", type=Path, required=True, help="folder for all that is kept")
    parser.add_argument("--seeds", type=int, default=SEEDS)
    options = parser.parse_args()
    hits: dict[tuple[str, int], list[NDArray[np.float64]]] = {}
    rows: list[dict[str, Any]] = []
    for seed in range(options.seeds):
        for count in EPOCHS:
            for arm in ARMS:
                right = correct(options.home.resolve(), arm, count, seed)
                hits.setdefault((arm, count), []).append(right)
                accuracy = float(right.mean())
                rows.append({"arm": arm, "rows": count, "seed": seed, "accuracy": accuracy})
                print(f"seed {seed}, {count} rows, {arm}: {accuracy:.3f}", flush=True)
                rows[-1] |= here()
        code = finish("lexicon", rows, claims(hits), seed=0)
    return code


if __name__ == "__main__":
    sys.exit(main())
