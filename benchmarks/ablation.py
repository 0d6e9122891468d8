"""What each idea of distillation gives a two-layer student, at equal training.

    python -m benchmarks.ablation --home DIR [--seeds N] [--first N] [NAME …]
    python -m benchmarks.ablation --home DIR --options [OPTION …]

The teacher is all-MiniLM-L6-v2 fine-tuned on the demo's movie reviews, the student two of its
layers. Every variant sees about as many tokens as 15 epochs over the labelled rows; what is made
before, such as texts and their labels, is counted apart. Rows are the demo's eval rows, and the
differences are of the same rows to the plain student. About five minutes a variant and seed; all
work is in DIR, and a run that was stopped goes on from there. Unlabelled texts are the 13,098
sentences of product reviews, editorials and tweets that vaderSentiment has beside the demo's.

``--options`` tries the options of ``distill`` instead, with three seeds and small students
(``benchmarks.distill_options``): about a minute a student on one core with bf16.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks import corpora, distill_options
from benchmarks.bundle import ROOT
from benchmarks.record import COMMIT, HERE, Claim, finish
from benchmarks.students import MINILM, FailedError, minutes, run
from rarefy.pipeline.measure import machine
from rarefy.pipeline.terms.interval import Interval

RESULTS = HERE / "results" / "ablation.json"
DATA = ROOT / "examples" / "data" / "movie-reviews"
TRAINED = 0.95
"""The share of the labelled rows that is not the development split."""
EPOCHS = 15
"""Passes over the labelled rows whose tokens every variant sees."""
PLAIN = {
    "keep_layers": 2,
    "learning_rate": 3e-4,
    "batch_size": 128,
    "alpha": 0.9,
    "temperature": 2.0,
}
SPANS: list[Any] = [{"augment": {"spans": 4, "splices": 1}}]


def with_texts(stages: list[Any], **options: Any) -> list[Any]:
    """Return the stages that make and label texts, and the student that learns them."""
    label = {"label": {"transfer": "augment"}, "as": "labels"}
    student = {"distill": {**PLAIN, "transfer": "labels", **options}, "as": "student"}
    return [*stages, label, student]


def alone(**options: Any) -> list[Any]:
    """Return a student that learns from the labelled rows only."""
    return [{"distill": {**PLAIN, **options}, "as": "student"}]


def variants(unlabelled: Path) -> dict[str, list[Any]]:
    """Return name -> stages after the teacher; the first is what the others are compared with."""
    texts = {"texts": [{"file": str(unlabelled)}]}
    only = [{"augment": {"spans": 0, "splices": 0, "clauses": False, **texts}}]
    return {
        "plain": alone(),
        "spans": with_texts(SPANS),
        "unlabelled": with_texts(only),
        "spans and unlabelled": with_texts([{"augment": {"spans": 4, "splices": 1, **texts}}]),
        "spans, assistant": assisted(),
    }


def assisted() -> list[Any]:
    """Return a student of its teacher and of an assistant, whose epoch counts as one of its own."""
    student = {**PLAIN, "transfer": "labels"}
    return [
        *with_texts(SPANS)[:-1],
        {"distill": {**student, "keep_layers": 3, "epochs": 1}, "as": "assistant"},
        {"label": {"transfer": "augment", "answers": "labels"}, "as": "both"},
        {"distill": {**student, "transfer": "both"}, "as": "student"},
    ]


def recipe(name: str, stages: list[Any], seed: int) -> dict[str, Any]:
    files = {split: str(DATA / f"{split}.jsonl") for split in ("train", "eval")}
    teacher = {"finetune": {"epochs": 2, "learning_rate": 1e-4, "batch_size": 64}}
    return {
        "name": f"{name.lower().replace(',', '').replace(' ', '-')}-{seed}",
        "model": MINILM,
        "data": {**files, "max_length": 64},
        "stages": [teacher, *stages],
        "seed": seed,
    }


def tokens(home: Path, stages: list[Any], name: str, seed: int) -> tuple[float, float]:
    """Return the tokens of the labelled rows, and of all rows that a variant learns from.

    Args:
        home: the benchmark's folder; texts are made there.
        stages: of the variant, after the teacher's.
        name: of the variant.
        seed: of its recipe.
    """
    from transformers import AutoTokenizer

    from rarefy.pipeline.sources import references as sources

    directory, _ = sources.model_directory(MINILM, Path())
    tokenizer = AutoTokenizer.from_pretrained(directory)

    def count(path: Path) -> int:
        texts = [json.loads(line)["text"] for line in path.read_text().splitlines()]
        return sum(len(ids) for ids in tokenizer(texts)["input_ids"])

    labelled = round(TRAINED * count(DATA / "train.jsonl"))
    if not any("label" in stage for stage in stages):
        return labelled, labelled
    output = run(home, recipe(f"{name} texts", stages[:-1], seed))
    (digest,) = (row["digest"] for row in output["ledger"] if row["id"] == "labels")
    artifact = home / "home" / "store" / "artifacts" / "sha256" / digest
    return labelled, labelled + count(artifact / "texts.jsonl")


def measured(home: Path, name: str, stages: list[Any], seed: int) -> dict[str, Any]:
    """Train a variant, and return its answers' scores and the minutes of its stages."""
    labelled, total = tokens(home, stages, name, seed)
    epochs = max(1, round(EPOCHS * labelled / total))
    *before, last = stages
    epochs_before = sum(stage["distill"]["epochs"] for stage in before if "distill" in stage)
    parameters = {**last["distill"], "epochs": max(1, epochs - epochs_before)}
    student = {"distill": parameters, "as": "student"}
    output = run(home, recipe(name, [*before, student, "export"], seed))
    ledger = {row["id"]: row for row in output["ledger"]}
    store = home / "home" / "store" / "artifacts" / "sha256"
    correct = correct_rows(store / ledger["export"]["digest"])
    return {
        "variant": name,
        "seed": seed,
        "commit": COMMIT,
        "cpu": machine.fingerprint()["cpu"],
        "epochs": epochs,
        "tokens": epochs * total,
        "teacher": ledger["finetune"]["accuracy"][0],
        "accuracy": float(np.mean(correct)),
        "right": "".join("1" if hit else "0" for hit in correct),
        "minutes": minutes(home, output["ledger"], {"distill"}),
        "minutes_before": minutes(home, output["ledger"], {"augment", "label"}),
    }


