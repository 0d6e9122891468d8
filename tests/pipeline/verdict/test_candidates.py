"""How many candidates the same eval rows have judged is counted and said."""

from __future__ import annotations

from pathlib import Path

from rarefy.pipeline.verdict import candidates
from rarefy.pipeline.verdict.history import History
from tests.pipeline.report.verdicts import finished


def judged(path: Path, index: int, data: str, name: str) -> None:
    run = finished(index, name=name)
    run.measurements.data = data
    assert History(path).add(run)


def test_each_bundle_on_the_same_rows_counts_once(tmp_path):
    path, rows, others = tmp_path / "history.sqlite", "a" * 64, "b" * 64
    assert candidates.number_of(path, rows) == 0, "there is no history"
    for index, data, name in [(0, rows, "x"), (1, rows, "y"), (2, others, "x"), (0, rows, "y")]:
        judged(path, index, data, name)
    assert candidates.number_of(path, rows) == 2
    assert candidates.number_of(path, rows, "new") == 3
    assert candidates.ordinals(History(path).verdicts()) == {1: 1, 2: 2, 3: 1, 4: 1}
    (note,) = candidates.notes(path, finished(7).measurements.model_copy(update={"data": rows}))
    assert note.startswith("eval: 3 candidates have been judged on these rows, this one included")
    path.write_text("no database")
    assert candidates.number_of(path, rows) == 0, "a damaged history fails nothing"


def test_the_first_candidate_is_nothing_to_speak_of():
    assert candidates.sentence(0) == candidates.sentence(1, this=True) == ""
    assert candidates.sentence(1).startswith("eval: 1 candidate has been judged on these rows; ")
