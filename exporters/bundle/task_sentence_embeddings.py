"""The answer of a bundle for sentence-embeddings; in a bundle, this is ``predict_task.py``."""

from typing import Any


def describe(embedding: Any, config: dict[str, Any]) -> dict[str, Any]:
    """Return {"vector"} from a text's embedding (width,)."""
    vector = embedding.astype(float).round(6)
    return {"vector": vector.tolist()}