def correct_rows(bundle: Path) -> list[bool]:
    """Return for each eval row whether a bundle's label is correct."""
    from rarefy.pipeline.model.runtime.bundle_model import BundleModel

    lines = [json.loads(line) for line in (DATA / "eval.jsonl").read_text().splitlines()]
    names = json.loads((bundle / "config.json").read_text())["id2label"]
    logits = BundleModel(bundle, threads=2).units([line["text"] for line in lines])
    correct = []
    for index, line in zip(logits.argmax(axis=1), lines, strict=True):
        correct.append(names[str(index)] == str(line["label"]))
    return correct


def claims(rows: list[dict[str, Any]]) -> list[Claim]:
    """Compare every variant with the plain student, on the rows of the same seeds."""
    options = [distill_options.claim(row) for row in rows if "option" in row]
    rows = [row for row in rows if "variant" in row]
    plain = {row["seed"]: row for row in rows if row["variant"] == "plain"}
    variants: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        if row["variant"] == "plain":
            continue
        comparable = variants.setdefault(row["variant"], [])
        if row["seed"] in plain and row["commit"] == plain[row["seed"]]["commit"]:
            comparable.append(row)
    return [claim(name, runs, plain, len(variants)) for name, runs in variants.items()] + options


def claim(
    name: str, runs: list[dict[str, Any]], plain: dict[int, dict[str, Any]], variants: int
) -> Claim:
    """Compare one variant with the plain student.

    Args:
        name: of the variant.
        runs: its rows, each of the same commit as the plain student with its seed.
        plain: seed -> the plain student's row.
        variants: how many are compared.
    """
    if not runs:
        reason = "the plain student of the same seed is of another commit; run both again"
        return Claim(f"{name}: against plain distillation", "compared", reason, False)
    runs = [row for row in runs if row["commit"] == runs[-1]["commit"]]  # of one product
    references = [plain[row["seed"]] for row in runs]
    difference = interval(hits(runs) - hits(references), variants)
    shares = [row["accuracy"] / row["teacher"] for row in runs]
    pairs = zip(runs, references, strict=True)
    tokens = [row["tokens"] / reference["tokens"] for row, reference in pairs]
    low, high = 100 * difference.low, 100 * difference.high
    return Claim(
        f"{name}: against plain distillation, at about equal tokens",
        "more accurate in three seeds, allowing for all variants",
        f"{100 * difference.value:+.2f} points [{low:+.2f}, {high:+.2f}]; "
        f"{np.mean(shares):.1%} of the teacher, {len(runs)} seeds, "
        f"{np.mean(tokens):.2f} of the tokens",
        difference.low > 0 and len(runs) >= 3,
    )


