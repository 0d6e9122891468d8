"""What libraries log holds no credentials."""

from __future__ import annotations

import logging
import time

import pytest

from rarefy.flows.console.display import Display
from rarefy.flows.server import logs


def test_a_console_for_a_log_shows_text_as_it_is(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        logs.LogStream(logging.getLogger("run")).console().print("the label [neg] or [/b]")
    assert caplog.messages == ["the label [neg] or [/b]"]


def test_no_bar_is_drawn_in_a_log(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Containers and CI often ask for colours; each redrawing would be a line."""
    monkeypatch.setenv("FORCE_COLOR", "1")
    console = logs.LogStream(logging.getLogger("run")).console()
    assert not console.is_terminal
    with caplog.at_level(logging.INFO), Display(console) as display:
        display.started("distill")
        for done in range(20):
            display.progress(done, 20, "epoch 1")
            time.sleep(0.05)
    assert len(caplog.messages) <= 2


def test_messages_arguments_and_tracebacks_are_redacted(
    caplog: pytest.LogCaptureFixture,
) -> None:
    before = logging.getLogRecordFactory()
    logs.hide_credentials()
    try:
        log = logging.getLogger("library")
        log.error("GET %s failed", "https://host/x?sig=hush")
        try:
            raise OSError("https://user:hush@host/x: 403")
        except OSError:
            log.exception("it failed")
        log.error("%d of %d", 1, 2)
    finally:
        logging.setLogRecordFactory(before)
    assert "hush" not in caplog.text
    assert "GET https://host/x?sig=*** failed" in caplog.text
    assert "OSError: https://***@host/x: 403" in caplog.text
    assert "1 of 2" in caplog.text
