"""The answer of a bundle for regression; in a bundle, this is ``predict_task.py``."""

from typing import Any


def describe(outputs: Any, config: dict[str, Any]) -> dict[str, Any]:
    """Return {"score"} from a row's one output (1,)."""
    score = float(outputs[0])
    return {"score": round(score, 6)}
