"""Where workers are."""

from __future__ import annotations

import pytest

from rarefy.flows.sweep.workers import Where
from rarefy.pipeline.terms.errors import RecipeError


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


@pytest.mark.parametrize(
    ("address", "place"),
    [
        ("ray://head:10001", ("head", 10001)),
        ("127.0.0.1:6379", ("127.0.0.1", 6379)),
        ("auto", ("auto", None)),
    ],
)
def test_an_address_has_a_host_and_perhaps_a_port(
    address: str, place: tuple[str, int | None]
) -> None:
    assert Where("ray", 1, address).place == place


@pytest.mark.parametrize("address", ["tcp://[::1", "head:port"])
def test_what_is_no_address_is_one_line(address: str) -> None:
    with pytest.raises(RecipeError) as raised:
        Where("dask", 1, address).place  # noqa: B018
    assert str(raised.value).startswith(f"{address}: this is no address: ")
