from __future__ import annotations

from rarefy.pipeline.sweep.record import SweepRecord
from tests.pipeline.sweep.test_page import record


def test_a_record_reads_back_as_it_was_written() -> None:
    written = record()

    assert SweepRecord.model_validate_json(written.model_dump_json(by_alias=True)) == written


def test_a_branch_is_found_by_its_name() -> None:
    found = record().branch("large")

    assert found is not None
    assert found.size == 80_000_000
    assert record().branch(None) is None


def test_the_front_is_of_its_branches() -> None:
    assert [branch.name for branch in record().front] == ["large", "small"]