def hits(runs: list[dict[str, Any]]) -> NDArray[np.float64]:
    """Return the share of the runs that label each eval row correctly (rows)."""
    table = [[digit == "1" for digit in row["right"]] for row in runs]
    return np.asarray(np.mean(table, axis=0))


def interval(differences: NDArray[Any], variants: int) -> Interval:
    """Return the mean of the rows' differences at 95 %, allowing for many comparisons.

    Args:
        differences: of each row, the mean over the seeds, so that a row counts once (rows).
        variants: the comparisons that are made (Bonferroni).
    """
    from scipy.stats import norm

    mean = differences.mean()
    error = differences.std(ddof=1) / np.sqrt(len(differences))
    half = error * norm.ppf(1 - 0.025 / max(1, variants))
    return Interval(float(mean), float(mean - half), float(mean + half))


def try_options(home: Path, rows: list[dict[str, Any]], names: list[str]) -> int:
    """Try options of ``distill``, all unless some are named, and record them beside the rest."""
    for option in distill_options.OPTIONS:
        if names and option not in names:
            continue
        row = distill_options.measured(home, option)
        print(json.dumps(row), file=sys.stderr, flush=True)
        again = (option, row["task"])
        rows = [old for old in rows if (old.get("option"), old.get("task")) != again]
        rows.append(row)
        finish("ablation", rows, claims(rows), seed=0)
    return finish("ablation", rows, claims(rows), seed=0)


def main() -> int:
    """Train the variants that are named, and record all."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--home", type=Path, required=True, help="folder for all that is kept")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--first", type=int, default=0, help="the first of the seeds")
    parser.add_argument("--options", action="store_true", help="try the options of distill")
    parser.add_argument("names", nargs="*", metavar="NAME")
    options = parser.parse_args()
    home = options.home.resolve()
    home.mkdir(parents=True, exist_ok=True)
    rows = []
    if RESULTS.is_file():
        rows = json.loads(RESULTS.read_text())["rows"]
    if options.options:
        return try_options(home, rows, options.names)
    recipes = variants(corpora.others(home))
    for name in options.names:
        if name not in recipes:
            parser.error(f"no variant {name!r}, only {', '.join(recipes)}")
    failed = 0
    for seed in range(options.first, options.first + options.seeds):
        for name in options.names or recipes:
            try:
                row = measured(home, name, recipes[name], seed)
            except FailedError as error:
                print(error, file=sys.stderr, flush=True)
                failed = 1
                continue
            again = (name, seed)
            rows = [old for old in rows if (old.get("variant"), old.get("seed")) != again]
            rows.append(row)
            shown = {key: value for key, value in row.items() if key != "right"}
            print(json.dumps(shown), file=sys.stderr, flush=True)
            finish("ablation", rows, claims(rows), seed=0)
    return finish("ablation", rows, claims(rows), seed=0) or failed


if __name__ == "__main__":
    sys.exit(main())
