"""Texts inside Markdown: in reports, and in the card of a bundle."""

from __future__ import annotations

import re

from pipeline.terms.credentials import redact

_SPECIAL = re.compile(r"([\\`*_\[\]<>|#&~])")


def escape(text: str) -> str:
    """Escape a text for a table cell: no pipe, no line break, no markup, no credentials."""
    return _SPECIAL.sub(r"\\\1", " ".join(redact(text).split()))
