"""The answer of a multi-label bundle without rarefy: the labels that reach their thresholds."""

from __future__ import annotations

import numpy as np
import pytest

from exporters.runners.multi_label_classification import described


def test_a_label_is_given_if_its_probability_reaches_its_threshold():
    config = {
        "id2label": {"0": "a", "1": "b", "2": "c"},
        "thresholds": {"a": 0.5, "b": 0.9, "c": 0.2},
    }
    found = described(np.array([[0.0, 2.0, -1.0]], np.float32), None, config)
    assert found["labels"] == ["a", "c"]
    expected = {"a": 0.5, "b": 1 / (1 + np.exp(-2)), "c": 1 / (1 + np.e)}
    assert found["probabilities"] == pytest.approx(expected, abs=1e-6)
    none = described(np.array([[-900.0, -900.0, -900.0]], np.float32), None, config)
    assert none == {"labels": [], "probabilities": {"a": 0.0, "b": 0.0, "c": 0.0}}
