"""Where workers are."""

from __future__ import annotations

import pytest

from flows.workers import Where


@pytest.mark.parametrize(
    ("address", "elsewhere"),
    [
        (None, False),
        ("tcp://127.0.0.1:8786", False),
        ("localhost:8786", False),
        ("tcp://10.0.0.2:8786", True),
        ("ray://head:10001", True),
        ("auto", True),
    ],
)
def test_workers_of_a_cluster_may_be_elsewhere(address: str | None, elsewhere: bool) -> None:
    assert Where("dask", 2, address).elsewhere is elsewhere
