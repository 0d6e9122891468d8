"""What a new recipe may aim at: a chain of stages and the budgets that say it came out."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Goal:
    """``stages`` and ``budgets`` are lines of YAML; ``{layers}`` is half of the model's layers."""

    about: str
    stages: tuple[str, ...]
    budgets: tuple[str, ...]


TEACHER = "finetune: {epochs: 3, learning_rate: 7e-5} # the teacher, and the budgets' baseline"
STUDENT = "distill: {layers: {layers}, epochs: 6} # half of the layers learn the teacher's answers"
LORA = "adapt: {teacher: finetune, epochs: 2, rank: 16} # LoRA wins back what pruning lost"
END = ("export # ONNX, checked against PyTorch", "validate # accuracy and latency on the targets")
INT8 = "quantize # int8 where a layer can bear it"

GOALS = {
    "balanced": Goal(
        "half of the layers, int8",
        (TEACHER, STUDENT, INT8, *END),
        (
            "{metric: accuracy, min_retained: 97 %, against: finetune}",
            "{metric: latency_p50, min_speedup: 3x, against: finetune}",
            "{metric: size, min_shrink: 4x, against: finetune}",
        ),
    ),
    "fast": Goal(
        "half of the layers, narrow ones, int8",
        (
            TEACHER,
            STUDENT,
            "prune: {heads: 25 %, neurons: 30 %} # out of the weights, not only to zero",
            LORA,
            INT8,
            "merge # the adapter into the weights",
            *END,
        ),
        (
            "{metric: accuracy, min_retained: 95 %, against: finetune}",
            "{metric: latency_p50, min_speedup: 5x, against: finetune}",
        ),
    ),
    "small": Goal(
        "half of the layers, narrow ones, only the words that occur, int8",
        (
            TEACHER,
            STUDENT,
            "prune: {heads: 25 %, neurons: 50 %, vocabulary: true} # drops unused words too",
            LORA,
            INT8,
            "merge # the adapter into the weights",
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
