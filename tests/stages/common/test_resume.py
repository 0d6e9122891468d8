"""What was measured before a kill is not measured again."""

from __future__ import annotations

import pytest

from rarefy.stages.common.resume import Notes, pause


def test_values_and_seconds_survive(tmp_path):
    path, measured = tmp_path / "notes.json", []

    def measure():
        measured.append(1)
        return {"a": 0.5}

    first = Notes(path)
    first.started -= 100
    assert first.get("x", measure) == first.get("x", measure) == {"a": 0.5}
    again = Notes(path)
    assert again.get("x", measure) == {"a": 0.5}
    assert measured == [1]
    assert 100 <= again.seconds < 200


def test_seconds_of_work_without_a_value_survive_too(tmp_path):
    notes = Notes(tmp_path / "notes.json")
    notes.started -= 100
    notes.save()
    assert 100 <= Notes(tmp_path / "notes.json").seconds < 200


@pytest.mark.parametrize(("cost", "expected"), [(0, 5), (0.25, 5), (3, 60)])
def test_what_takes_long_to_save_is_saved_less_often(cost, expected):
    assert pause(5, cost) == expected
