"""Quantization-aware training: the weights learn to answer well while they are rounded."""

from __future__ import annotations

from typing import Any, ClassVar

from pydantic import Field

from pipeline.stage import Asked, Context, Draft, Quantization, Stage
from pipeline.stage.tasks import Task
from pipeline.store.artifact import Artifact, Kind
from pipeline.terms.vocabulary import Target
from stages import training
from stages.parameters import Training, check_answers
from stages.planning import holds_weights, narrowest, needs_no_training


class Qat(Training):
    """Train all weights under the rounding of the plan that ``quantize`` wrote.

    In the forward pass, weights and inputs of int8 layers are rounded as the plan says; gradients
    pass as if they were not (the straight-through estimator, Bengio et al. 2013, arXiv 1308.3432;
    Jacob et al. 2018, arXiv 1712.05877). The target are the answers of ``teacher``, or, without
    one, those of the input itself in full precision. The plan stays as it is, since its ranges are
    those that the weights were trained with. Layers that ``quantize`` leaves float are not rounded;
    with its ``sensitivity: false``, those that it would leave out are trained too.
    ``adapt: {qat: true}`` does the same with an adapter.
    """

    name: ClassVar[str] = "qat"
    version: ClassVar[int] = 5
    consumes: ClassVar[frozenset[Kind]] = frozenset({Kind.CHECKPOINT})
    quantization: ClassVar[Quantization] = "keeps"

    epochs: int = Field(default=1, ge=1, le=1000, description="passes over the training rows")
    learning_rate: float = Field(
        default=2e-5, gt=0, lt=1, description="peak learning rate, after warm-up"
    )
    teacher: str | None = Field(
        default=None,
        description="id of an earlier stage whose answers are the target; default: the input",
    )
    alpha: float = Field(
        default=0.9,
        ge=0,
        le=1,
        description="share of the teacher's answers in the loss; labels the rest",
    )
    temperature: float = Field(
        default=2.0, gt=0, description="softens the answers that are compared"
    )

    def references(self) -> dict[str, str]:
        return {"teacher": self.teacher} if self.teacher else {}

    def check_task(self, task: type[Task]) -> None:
        """Raise RecipeError if ``temperature`` or ``alpha`` means nothing for a task."""
        check_answers(self, task)

    def needs_plan(self) -> bool:
        return True

    def misfit(self, maker: Stage, targets: tuple[Target, ...]) -> str | None:
        """Refuse a plan without integers to train for, or with weights that may not change."""
        return holds_weights(maker) or needs_no_training(maker)

    def environment(self, asked: Asked) -> dict[str, Any]:
        """Return also the width of weights, to which they are rounded."""
        return super().environment(asked) | {"isa": narrowest(asked.targets)}

    def run(self, context: Context, model: Artifact) -> Draft:
        """Compute the target answers, train, and save the model; the plan is copied."""
        from pipeline.model import checkpoint
        from stages import straight_through
        from stages import teacher as teaching

        training.prepare(context)
        network, tokenizer = training.open_network(context, model)
        layers = straight_through.planned(model.directory)
        isa = narrowest(context.targets)
        rows = training.labelled_rows(context, tokenizer, context.split("train"), numbered=True)
        answers = teaching.answers(
            context, context.artifacts[self.teacher] if self.teacher else model
        )
        (answers,) = teaching.goals(context, network, tokenizer, rows, answers)
        loss = teaching.imitation(
            context.task, answers, alpha=self.alpha, temperature=self.temperature
        )
        training.set_dropout(network, 0)  # rounding is the noise to be learned
        with straight_through.rounding(network, layers, isa, tokenizer.pad_token_id):
            trained = training.train(context, self, network, tokenizer, rows, loss)
        roles = checkpoint.save(network, tokenizer, context.output)
        return Draft(roles, checkpoint.describe(network), (trained.metric(),))
