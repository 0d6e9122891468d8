"""Tiny networks with adapters: one body, heads and low-rank weights of several tasks."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rarefy.exporters.build import BuildInfo, build
from rarefy.pipeline.data.split import Split
from rarefy.pipeline.model import checkpoint
from rarefy.pipeline.model.quantization import plan as quantization
from rarefy.pipeline.model.quantization.plan import LinearPlan, Plan
from rarefy.pipeline.tasks import Task
from rarefy.pipeline.tasks.classification.text import TEXT_CLASSIFICATION
from rarefy.pipeline.tasks.token_classification.task import TOKEN_CLASSIFICATION
from rarefy.stages.adapt import stage as adapting
from rarefy.stages.quantization import sensitivity
from tests.models import sentences, tell_apart, write_model

TEXTS = sentences(24, seed=3)[0]
MOODS = TEXT_CLASSIFICATION.bind(("bad", "good"), 24, ("text",))
KINDS = TEXT_CLASSIFICATION.bind(("a", "b", "c"), 32, ("text",))
WORDS = TOKEN_CLASSIFICATION.bind(("O", "B-A", "I-A"), 32, ("text",))
ROWS = Split("dev", "dev.jsonl", "0" * 64, TEXTS, None, [0] * len(TEXTS))
TAGGED = Split("dev", "dev.jsonl", "0" * 64, TEXTS, None, [[0] * len(t.split()) for t in TEXTS])


@dataclass(frozen=True)
class Adapted:
    """A checkpoint with an adapter, the bundle of it, and what the build told."""

    checkpoint: Path
    bundle: Path
    task: Task
    info: BuildInfo

    @property
    def file(self) -> Path:
        return self.bundle / "adapter.onnx_adapter"


def write_adapted(
    folder: Path,
    task: Task,
    kind: str = "bert",
    *,
    seed: int = 0,
    rank: int = 4,
    int8: bool = False,
    **settings: Any,
) -> Path:
    """Save a checkpoint with an adapter of random weights; the body is the same for a ``kind``."""
    import peft
    import torch

    body, directory = folder / "body", folder / "checkpoint"
    body.mkdir(parents=True)
    write_model(body, kind)
    torch.manual_seed(seed)
    network = task.head.load(str(body))
    tell_apart(network.classifier)
    if not int8:  # which rounds decisions that are close
        with torch.no_grad():
            for parameter in network.classifier.parameters():
                parameter.mul_(20)
    checkpoint.save(network, checkpoint.load_tokenizer(body), directory)
    if int8:
        names = sensitivity.linear_layers(network)
        linears = {name: LinearPlan(precision="int8") for name in names}
        quantization.write(Plan(linears=linears), directory)
    config = peft.LoraConfig(
        r=rank,
        target_modules=adapting.adapted_layers(network, "all-linear"),
        modules_to_save=adapting.head_modules(network),
        **settings,
    )
    adapted = peft.get_peft_model(network, config)
    with torch.no_grad():
        for name, parameter in adapted.named_parameters():
            if "lora_B" in name:
                parameter.normal_(0, 0.1)
    adapting.save_adapter(adapted, directory / checkpoint.ADAPTER)
    return directory


def build_adapted(folder: Path, task: Task, kind: str = "bert", **settings: Any) -> Adapted:
    """Save a checkpoint with an adapter, and build its bundle; see ``write_adapted``."""
    directory = write_adapted(folder, task, kind, **settings)
    bundle = folder / "bundle"
    bundle.mkdir()
    split = TAGGED if task.encoder.of_words else ROWS
    info = build(directory, bundle, task=task, split=split, form="deploy")
    return Adapted(directory, bundle, task, info)
