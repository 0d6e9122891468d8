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
Embed = Callable[[Any, Mapping[str, "Tensor"]], "Tensor"]
"""Returns the embeddings of a batch of single texts by a model, (texts, width)."""


def negatives(split: Split, row: int) -> Sequence[str]:
    """Return the texts that a row's query must not find; empty if none are given."""
    if split.negatives is None:
        return ()
    return split.negatives[row]


def rows(tokens: Tokens, tokenizer: Any, split: Split, chosen: Sequence[int]) -> list[Row]:
    """Return rows of a text, its second one (``positive.``) and, if given, a negative.

    A row with several negatives is there once for each. One with none has its positive instead,
    which the loss does not count.

    Args:
        tokens: tokenizes texts, each for itself.
        tokenizer: of transformers.
        split: pairs of texts, perhaps with scores or negatives.
        chosen: the rows of the split.
    """
    assert split.pairs is not None
    numbers: list[int] = []
    wrong: list[str] = []
    for row in chosen:
        texts = negatives(split, row) or (split.pairs[row],)
        numbers += [row] * len(texts)
        wrong += texts
    first = tokens(tokenizer, [split.texts[row] for row in numbers])
    further = {POSITIVE: tokens(tokenizer, [split.pairs[row] for row in numbers])}
    if split.negatives is not None:
        further[NEGATIVE] = tokens(tokenizer, wrong)
    examples = []
    for at, row in enumerate(numbers):
        example: Row = dict(first[at])
        for prefix, encoded in further.items():
            example |= {prefix + key: value for key, value in encoded[at].items()}
        example["labels"] = UNSCORED if split.labels is None else float(split.labels[row])
        examples.append(example)
    return examples


def loss(embed: Embed, model: Any, batch: Mapping[str, Tensor]) -> Tensor:
    """Return the loss of a batch of ``rows``: by scores, or by the documents of the batch.

    Args:
        embed: embeds a batch of single texts.
        model: the network that is trained.
        batch: as ``rows`` makes them, padded.
    """
    import torch
    from torch.nn import functional

    from rarefy.pipeline.tasks.embeddings import similarity

    query, positive = texts_of(batch), texts_of(batch, POSITIVE)
    queries, documents = embed(model, query), embed(model, positive)
    if not batch["labels"].isnan().any():
        cosines = functional.cosine_similarity(queries.float(), documents.float())
        return similarity.order(cosines, batch["labels"])
    texts = [positive]
    if f"{NEGATIVE}input_ids" in batch:
        negative = texts_of(batch, NEGATIVE)
        texts.append(negative)
        documents = torch.cat([documents, embed(model, negative)])
    return similarity.ranking(queries, documents, relevant(query, texts))


def texts_of(batch: Mapping[str, Tensor], prefix: str = "") -> dict[str, Tensor]:
    """Return the inputs of the rows' first texts, or of those whose keys begin with ``prefix``."""
    inputs = inputs_of(batch)
    if not prefix:
        return {key: value for key, value in inputs.items() if "." not in key}
    return {key.removeprefix(prefix): inputs[key] for key in inputs if key.startswith(prefix)}


def relevant(query: Mapping[str, Tensor], documents: Sequence[Mapping[str, Tensor]]) -> Tensor:
    """Return which documents have the tokens of a text that the row's query should find.

    It may have several, each in a row of its own. ``documents``: first the rows' own. The result is
    (rows, documents).
    """
    same_query = _equal_tokens([query]).float()
    same_document = _equal_tokens(documents).float()
    return (same_query @ same_document) > 0


def _equal_tokens(texts: Sequence[Mapping[str, Tensor]]) -> Tensor:
    """Return which texts have the tokens of the row's own, the first, text: (rows, texts)."""
    import torch
    from torch.nn import functional

    longest = max(part["input_ids"].shape[1] for part in texts)
    padded = []
    for part in texts:
        ids = part["input_ids"].masked_fill(part["attention_mask"] == 0, -1)
        padding = longest - ids.shape[1]
        padded.append(functional.pad(ids, (0, padding), value=-1))
    own, every = padded[0][:, None], torch.cat(padded)[None]
    return (own == every).all(dim=2)
