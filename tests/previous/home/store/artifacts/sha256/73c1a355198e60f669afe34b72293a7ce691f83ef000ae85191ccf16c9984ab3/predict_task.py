"""The answer of a bundle for text-classification; in a bundle, this is ``predict_task.py``."""

from typing import Any

import numpy as np


def describe(logits: Any, config: dict[str, Any]) -> dict[str, Any]:
    """Return {"label", "probabilities"} from a row's logits (labels,)."""
    names = config["id2label"]
    labels = [names[str(index)] for index in range(len(names))]
    logits = logits.astype(np.float64)
    powers = np.exp(logits - logits.max())
    probabilities = (powers / powers.sum()).round(6).tolist()
    best = int(np.argmax(logits))
    named = dict(zip(labels, probabilities, strict=True))
    return {"label": labels[best], "probabilities": named}
