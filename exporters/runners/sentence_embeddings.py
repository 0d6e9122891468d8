"""The answer of a bundle for sentence-embeddings, in its predict.py."""

from __future__ import annotations

from typing import Any


# The answer of one row, for sentence-embeddings.
def described(outputs: Any, encoding: Any, config: dict[str, Any]) -> dict[str, Any]:
    """Return {"vector"} from a text's embedding (1 × width)."""
    return {"vector": outputs[0].astype(float).round(6).tolist()}
