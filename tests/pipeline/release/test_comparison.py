"""Two models on the same rows."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.release import comparison

pytestmark = pytest.mark.usefixtures("quiet_machine")


def test_gains_are_rows_that_only_the_candidate_has_right() -> None:
    right, wrong = [0.9, 0.1], [0.1, 0.9]
    candidate = np.array([right, right, right, wrong])
    baseline = np.array([wrong, wrong, right, right])
    found = comparison.agreement(candidate, baseline, np.array([0, 0, 0, 0]))
    assert (found["gains"], found["losses"], found["flips"]) == (2, 1, 3)
    assert found["difference"]["value"] == pytest.approx(0.25)
    assert found["candidate"]["value"] == 0.75
    assert found["baseline"]["value"] == 0.5
