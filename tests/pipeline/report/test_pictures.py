"""Figures that stand alone have their own colours and a margin."""

from __future__ import annotations

import re
from xml.etree import ElementTree

import pytest

from pipeline.report.pictures import MARGIN, THEMES, pictures
from tests.pipeline.report.factory import report_data


@pytest.mark.parametrize("theme", list(THEMES))
def test_every_picture_stands_alone_in_its_theme(theme: str) -> None:
    drawn = pictures(report_data(), theme)
    assert {"ledger", "tradeoff cpu", "latency cpu", "reliability", "lineage"} <= set(drawn)
    for text in drawn.values():
        assert "var(" not in text
        assert re.findall(r"https?://[^\"']+", text) == ["http://www.w3.org/2000/svg"]
        root = ElementTree.fromstring(text)
        left, top, width, height = map(float, root.get("viewBox", "").split())
        assert (left, top) == (-MARGIN, -MARGIN)
        assert (float(root.get("width", 0)), float(root.get("height", 0))) == (width, height)
        assert root[0].get("fill") == THEMES[theme]["surface"]


def test_an_unknown_theme_is_a_key_error() -> None:
    with pytest.raises(KeyError):
        pictures(report_data(), "sepia")
