"""The answer of a bundle for text-classification; in a bundle, this is ``predict_task.py``."""

import math
from typing import Any


def describe(logits: Any, config: dict[str, Any]) -> dict[str, Any]:
    """Return {"label", "probabilities"} from a row's logits (labels,).

    The label is None if its probability is below its threshold, for config.json with thresholds.
    It is computed without numpy, whose first calls after a model's cost more than a small softmax.
    """
    names = config["id2label"]
    values = logits.tolist()
    highest = max(values)
    powers = [math.exp(value - highest) for value in values]
    total = sum(powers)
    probabilities = {}
    for index, power in enumerate(powers):
        label = names[str(index)]
        probabilities[label] = round(power / total, 6)
    best = values.index(highest)
    found = names[str(best)]
    limit = config.get("thresholds", {}).get(found, 0.0)
    if limit is None or powers[best] / total < limit:
        found = None
    return {"label": found, "probabilities": probabilities}
