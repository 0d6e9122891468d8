"""The engine's own cost per stage, measured on a chain of stages that only copy files."""

from __future__ import annotations

import json
import shutil
import statistics
import tempfile
import time
from pathlib import Path

from pipeline.stage import Context, Draft, Stage
from pipeline.store.artifact import Artifact, Kind

ROOT = Path(__file__).parent.parent
STAGES = 20


class Copy(Stage):
    """Copy the input's files; the kind is encoder because encoders are not scored."""

    name = "copy"
    consumes = frozenset({Kind.ENCODER})
    produces = Kind.ENCODER
    libraries = ()
    reads = frozenset()

    round: int

    def run(self, context: Context, model: Artifact) -> Draft:
        for entry in model.manifest.files:
            shutil.copyfile(model.path(entry.path), context.output / entry.path)
        return Draft()


def tiny_model(directory: Path) -> None:
    """Write a 1 MB BERT with random weights, and its tokenizer."""
    from transformers import BertConfig, BertModel, BertTokenizerFast

    directory.mkdir()
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"abcdefghijklmnopqrstuvwxyz"]
    (directory / "vocab.txt").write_text("\n".join(words))
    BertTokenizerFast(str(directory / "vocab.txt")).save_pretrained(directory)
    config = BertConfig(
        vocab_size=len(words),
        hidden_size=128,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=256,
    )
    BertModel(config).save_pretrained(directory)


def seconds_per_stage() -> float:
    """Return the median wall time of ``Run.execute`` over a chain of copying stages."""
    from pipeline.recipe import recipe
    from pipeline.run.engine import Run
    from pipeline.run.plan import MODEL, Plan
    from pipeline.store.store import Store

    with tempfile.TemporaryDirectory(prefix="rarefy-engine-") as folder:
        base = Path(folder)
        tiny_model(base / "model")
        rows = [{"text": text, "label": text} for text in ("a", "b")]
        for split in ("train", "eval"):
            (base / f"{split}.jsonl").write_text("\n".join(map(json.dumps, rows)))
        stages = "".join(
            f"  - benchmarks.engine_cost:Copy: {{round: {at}}}\n" for at in range(STAGES)
        )
        text = (
            "name: cost\nmodel: model\ndata: {train: train.jsonl, eval: eval.jsonl}\n"
            f"stages:\n{stages}"
        )
        (base / "recipe.yaml").write_text(text)
        run = Run(Plan(recipe.load(base / "recipe.yaml"), Store(base / "store")))
        run.execute(MODEL)
        assert run.plan.splits  # read once per run, so not part of a stage's cost
        times = []
        for step in run.plan.loaded.steps:
            began = time.perf_counter()
            run.execute(step.id)
            times.append(time.perf_counter() - began)
        return statistics.median(times)
