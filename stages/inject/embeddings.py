"""The embeddings of texts by the network that a stage holds in memory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rarefy.pipeline.stage import Context
from rarefy.pipeline.tasks.shared import tokenize
from rarefy.stages.teachers import outputs as teachers

Embeddings = Mapping[str, NDArray[np.float32]]
"""Of the texts of each name, (texts, width)."""


def embeddings_of(
    context: Context,
    network: Any,
    tokenizer: Any,
    texts: Mapping[str, Sequence[str]],
    folder: str,
) -> Embeddings:
    """Return the embeddings of several lists of texts; a killed run goes on after its last batch.

    Args:
        context: of the stage, with the task of embeddings.
        network: a body.
        tokenizer: the network's.
        texts: name -> texts.
        folder: where the embeddings are, in ``context.work``.
    """
    length = context.task.max_length
    embeddings = {}
    for name, some in texts.items():
        own = f"{folder}-{name}"
        rows = tokenize.rows(tokenizer, some, None, length)
        outputs = teachers.outputs(context, network, tokenizer, rows, folder=own)
        embeddings[name] = outputs.logits.numpy()
    return embeddings
