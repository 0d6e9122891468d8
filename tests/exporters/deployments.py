"""A checkpoint of real weights, reduced to two layers, and plans for it."""

from __future__ import annotations

from pipeline.model import checkpoint, quantization
from pipeline.model.quantization import LinearPlan, Plan
from pipeline.stage.split import Split
from pipeline.stage.tasks.text_classification import TextClassification
from stages import sensitivity

TASK = TextClassification(("negative", "positive"), 64, ("text",))
TEXTS = [
    "A film of rare warmth, and funny besides.",
    "Dull.",
    "The plot makes no sense at all, and two hours of it are one and a half too many, I'd say.",
    "Not bad – not good either…",
    "Wonderfully acted; the ending, alas, is a let-down.",
    "I have seen worse, but not this year.",
] * 2
SPLIT = Split("train", "train.jsonl", "0" * 64, TEXTS, None, [0] * len(TEXTS))


def plan_for(directory, mode="dynamic"):
    model = checkpoint.load(directory)
    names = sensitivity.linear_layers(model)
    rows = TASK.encode(checkpoint.load_tokenizer(directory), SPLIT)
    ranges = sensitivity.input_ranges(model, names, rows) if mode == "static" else {}
    limits = {name: dict(zip(("low", "high"), pair, strict=True)) for name, pair in ranges.items()}
    linears = {name: LinearPlan(precision="int8", **limits.get(name, {})) for name in names}
    return Plan(mode=mode, linears=linears)


def copy_with(directory, plan, target):
    target.mkdir()
    for path in directory.iterdir():
        (target / path.name).write_bytes(path.read_bytes())
    quantization.write(plan, target)
    return target
