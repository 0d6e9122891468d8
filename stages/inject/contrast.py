"""The loss of facts as pairs of texts: queries find their objects, and objects their queries."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor

from rarefy.pipeline.tasks.embeddings import contrastive, similarity

Embed = Callable[[Any, Mapping[str, Tensor]], Tensor]
"""Returns the embeddings of a batch of texts by a model, (texts, width)."""


def loss(embed: Embed, model: Any, batch: Mapping[str, Tensor]) -> Tensor:
    """Return symmetric InfoNCE over a batch of pairs (van den Oord et al. 2018, arXiv 1807.03748).

    Each text should be nearer to its own than to the others of the batch, except for those that it
    has in another pair of the batch.

    Args:
        embed: embeds a batch of single texts.
        model: the network that is trained.
        batch: queries and objects, as ``contrastive.rows`` makes them, padded.
    """
    query = contrastive.texts_of(batch)
    positive = contrastive.texts_of(batch, contrastive.POSITIVE)
    relevant = contrastive.relevant(query, [positive])
    queries = embed(model, query)
    objects = embed(model, positive)
    found = similarity.ranking(queries, objects, relevant)
    finding = similarity.ranking(objects, queries, relevant.T)
    both = found + finding
    return both / 2
