"""A short fine-tuning run, and a comparison of two models' weights."""

from __future__ import annotations

import torch

from stages import training
from stages.finetune import Finetune
from tests.models import TASK


def fit(context, encoder, **parameters):
    training.prepare(context)
    network, tokenizer = training.open_network(context, encoder)
    rows = training.labelled_rows(context, tokenizer, context.split("train"))
    stage = Finetune(**({"learning_rate": 2e-3, "epochs": 2, "batch_size": 8} | parameters))
    trained = training.train(
        context, stage, network, tokenizer, rows, TASK.objective.training_loss()
    )
    return network, trained


def same_weights(first, second) -> bool:
    pairs = zip(first.state_dict().values(), second.state_dict().values(), strict=True)
    return all(torch.equal(one, other) for one, other in pairs)
