"""The code on the pages about other tools, to be executed as it stands there."""

from __future__ import annotations

import re
from dataclasses import dataclass

from tests.consumers.bundles import ROOT

TEXTS = '["A text."]'
"""What the page asks; a test puts its own texts there."""


@dataclass(frozen=True)
class Page:
    """The blocks of each section, by the section's heading, with the language of each."""

    sections: dict[str, list[tuple[str, str]]]

    @classmethod
    def read(cls) -> Page:
        pages = [(ROOT / f"docs/how-to/{name}.md").read_text() for name in ("hub", "mlflow")]
        parts = re.split(r"^##+ (.+)$", "".join(pages), flags=re.MULTILINE)
        found = {}
        for heading, text in zip(parts[1::2], parts[2::2], strict=True):
            found[heading] = re.findall(r"^```(\w+)\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
        return cls(found)

    def code(self, heading: str, language: str, holding: str = "", texts: str = TEXTS) -> str:
        """Return the one block of a section that holds a word, with other ``texts`` in it."""
        blocks = [code for kind, code in self.sections[heading] if kind == language]
        (code,) = [code for code in blocks if holding in code]
        assert TEXTS in code
        return code.replace(TEXTS, texts)
