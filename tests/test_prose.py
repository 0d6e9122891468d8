"""Pages read easily: short sentences, few semicolons and brackets. ``tests.prose`` measures."""

from __future__ import annotations

import pytest

from tests import prose

PAGES = prose.pages()


@pytest.mark.parametrize("name", PAGES)
def test_a_page_meets_the_aim_or_is_no_worse_than_before(name: str) -> None:
    limit = prose.limits().get(name, prose.AIM)
    measures = prose.measure(PAGES[name])
    assert not measures.exceeds(limit), f"{measures}\nat most {limit}"


def test_pages_with_limits_of_their_own_need_them() -> None:
    """After an improvement, ``python -m tests.prose --write`` lowers the limits."""
    for name, limit in prose.limits().items():
        assert limit.exceeds(prose.AIM), name
        assert prose.measure(PAGES[name]) == limit, f"python -m tests.prose --write ({name})"


def test_code_tables_and_headings_are_no_prose() -> None:
    page = (
        "# A heading; with marks\n\nOne two three. Four `a; b` six.\n\n"
        "```bash\nrun; this\n```\n\n| a; | (b) |\n\n"
        "- An item of five words\n- Two (2) words; more\n"
    )
    measures = prose.measure(page)
    assert [len(part.split()) for part in prose.sentences(page)] == [3, 3, 5, 4]
    assert measures.mean == pytest.approx(3.8)
    assert measures.semicolons == pytest.approx(1000 / 15, abs=0.1)
    assert measures.brackets == pytest.approx(1000 / 15, abs=0.1)


def test_a_long_sentence_is_counted() -> None:
    assert prose.measure(f"{'word ' * 31}. Short one.").long == 0.5
