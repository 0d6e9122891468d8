"""How far a candidate is from the best release, on the same rows only."""

from __future__ import annotations

import pytest

from rarefy.pipeline.report import distance
from rarefy.pipeline.verdict.history import History
from tests.pipeline.report.factory import digest
from tests.pipeline.report.verdicts import finished


def test_releases_that_creep_are_seen_beside_the_best(tmp_path):
    past = History(tmp_path / "history.sqlite")
    for index, (right, data) in enumerate([(90, "a"), (89, "a"), (87, "a"), (95, "b")]):
        run = finished(index, right=right)
        run.measurements.data = data * 64
        assert past.add(run)
    verdicts = past.verdicts()
    released = {digest("bundle 0"), digest("bundle 1")}
    distances = distance.to_best(verdicts, released)
    assert distances == pytest.approx({1: 0.0, 2: -0.01, 3: -0.03}), "other rows say nothing"
    assert distance.shown(verdicts[2], distances[3]) == "−3.00 points"
    assert distance.to_best(verdicts, {digest("bundle 1")})[1] == pytest.approx(0.01)
    assert distance.to_best(verdicts, set()) == {}
