"""Every page in a browser: nothing is cut off, and what failed is on the first screen."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.pipeline.report import pages
from tests.pipeline.report.pages import FAILED, FIRST_SCREEN, SCHEMES, WIDTHS


@pytest.fixture(scope="module")
def paths(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return pages.write(tmp_path_factory.mktemp("pages"))


@pytest.fixture(scope="module")
def page(browser: Any) -> Iterator[Any]:
    """A page of the browser; nothing may be reported or requested while it is open."""
    page = browser.new_page()
    messages: list[str] = []
    requests: list[str] = []
    page.on("console", lambda message: messages.append(message.text))
    page.on("pageerror", lambda error: messages.append(str(error)))
    page.on("request", lambda request: requests.append(request.url))
    yield page
    page.close()
    assert messages == []
    assert [url for url in requests if not url.startswith(("data:", "file:"))] == []


@pytest.mark.slow
@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("name", pages.NAMES)
def test_no_text_is_cut_off(
    page: Any, paths: dict[str, Path], tmp_path: Path, name: str, width: int
) -> None:
    for scheme in SCHEMES:
        picture = tmp_path / f"{name}-{width}-{scheme}.png"
        layout = pages.look(page, paths[name], width, scheme, picture)
        assert picture.stat().st_size > 10_000
        assert (layout.cut, layout.outside) == ([], [])
        assert layout.page <= 0, "the page is scrolled sideways"
        if width == max(WIDTHS):
            assert layout.scrolled == []


@pytest.mark.slow
@pytest.mark.parametrize("width", WIDTHS)
def test_the_missed_budget_is_named_on_the_first_screen(
    page: Any, paths: dict[str, Path], width: int
) -> None:
    layout = pages.look(page, paths["fail"], width, "light")
    assert layout.unmet == FAILED
    assert layout.bottom is not None
    assert layout.bottom <= FIRST_SCREEN
