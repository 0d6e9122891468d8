"""Recovery: a smaller network learns the answers of the whole one, round after round."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rarefy.pipeline.stage import Context
from rarefy.pipeline.store.artifact import Artifact, Metric
from rarefy.stages.training import run as training
from rarefy.stages.training.parameters import Loss, Training
from rarefy.stages.transfer import files as transfer_set

if TYPE_CHECKING:
    from rarefy.stages.training.rows import Rows

ALPHA, TEMPERATURE = 0.9, 2.0
"""Weight of the whole model's answers, and the temperature that softens them."""


def prepare(
    context: Context, model: Artifact, network: Any, tokenizer: Any, transfer: Artifact | None
) -> tuple[Rows, Loss]:
    """Return the rows of recovery, and the loss of imitating the whole model on them.

    Unlabelled rows are learned as in distillation, but not a corpus.

    Args:
        context: the run's context.
        model: the whole model.
        network: the network to recover.
        tokenizer: its tokenizer.
        transfer: a transfer set, whose texts join, and whose answers are learned if it has some.
    """
    from rarefy.stages.teachers import outputs as teaching

    splits = []
    for split in transfer_set.learned(context, transfer):
        if split.name != "corpus":  # recovery is short
            splits.append(split)
    rows = training.labelled_rows(context, tokenizer, *splits, numbered=True)
    if transfer_set.has_answers(transfer):
        answers = teaching.stored_outputs(context, transfer, splits, rows)
    else:
        answers = teaching.answers(context, model, *splits)
    (outputs,) = teaching.goals(context, network, tokenizer, rows, answers)
    loss = teaching.imitation(context.task, outputs, alpha=ALPHA, temperature=TEMPERATURE)
    return rows, loss


def train(
    context: Context,
    parameters: Training,
    network: Any,
    tokenizer: Any,
    imitation: tuple[Rows, Loss],
    number: int,
) -> Metric:
    """Train the smaller network on the whole one's answers; return the loss.

    Of the round, only what a killed run needs to begin the next one is kept on disk.

    Args:
        context: the run's context.
        parameters: how to train.
        network: the smaller network.
        tokenizer: its tokenizer.
        imitation: what ``prepare`` returned.
        number: of the round, from 1.
    """
    from rarefy.stages.training import loop as trainer

    rows, loss = imitation
    training.stop_dropout(network)  # as in distillation: the soft answers regularize
    name = "recovery" if number == 1 else f"recovery-{number}"
    trained = training.train(context, parameters, network, tokenizer, rows, loss, name=name)
    trainer.shed(context.work / name)
    metric = name.replace("-", "_")
    return trained.metric(f"{metric}_loss")
