"""No text becomes markup."""

from __future__ import annotations

from markdown_it import MarkdownIt

from pipeline.terms.wording import escape


def test_a_text_is_shown_as_it_is_and_stays_on_one_line() -> None:
    text = "a | b <img src=x> `c` **d** [e](f) ~~g~~ \\ &amp; #h _i_"
    shown = MarkdownIt("gfm-like", {"linkify": False}).parseInline(escape(text))[0].children
    assert shown is not None
    assert {token.type for token in shown} <= {"text", "text_special"}
    assert "".join(token.content for token in shown) == text
    assert escape("a\n| b") == "a \\| b"


def test_a_password_in_an_address_is_not_shown() -> None:
    assert "secret" not in escape("https://user:secret@host/path")
