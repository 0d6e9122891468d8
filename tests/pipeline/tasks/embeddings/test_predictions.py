"""An embedding as a user reads it."""

from __future__ import annotations

from rarefy.pipeline.tasks.embeddings.predictions import Embedding


def test_an_embedding_is_printed_short_and_given_whole():
    given = Embedding([0.6, 0.8, 0, 0, 0, 0])
    assert given.columns() == ["0.6000 0.8000 0.0000 0.0000 0.0000 …", "norm 1.0000"]
    assert given._asdict() == {"vector": [0.6, 0.8, 0, 0, 0, 0]}
    assert Embedding([1.0]).columns() == ["1.0000", "norm 1.0000"]
