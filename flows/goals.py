"""The goals of a new recipe: each has a chain of stages and the budgets it must meet."""

from __future__ import annotations

from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Goal:
    """A goal; ``stages`` and ``budgets`` are YAML.

    ``{layers}`` is half the model's layers, ``{main}`` the task's main metric, and ``{validate}``
    has a linear model beside the others if the task can have one.
    """

    about: str
    stages: tuple[str, ...]
    budgets: tuple[str, ...]

    def without_labels(self) -> Goal:
        """Return the goal for a model that is trained already: it is the teacher itself."""
        own = {"against: finetune": "against: model", "teacher: finetune": "teacher: model"}
        stages = [stage for stage in self.stages if stage != TEACHER]
        budgets = [AGREEMENT if "{main}" in budget else budget for budget in self.budgets]
        for before, after in own.items():
            stages = [stage.replace(before, after) for stage in stages]
            budgets = [budget.replace(before, after) for budget in budgets]
        return replace(self, stages=tuple(stages), budgets=tuple(budgets))


TEACHER = "finetune: {epochs: 3, learning_rate: 7e-5} # the teacher, and the budgets' baseline"
STUDENT = "distill: {layers: {layers}, epochs: 6} # a student with half of the teacher's layers"
LORA = "adapt: {teacher: finetune, epochs: 2, rank: 16} # LoRA recovers accuracy after pruning"
END = ("export # ONNX, checked against PyTorch", "{validate} # accuracy and latency on the targets")
AGREEMENT = "{metric: agreement, min: 95 %} # with the model's own answers"
INT8 = "quantize # int8 for the layers that tolerate it"

GOALS = {
    "balanced": Goal(
        "half the layers, int8",
        (TEACHER, STUDENT, INT8, *END),
        (
            "{metric: {main}, min_retained: 97 %, against: finetune}",
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
            "{metric: {main}, min_retained: 95 %, against: finetune}",
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
            "{metric: {main}, min_retained: 93 %, against: finetune}",
            "{metric: size, min_shrink: 8x, against: finetune}",
        ),
    ),
    "accurate": Goal(
        "all layers, int8",
        (TEACHER, INT8, *END),
        (
            "{metric: {main}, max_drop: 2 %, against: finetune}",
            "{metric: size, min_shrink: 3.5x, against: finetune}",
        ),
    ),
}
