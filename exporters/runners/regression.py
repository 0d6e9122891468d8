"""The answer of a bundle for regression, in its predict.py."""

from __future__ import annotations

from typing import Any

import numpy as np


# The answer of one row, for regression.
def described(outputs: Any, encoding: Any, config: dict[str, Any]) -> dict[str, Any]:
    """Return {"score"} from a row's one output (1 × 1)."""
    return {"score": round(float(outputs[0, 0].astype(np.float64)), 6)}
