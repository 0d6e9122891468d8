"""Figures that stand alone have their own colours and a margin."""

from __future__ import annotations

import re
from xml.etree import ElementTree

import pytest

from rarefy.pipeline.report.pictures import MARGIN, THEMES, pictures
from tests.pipeline.report.factory import report_data


@pytest.mark.parametrize("theme", list(THEMES))
def test_every_picture_stands_alone_in_its_theme(theme: str) -> None:
    drawn = pictures(report_data(), theme)
    assert {"ledger", "tradeoff cpu", "latency cpu"} <= set(drawn)
    for text in drawn.values():
        assert "var(" not in text
        assert re.findall(r"https?://[^\"']+", text) == ["http://www.w3.org/2000/svg"]
        root = ElementTree.fromstring(text)
        ground, picture = root
        assert ground.get("fill") == THEMES[theme]["surface"]
        assert (picture.get("x"), picture.get("y")) == (str(MARGIN), str(MARGIN))
        for side in ("width", "height"):
            inside = float(picture.get(side, 0))
            assert float(root.get(side, 0)) == inside + 2 * MARGIN


def test_an_unknown_theme_is_a_key_error() -> None:
    with pytest.raises(KeyError):
        pictures(report_data(), "sepia")
