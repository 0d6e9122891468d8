"""The answer of a bundle for multi-label-classification, in its predict.py."""

from __future__ import annotations

from typing import Any

import numpy as np


# The answer of one row, for multi-label-classification.
def described(outputs: Any, encoding: Any, config: dict[str, Any]) -> dict[str, Any]:
    """Return {"labels", "probabilities"} from a row's logits (1 × labels).

    A label is given if its probability reaches its threshold in config.json.
    """
    names = config["id2label"]
    labels = [names[str(index)] for index in range(len(names))]
    shares = np.exp(-np.logaddexp(0.0, -outputs[0].astype(np.float64)))
    limits = [config["thresholds"][label] for label in labels]
    given = [label for label, p, limit in zip(labels, shares, limits, strict=True) if p >= limit]
    return {
        "labels": given,
        "probabilities": dict(zip(labels, shares.round(6).tolist(), strict=True)),
    }
