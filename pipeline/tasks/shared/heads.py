"""Heads of transformers' classes: which labels they have, and how a body gets a new one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rarefy.pipeline.model import safe_loading
from rarefy.pipeline.terms.errors import ModelError

SEQUENCE = "ForSequenceClassification"
TOKENS = "ForTokenClassification"
CLASSIFIER = "text-classification"
"""What optimum calls the task of a sequence classifier."""
PROBLEM = "problem_type"
OUTPUTS = 2
"""The outputs of a head if config.json does not say: transformers leaves its default out."""
UNNAMED = "LABEL_{}"
"""The names that transformers gives to the outputs of a head whose labels nobody has named."""


def labels(
    config: Mapping[str, Any], ending: str, problem: str | None = None, fewest: int = 1
) -> list[str] | None:
    """Return the labels of the head in a config.json; None if it has no such head.

    ``ending``: how the name of the model's class ends. ``problem``: the ``problem_type`` that the
    head must have, if it says one. ``fewest``: the fewest labels of such a head; 2 where one of
    them is the answer, because the one output of a cross-encoder is a score.
    """
    if not architecture(config).endswith(ending) or config.get(PROBLEM) not in (None, problem):
        return None
    named = _named(config)
    return named if named is not None and len(named) >= fewest else None


def replaced(config: Mapping[str, Any], names: Sequence[str]) -> str | None:
    """Return the class of a classifier whose head a task does not take; None for other models.

    ``load`` keeps a sequence classifier's head with just these labels, whatever its config says.
    """
    name = architecture(config)
    if name.endswith((SEQUENCE, TOKENS)) and not is_retained(config, names):
        return name
    return None


def is_retained(config: Mapping[str, Any], names: Sequence[str]) -> bool:
    """Return whether ``load`` keeps the sequence classifier's head that a config.json names."""
    return architecture(config).endswith(SEQUENCE) and _named(config) == list(names)


def architecture(config: Mapping[str, Any]) -> str:
    """Return the class that a config.json names; "" if it names none."""
    return str(next(iter(config.get("architectures") or [""])))


def _named(config: Mapping[str, Any]) -> list[str] | None:
    """Return the name of each output; None if ``id2label`` leaves one out.

    Without ``id2label``, they have the names that transformers gives them.
    """
    names = config.get("id2label")
    if names is None:
        return unnamed(config.get("num_labels") or OUTPUTS)
    named = {int(index): str(name) for index, name in names.items()}
    complete = sorted(named) == list(range(len(named)))
    return [named[index] for index in range(len(named))] if complete else None


def unnamed(count: int) -> list[str]:
    """Return the names of ``count`` outputs whose labels nobody has named."""
    return [UNNAMED.format(index) for index in range(count)]


def load(directory: Path, task: str, names: Sequence[str], problem: str | None) -> Any:
    """Return the model with the head that transformers builds for a task (as optimum names it).

    An existing head with these labels, in this order, is kept, and so is one with one output for
    one name; otherwise a new one is drawn.
    Raises ModelError if the model is incomplete or transformers has no such head for it,
    IntegrityError if its weights are pickled or truncated.
    """
    from optimum.exporters.tasks import TasksManager

    from rarefy.pipeline.model import pretrained

    network = pretrained.load(directory, safe_loading.weight_files(directory)).model
    config = network.config
    try:
        model_class = pretrained.class_for(TasksManager.get_model_class_for_task(task), config)
    except ValueError as error:
        raise ModelError(
            f"{directory}: transformers has no classifier for this model: {error}"
        ) from error
    own = _named(config.to_dict())
    named = dict(enumerate(names))
    config.id2label, config.label2id = named, {label: index for index, label in named.items()}
    config.problem_type = problem
    fits = own is not None and (own == list(names) or len(own) == len(names) == 1)
    if type(network) is model_class and fits:
        return network
    return pretrained.with_body(model_class, network).eval()


def last_linear(network: Any) -> Any:
    """Return the linear layer that makes a classifier's logits: the last that gives as many."""
    from torch import nn

    linear = [module for module in network.modules() if isinstance(module, nn.Linear)]
    return [module for module in linear if module.out_features == network.config.num_labels][-1]


@contextmanager
def exact(network: Any) -> Iterator[None]:
    """Compute a model's logits from its last hidden states in fp32 inside a ``with`` block.

    Also under autocast to bf16, which has no number between 2008 and 2016.
    """
    import torch

    last = last_linear(network)
    plain = last.forward

    def forward(inputs: Any) -> Any:
        with torch.autocast(inputs.device.type, enabled=False):
            return plain(inputs.float())

    last.forward = forward
    try:
        yield
    finally:
        del last.forward


def check_labels(network: Any, names: Sequence[str], where: str) -> None:
    """Raise ModelError unless a model's labels are ``names`` in the same order."""
    config = network.config
    own = tuple(str(config.id2label.get(index)) for index in range(config.num_labels))
    if own != tuple(names):
        raise ModelError(
            f"{where}: the model's labels are {', '.join(own)}, but the data's are "
            f"{', '.join(names)}"
        )
