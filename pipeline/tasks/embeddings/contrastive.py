"""Training embeddings without a teacher: rows of two or three texts, and their loss."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rarefy.pipeline.tasks.task import Row, inputs_of

if TYPE_CHECKING:
    from torch import Tensor

    from rarefy.pipeline.data.split import Split

UNSCORED = math.nan
"""The score of a pair that has none."""
POSITIVE, NEGATIVE = "positive.", "negative."
"""What the keys of a row's second and third text begin with."""
Tokens = Callable[[Any, Sequence[str]], list[Row]]


def negatives(split: Split, row: int) -> Sequence[str]:
    """Return the texts that a row's query must not find; empty if none are given."""
    return split.negatives[row] if split.negatives is not None else ()


def rows(tokens: Tokens, tokenizer: Any, split: Split, chosen: Sequence[int]) -> list[Row]:
    """Return rows of a text, its second one (``positive.``) and, if given, a negative.

    A row with several negatives is there once for each. One with none has its positive instead,
    which the loss does not count. ``tokens``: tokenizes texts, each for itself.
    """
    assert split.pairs is not None
    given = [
        (row, negative)
        for row in chosen
        for negative in negatives(split, row) or (split.pairs[row],)
    ]
    first = tokens(tokenizer, [split.texts[row] for row, _ in given])
    further = {POSITIVE: tokens(tokenizer, [split.pairs[row] for row, _ in given])}
    if split.negatives is not None:
        further[NEGATIVE] = tokens(tokenizer, [negative for _, negative in given])
    found = []
    for at, (row, _) in enumerate(given):
        lesson: Row = dict(first[at])
        for begin, encoded in further.items():
            lesson |= {begin + key: value for key, value in encoded[at].items()}
        score = UNSCORED if split.labels is None else float(split.labels[row])
        found.append(lesson | {"labels": score})
    return found


def loss(
    outputs: Callable[[Any, Mapping[str, Tensor]], Tensor], model: Any, batch: Mapping[str, Tensor]
) -> Tensor:
    """Return the loss of a batch of ``rows``: by scores, or by the documents of the batch.

    ``outputs``: embeds a batch of single texts.
    """
    import torch
    from torch.nn import functional

    from rarefy.pipeline.tasks.embeddings import similarity

    query, second = _part(batch), _part(batch, POSITIVE)
    first, found = outputs(model, query), outputs(model, second)
    if not batch["labels"].isnan().any():
        cosines = functional.cosine_similarity(first.float(), found.float())
        return similarity.order(cosines, batch["labels"])
    documents = [second]
    if f"{NEGATIVE}input_ids" in batch:
        documents.append(_part(batch, NEGATIVE))
        found = torch.cat([found, outputs(model, documents[-1])])
    return similarity.ranking(first, found, _right(query, documents))


def _part(batch: Mapping[str, Tensor], begin: str = "") -> dict[str, Tensor]:
    """Return the inputs of the rows' first texts, or of those whose keys begin with ``begin``."""
    inputs = inputs_of(batch)
    if not begin:
        return {key: value for key, value in inputs.items() if "." not in key}
    return {key.removeprefix(begin): inputs[key] for key in inputs if key.startswith(begin)}


def _right(query: Mapping[str, Tensor], documents: Sequence[Mapping[str, Tensor]]) -> Tensor:
    """Return rows × documents: which have the tokens of a text that the row's query should find.

    It may have several, each in a row of its own. ``documents``: first the rows' own.
    """
    return (_same([query]).float() @ _same(documents).float()) > 0


def _same(texts: Sequence[Mapping[str, Tensor]]) -> Tensor:
    """Return rows × texts: which have the tokens of the row's own, the first, text."""
    import torch
    from torch.nn import functional

    width = max(part["input_ids"].shape[1] for part in texts)
    ids = [
        functional.pad(
            part["input_ids"].masked_fill(part["attention_mask"] == 0, -1),
            (0, width - part["input_ids"].shape[1]),
            value=-1,
        )
        for part in texts
    ]
    return (ids[0][:, None] == torch.cat(ids)[None]).all(dim=2)
