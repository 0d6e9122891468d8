"""The answer of a bundle for multi-label-classification; in a bundle, ``predict_task.py``."""

from typing import Any

import numpy as np


def describe(logits: Any, config: dict[str, Any]) -> dict[str, Any]:
    """Return {"labels", "probabilities"} from a row's logits (labels,).

    A label is given if its probability reaches its threshold in config.json.
    """
    names = config["id2label"]
    shares = np.exp(-np.logaddexp(0.0, -logits.astype(np.float64)))
    labels = []
    probabilities = {}
    for index, rounded in enumerate(shares.round(6).tolist()):
        label = names[str(index)]
        probabilities[label] = rounded
        if shares[index] >= config["thresholds"][label]:
            labels.append(label)
    return {"labels": labels, "probabilities": probabilities}
