"""The pages that a report links to are there."""

from __future__ import annotations

from pathlib import Path

from rarefy.pipeline.report import guide

ROOT = Path(__file__).parents[3]


def test_every_page_is_a_file_of_the_documentation() -> None:
    names = ("INCONCLUSIVE", "ACCURACY", "SPEED", "SIZE", "LINEAR", "UNMEASURED")
    missing = [name for name in names if not (ROOT / getattr(guide, name)).is_file()]
    assert missing == []


def test_a_page_has_an_address_where_the_documentation_has_one() -> None:
    assert guide.address("docs/how-to/serve.md", "https://a.example/b/") == (
        "https://a.example/b/how-to/serve/"
    )
    assert guide.address("docs/how-to/serve.md", None) is None
