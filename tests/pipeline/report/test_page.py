"""No page makes network requests, and all text is escaped."""

from __future__ import annotations

import pytest
from jinja2 import UndefinedError

from pipeline.report import page


@pytest.fixture
def folder(tmp_path, monkeypatch):
    (tmp_path / "report.css").write_text("p > em { color: red }")
    monkeypatch.setattr(page, "FOLDER", tmp_path)
    return tmp_path


def test_a_page_has_its_style_and_escapes_the_rest(folder):
    (folder / "p.j2").write_text(
        '<style>{{ css }}</style>{{ name }} {{ 2 | plural("row") }} {{ name | loud }} '
        '{{ "<svg/>" | svg }}'
    )
    text = page.render("p.j2", {"loud": str.upper}, name="a<b")
    assert text == "<style>p > em { color: red }</style>a&lt;b 2 rows A&lt;B <svg/>"


def test_a_value_that_a_page_does_not_get_is_an_error(folder):
    (folder / "p.j2").write_text("{{ missing }}")
    with pytest.raises(UndefinedError, match="missing"):
        page.render("p.j2", {})
