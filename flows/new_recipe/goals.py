"""The goals of a new recipe: each has a chain of stages and the budgets it must meet."""

from __future__ import annotations

from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Goal:
    """A goal; ``stages`` and ``budgets`` are YAML.

    ``{half}`` is of the model's layers, ``{rate}`` what suits its width, ``{main}`` the task's main
    metric, and ``{validate}`` has a linear model beside the others if the task can have one.
    """

    about: str
    stages: tuple[str, ...]
    budgets: tuple[str, ...]

    def for_trained_model(self) -> Goal:
        """Return the goal for a model that is trained already: it is the teacher itself."""
        stages = [stage for stage in self.stages if stage != TEACHER]
        budgets = []
        for budget in self.budgets:
            budgets.append(budget.replace("against: finetune", "against: model"))
        return replace(self, stages=tuple(stages), budgets=tuple(budgets))

    def without_labels(self) -> Goal:
        """Return the goal for a trained model whose own predictions are the ground truth."""
        trained = self.for_trained_model()
        budgets = []
        for budget in trained.budgets:
            if "{main}" in budget:
                budget = AGREEMENT
            budgets.append(budget)
        return replace(trained, budgets=tuple(budgets))


TEACHER = "finetune: {epochs: 3, learning_rate: {rate}} # the original model: teacher and baseline"
TEXTS = (
    "augment: {spans: 4, splices: 1} # more texts, from spans of the training rows",
    "{label: {transfer: augment}, as: labels} # stores the original's predictions",
)
LEARNS = "transfer: labels, keep: best, epochs: 3, learning_rate: 3e-4, batch_size: 128"
END = ("export # ONNX, checked against PyTorch", "{validate} # accuracy and latency on the targets")
AGREEMENT = "{metric: agreement, min: 95%} # with the original model's predictions"
INT8 = "quantize # int8 for the layers that tolerate it"

GOALS = {
    "balanced": Goal(
        "half the layers, int8",
        (
            TEACHER,
            "distill: {keep_layers: {half}, epochs: 6} # a student with half of the layers",
            INT8,
            *END,
        ),
        (
            "{metric: {main}, min_retained: 97%, against: finetune}",
            "{metric: latency_p50, min_speedup: 3x, against: finetune}",
            "{metric: size, min_shrink: 3.5x, against: finetune}",
        ),
    ),
    "fast": Goal(
        "half the layers, narrowed by pruning, distilled on additional text, int8",
        (
            TEACHER,
            *TEXTS,
            "prune: {remove_heads: 50%, remove_neurons: 85%} # removed before distillation",
            f"distill: {{keep_layers: {{half}}, {LEARNS}}} # on all texts",
            INT8,
            *END,
        ),
        (
            "{metric: {main}, min_retained: 95%, against: finetune}",
            "{metric: latency_p50, min_speedup: 7x, against: finetune}",
        ),
    ),
    "small": Goal(
        "half the layers, narrowed and without unused tokens, distilled on additional text, int8",
        (
            TEACHER,
            *TEXTS,
            "prune: {remove_heads: 50%, remove_neurons: 85%, vocabulary: true} # and unused tokens",
            f"distill: {{keep_layers: {{half}}, {LEARNS}}} # on all texts",
            INT8,
            *END,
        ),
        (
            "{metric: {main}, min_retained: 93%, against: finetune}",
            "{metric: size, min_shrink: 8x, against: finetune}",
        ),
    ),
    "accurate": Goal(
        "all layers, int8",
        (TEACHER, INT8, *END),
        (
            "{metric: {main}, max_drop: 2 points, against: finetune}",
            "{metric: size, min_shrink: 3.5x, against: finetune}",
        ),
    ),
}
