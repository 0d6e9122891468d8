"""The goals of a new recipe: each has a chain of stages and the budgets it must meet."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Goal:
    """A goal; ``stages`` and ``budgets`` are YAML, ``{layers}`` is half the model's layers."""

    about: str
    stages: tuple[str, ...]
    budgets: tuple[str, ...]


TEACHER = "finetune: {epochs: 3, learning_rate: 7e-5} # the teacher, and the budgets' baseline"
STUDENT = "distill: {layers: {layers}, epochs: 6} # a student with half of the teacher's layers"
LORA = "adapt: {teacher: finetune, epochs: 2, rank: 16} # LoRA recovers accuracy after pruning"
END = ("export # ONNX, checked against PyTorch", "validate # accuracy and latency on the targets")
INT8 = "quantize # int8 for the layers that tolerate it"

GOALS = {
    "balanced": Goal(
        "half the layers, int8",
        (TEACHER, STUDENT, INT8, *END),
        (
            "{metric: accuracy, min_retained: 97 %, against: finetune}",
            "{metric: latency_p50, min_speedup: 3x, against: finetune}",
            "{metric: size, min_shrink: 4x, against: finetune}",
        ),
    ),
    "fast": Goal(
        "half the layers, pruned, int8",
        (
            TEACHER,
            STUDENT,
            "prune: {heads: 25 %, neurons: 30 %} # removed from the weights, not only zeroed",
            LORA,
            INT8,
            "merge # adds the adapter to the weights",
            *END,
        ),
        (
            "{metric: accuracy, min_retained: 95 %, against: finetune}",
            "{metric: latency_p50, min_speedup: 5x, against: finetune}",
        ),
    ),
    "small": Goal(
        "half the layers, pruned, vocabulary reduced to the tokens in use, int8",
        (
            TEACHER,
            STUDENT,
            "prune: {heads: 25 %, neurons: 50 %, vocabulary: true} # also drops unused tokens",
            LORA,
            INT8,
            "merge # adds the adapter to the weights",
            *END,
        ),
        (
            "{metric: accuracy, min_retained: 93 %, against: finetune}",
            "{metric: size, min_shrink: 8x, against: finetune}",
        ),
    ),
    "accurate": Goal(
        "all layers, int8",
        (TEACHER, INT8, *END),
        (
            "{metric: accuracy, max_drop: 2 %, against: finetune}",
            "{metric: size, min_shrink: 3.5x, against: finetune}",
        ),
    ),
}
