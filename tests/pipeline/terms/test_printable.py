"""No text of others gives a terminal, a log or a reader of reports a command."""

from __future__ import annotations

import json

import pytest

from rarefy.pipeline.terms.wording import escape, escaped_json, printable

HOSTILE = {
    "a title": "\x1b]0;owned\x07",
    "a colour": "\x1b[31m",
    "a command of one byte": "\x9b31m",
    "a carriage return": "safe\rother",
    "a backspace": "ab\b\bxy",
    "writing from the right": "\u202etxt.exe",
    "a separator of lines": "a\u2028b",
    "a zero": "a\0b",
}


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_controls_are_replaced(text: str) -> None:
    shown = printable(text)
    assert shown.isprintable()
    assert "\ufffd" in shown
    assert escape(text).isprintable()


@pytest.mark.parametrize("text", ["a\tb\nc\r\nd", "Grüße, 映画 🎬", "👩\u200d👧", "e\u0301"])
def test_plain_text_stays(text: str) -> None:
    assert printable(text) == text


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_json_says_the_same_without_controls(text: str) -> None:
    line = escaped_json(json.dumps({"label": text}, ensure_ascii=False))
    assert line.isprintable()
    assert json.loads(line) == {"label": text}
