"""Users read the field's terms: in the help of all commands, the reference and a report."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from rarefy.flows.cli import cli
from rarefy.pipeline.report import html
from tests.pipeline.report.factory import report_data

ROOT = Path(__file__).parents[1]
CODE = re.compile(r"`[^`]*`|<[^>]*>")
"""Names of code and markup, whose words are no prose."""
BANNED = (
    *("the truth", "anew", "hardly", "beside", "learned nothing", "in turn", "take turns"),
    *("thin", "thin ones", "is right", "are right", "rightly", "near to", "nearness"),
    *("refuses", "refused", "believes", "believed", "its answers", "own answers"),
    *("the answers", "accuracy kept", "products", "licence", "neighbours", "recognised"),
)
SPACED = re.compile(r"\d[ \u00a0]%")


def _helps(command: click.Command) -> Iterator[str]:
    yield command.help or ""
    yield command.short_help or ""
    for parameter in command.params:
        yield getattr(parameter, "help", None) or ""
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            below = command.get_command(context, name)
            assert below is not None
            yield from _helps(below)


def _check(text: str) -> None:
    prose = CODE.sub(" ", text)
    words = " ".join(prose.split())
    pattern = "|".join(BANNED)
    assert re.findall(rf"\b(?:{pattern})\b.{{0,40}}", words, re.IGNORECASE) == []
    assert SPACED.findall(prose) == []


def test_the_help_of_every_command() -> None:
    texts = list(_helps(cli))
    assert len(texts) > 100
    _check("\n".join(texts))


PAGES = sorted(
    str(path.relative_to(ROOT))
    for folder in ("get-started", "how-to", "reference", "explanation")
    for path in (ROOT / "docs" / folder).rglob("*.md")
)


@pytest.mark.parametrize("page", ["README.md", "docs/index.md", *PAGES])
def test_what_users_read(page: str) -> None:
    text = re.sub(r"^```.*?^```$", "", (ROOT / page).read_text(), flags=re.DOTALL | re.MULTILINE)
    if page.startswith("docs/reference/stages/"):
        text = SPACED.sub("", text)  # shares as recipes write them
    _check(text)


def test_a_description_has_its_noun() -> None:
    pages = (ROOT / "docs/reference").rglob("*.md")
    for line in "\n".join(page.read_text() for page in pages).splitlines():
        assert not re.search(r"\| (of|which|as|by) [^|]*\|$", line), line


def test_a_report() -> None:
    page = html.render(report_data())
    assert "Improvements" in page
    rows = re.compile(r'<td class="text">.*?</td>|<svg.*?</svg>|<style.*?</style>', re.DOTALL)
    _check(rows.sub(" ", page))
