"""What a bundle for regression prints."""

from __future__ import annotations

import numpy as np

from exporters import bundle
from exporters.runners import regression


def test_a_row_has_its_score_with_six_decimals():
    found = regression.described(np.array([[1.23456789]], np.float32), None, {})
    assert found == {"score": 1.234568}


def test_the_runner_of_a_bundle_has_the_task_s_own_lines():
    code = bundle.runner("regression")
    assert '{"score": round(' in code
    assert "probabilities" not in code
