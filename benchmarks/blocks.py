"""Whether a small model beside a large one is timed as if it were alone.

    python -m benchmarks.blocks       about 8 minutes; needs a quiet machine and `make demo`

The small model is the demo's bundle, the large one a random BERT 12×768 in fp32 (438 MB). ``alone``
loads nothing else and calls the model again and again, as a server does. ``in turn`` is the old
way, in which the models took turns at every call. ``cold`` has emptied caches. The processes of
all ways take turns, and the process is the unit of the intervals.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import yaml

from benchmarks import bundle
from benchmarks.record import Claim, finish
from rarefy.pipeline.measure import fresh_process
from rarefy.pipeline.measure.latency import session as latency
from rarefy.pipeline.measure.measurements import CANDIDATE
from rarefy.pipeline.measure.statistics import intervals

PROCESSES, CALLS, CLOSE = 9, 200, 0.05
ROWS, FEW = 200, 64


def large(folder: Path, tokenizer: Path) -> Path:
    """Return the bundle of a random BERT 12×768 with the tokenizer of another bundle."""
    import transformers

    home, model = folder / "home", folder / "bert"
    config = transformers.BertConfig(id2label={0: "no", 1: "yes"}, label2id={"no": 0, "yes": 1})
    transformers.BertForSequenceClassification(config).save_pretrained(model)
    text = transformers.PreTrainedTokenizerFast(tokenizer_file=str(tokenizer), pad_token="[PAD]")
    text.save_pretrained(model)
    rows = "".join(json.dumps({"text": text}) + "\n" for text in bundle.texts()[:FEW])
    for split in ("train", "eval"):
        (folder / f"{split}.jsonl").write_text(rows)
    recipe = {
        "name": "large",
        "model": str(model),
        "data": {"train": "train.jsonl", "eval": "eval.jsonl", "label": None, "max_length": 64},
        "stages": ["export"],
    }
    path = folder / "large.yaml"
    path.write_text(yaml.safe_dump(recipe, sort_keys=False))
    command = [Path(sys.executable).with_name("rarefy"), "run", path, "--engine", "inline"]
    subprocess.run(command, check=True, env=os.environ | {"RAREFY_HOME": str(home)})
    return home / "runs" / "large" / "bundle"


def main() -> int:
    given, texts = bundle.arguments(__doc__ or ""), bundle.texts()[:ROWS]
    times: dict[str, list[list[float]]] = {"alone": [], "in turn": [], "beside": [], "cold": []}
    with tempfile.TemporaryDirectory(prefix="rarefy-blocks-") as name, bundle.progress() as shown:
        other = large(Path(name), given.bundle / "tokenizer.json")
        for seed in shown.track(range(PROCESSES), description="processes"):
            for way in ("alone", "in turn"):
                request = {
                    "bundles": [str(given.bundle), *([str(other)] if way == "in turn" else [])],
                    "texts": texts,
                    "calls": CALLS,
                    "seed": seed,
                }
                found = fresh_process.call("benchmarks.in_turn", request, what=way, timeout=600)
                times[way].append(found["ms"])
            timed = latency.measure(
                {CANDIDATE: given.bundle, "large": other}, texts, processes=1, seed=seed, cold=1
            )
            times["beside"] += timed.samples[CANDIDATE]
            times["cold"] += timed.cold[CANDIDATE]
    rows: list[dict[str, Any]] = []
    ratios = {}
    for way, calls in times.items():
        ratios[way] = intervals.percentile_ratio(calls, times["alone"], 50)
        median = intervals.percentile_interval(calls, 50)
        rows.append({"way": way, "p50": median._asdict(), "of_alone": ratios[way]._asdict()})
        print(json.dumps(rows[-1]))
    beside = ratios["beside"]
    size = sum(path.stat().st_size for path in given.bundle.iterdir() if path.is_file()) / 1e6
    claims = [
        Claim(
            f"a model of {size:.0f} MB beside one of 438 MB is timed as alone",
            "within 5 %",
            f"{beside.value:.3f} [{beside.low:.3f}, {beside.high:.3f}] of its time alone",
            beside.low > 1 - CLOSE and beside.high < 1 + CLOSE,
        ),
        Claim(
            "in turn at every call it seems slower",
            "more than 5 %",
            f"{ratios['in turn'].value:.2f} [{ratios['in turn'].low:.2f}, "
            f"{ratios['in turn'].high:.2f}]",
            ratios["in turn"].low > 1 + CLOSE,
        ),
        Claim(
            "emptied caches are slower, and reported as such",
            "more than 5 %",
            f"{ratios['cold'].value:.2f} [{ratios['cold'].low:.2f}, {ratios['cold'].high:.2f}]",
            ratios["cold"].low > 1 + CLOSE,
        ),
    ]
    return finish("blocks", rows, claims, seed=0)


if __name__ == "__main__":
    raise SystemExit(main())
