"""Which rows of text count as the same: case, punctuation, spaces and order make no difference."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from hashlib import blake2b


def normalized(text: str) -> str:
    """Return a text by which equal ones are found: case, punctuation and spaces do not count.

    Nor do the ways in which Unicode writes one character (NFKC) and invisible characters; symbols
    and combining marks count. A text of punctuation alone stays as it is.
    """
    composed = unicodedata.normalize("NFKC", text.translate(_QUOTES))
    folded = unicodedata.normalize("NFKC", composed.casefold())
    words = folded.translate(_PLAIN).split()
    return " ".join(words) or text.strip()


class _Plain(dict[int, str | None]):
    """A table for ``str.translate``: punctuation becomes a space, invisible characters vanish."""

    def __missing__(self, code: int) -> str | None:
        character = chr(code)
        category = unicodedata.category(character)
        replacement: str | None = character
        if category == "Cf" or character in _VARIATIONS:
            replacement = None
        elif category[0] in "PZC":
            replacement = " "
        self[code] = replacement
        return replacement


_VARIATIONS = "\ufe0e\ufe0f"
"""They say whether the character before is drawn as an emoji; many programs leave them out."""
_QUOTES = str.maketrans("`´", "''")
_PLAIN = _Plain()


def digest(row: Iterable[str | None]) -> bytes:
    """Return 8 bytes that rows of the same texts share, in whatever order."""
    texts = [normalized(part) for part in row if part is not None]
    joined = "\n".join(sorted(texts))
    return blake2b(joined.encode(), digest_size=8).digest()


def digests(row: Sequence[str | None], *, singly: bool) -> Iterator[bytes]:
    """Yield the digest of a row and, with ``singly``, those of each of its texts alone.

    A model that reads each text of a pair alone has seen a row if it has seen one of its texts.
    """
    yield digest(row)
    if singly:
        yield from (digest((text, None)) for text in row if text is not None)
