"""The head start of fine-tuning: a new head is fitted to the frozen body first."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from rarefy.pipeline.data.table import IGNORED
from rarefy.pipeline.stage import Context
from rarefy.pipeline.store.artifact import Artifact, Kind
from rarefy.pipeline.tasks.shared import heads
from rarefy.stages.training import calibration_rows
from rarefy.stages.training.loop import use_bf16
from rarefy.stages.training.parameters import Row
from rarefy.stages.training.run import read_config

ROWS = 2048
"""Training rows that the head is fitted to, at most."""
PENALTY = 2.0
"""Weight of the squared distance from the head as it was drawn, next to the rows' loss of a label.

Without it, the bias of a class that no row here has would become so low that it is never learned.
And a head that fits few rows without an error leaves the body nothing to learn: with a sixth of it,
fine-tunes of 320 reviews were 3 points less accurate. The distance is not from zero, where a head
on features that tell nothing would stay, and the body would learn nothing from it.
"""
ITERATIONS = 200
"""Of L-BFGS, at most."""


def fit_new_head(context: Context, model: Artifact, network: Any, tokenizer: Any) -> None:
    """Fit the last layer of a classifier of sequences to training rows if its head is new.

    A head of another task, and one without a bias, as in decoders, which read every token with it,
    stay as they are.

    Args:
        context: of the stage that trains.
        model: that ``network`` was opened from.
        network: on the CPU; its last layer changes in place.
        tokenizer: the network's.
    """
    is_new = model.kind is Kind.ENCODER and not heads.is_retained(
        read_config(model.directory), context.task.labels
    )
    is_classifier = context.task.objective.linear in ("classes", "flags")
    if is_new and is_classifier and heads.last_linear(network).bias is not None:
        fit_head(context, network, tokenizer)


def fit_head(context: Context, network: Any, tokenizer: Any) -> None:
    """Fit the last layer of a classifier to training rows, by penalized logistic regression.

    The body is frozen meanwhile. Fine-tuning that starts from a random head distorts the features
    that the body has learned (Kumar et al. 2022, arXiv 2202.10054, section 3.4: LP-FT).

    Args:
        context: of the stage that trains.
        network: with a new head, on the CPU; its last layer changes in place.
        tokenizer: the network's.
    """
    last = heads.last_linear(network)
    rows = []
    for row in calibration_rows.sample(context, tokenizer, ROWS):
        if not np.any(np.equal(row["labels"], IGNORED)):
            rows.append(row)
    if not rows:
        return
    features, labels = _features(context, network, rows, last)
    drawn = last.weight.detach().clone(), last.bias.detach().clone()
    weight, bias = (tensor.clone().requires_grad_() for tensor in drawn)
    losses = len(rows)  # that the loss is the mean of
    if context.task.objective.linear == "flags":
        losses *= len(weight)
    optimizer = torch.optim.LBFGS(
        [weight, bias], max_iter=ITERATIONS, line_search_fn="strong_wolfe"
    )

    def penalized_loss() -> Tensor:
        optimizer.zero_grad()
        outputs = torch.nn.functional.linear(features, weight, bias)
        loss = context.task.objective.loss(outputs, {"labels": labels}, total=False)
        penalty = (weight - drawn[0]).square().sum() + (bias - drawn[1]).square().sum()
        penalized = loss + PENALTY / losses * penalty
        penalized.backward()
        return penalized

    optimizer.step(penalized_loss)
    with torch.no_grad():
        last.weight.copy_(weight)
        last.bias.copy_(bias)


def _features(
    context: Context, network: Any, rows: Sequence[Row], last: torch.nn.Linear
) -> tuple[Tensor, Tensor]:
    """Return what the last layer reads, (rows, width), and the targets of the same rows."""
    features: list[Tensor] = []
    labels: list[Tensor] = []

    def keep_input(_: Any, inputs: tuple[Tensor, ...]) -> None:
        features.append(inputs[0].float().cpu())

    handle = last.register_forward_pre_hook(keep_input)
    bf16 = use_bf16(context.device, network)
    autocast = torch.autocast(context.device, torch.bfloat16, enabled=bf16)
    network.to(context.device).eval()
    done = 0
    with torch.no_grad(), autocast:
        for batch in calibration_rows.batches(rows, context.device):
            targets = batch.pop("labels")
            network(**batch)
            labels.append(targets.cpu())
            done += len(targets)
            context.progress(done, len(rows), "fitting the new head")
    handle.remove()
    network.cpu()
    return torch.cat(features), torch.cat(labels)
