"""The exit code of a run elsewhere is read from its final state."""

from __future__ import annotations

from typing import Any

import pytest
from prefect.states import Cancelled, Completed, Crashed, Failed, State

from flows import submitted


@pytest.mark.parametrize(
    ("state", "code"),
    [
        (Completed(), 0),
        (Failed(message="size is 1 kB; at most 500 B is allowed (exit code 3)"), 3),
        (Failed(message="Flow run encountered an exception: ZeroDivisionError"), 1),
        (Failed(message="(exit code 3) is what it said, and then it failed"), 1),
        (Crashed(message="the worker went away"), 1),
        (Cancelled(), 130),
    ],
)
def test_the_exit_code(state: State[Any], code: int) -> None:
    assert submitted.exit_code(state) == code


def test_the_address_of_a_report_is_taken_from_its_link() -> None:
    assert submitted._address("[report.html](s3://a/b_(1)/report.html)") == (
        "s3://a/b_(1)/report.html"
    )
