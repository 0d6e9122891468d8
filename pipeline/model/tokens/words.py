"""Words as a model reads them: windows over long texts, and the token that answers each word.

A text is its words joined by single spaces, so every tokenizer splits it as it splits any text, and
a word is found by its characters. The token that answers a word is the first one that ends in it.
A text that is longer than the model reads is covered by windows that overlap by half, and each word
is answered by the window in which it has the most context on its shorter side.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from rarefy.pipeline.model.tokens.windows import feed as padded
from rarefy.pipeline.model.tokens.windows import of as encodings
from rarefy.pipeline.model.tokens.windows import overlap

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

SEPARATOR: Final = " "
MARK, HAN = "\u0300", "\u4e00"
"""What stands for any character that belongs to the one before it, and for any Chinese one."""
SPLITTERS: Final = {
    "words": re.compile(rf"[^\W{HAN}]+(?:{MARK}+[^\W{HAN}]*)*|\S{MARK}*"),
    "blank": re.compile(r"\S+"),
}
"""How a raw text becomes words: words and single symbols, or what stands between blanks.

``words`` reads text in which each character is one of its class (see ``Classes``).
"""
OWN: Final = "words"
"""The splitter of texts in data files."""
NO_WORD, CUT_OFF = -1, -2
"""Instead of a place: padding, and a word that is cut off."""


class Window(NamedTuple):
    """A part of a text that the model reads at once.

    ``first``: for each word that this window answers, the place of its token in the window. The
    words of a text's windows, one window after another, are the words of the text in order.
    """

    ids: list[int]
    attention_mask: list[int]
    type_ids: list[int]
    first: list[int]


class Classes(dict[int, int]):
    """The table for ``str.translate`` that puts a character's class in its place, as it is needed.

    Combining marks, joiners and soft hyphens are part of a word (Unicode Standard Annex 29, rule
    WB4); a zero width space ends it. A Chinese character is a word, as in BERT's tokenizers: the
    script has no spaces.
    """

    def __missing__(self, code: int) -> int:
        """Return the class of a character, or the character if it is in none."""
        character = chr(code)
        result = code
        if unicodedata.category(character) in ("Mn", "Mc", "Me", "Cf") and character != "\u200b":
            result = ord(MARK)
        elif unicodedata.name(character, "").startswith(("CJK UNIFIED", "CJK COMPATIBILITY")):
            result = ord(HAN)
        self[code] = result
        return result


CLASSES: Final = Classes()


def split(text: str, splitter: str) -> list[tuple[int, int]]:
    """Return the first character of each word of a raw text, and the one after its last."""
    if splitter == "words":
        text = text.translate(CLASSES)
    return [match.span() for match in SPLITTERS[splitter].finditer(text)]


def joined(words: Sequence[str]) -> str:
    """Return words as the text that a model is asked."""
    return SEPARATOR.join(words)


def of(text: str) -> list[str]:
    """Return the words of a joined text."""
    if text:
        return text.split(SEPARATOR)
    return []


def windows(tokenizer: Any, texts: Sequence[str], max_length: int) -> Iterator[list[Window]]:
    """Return the windows of each joined text, each of at most ``max_length`` tokens.

    ``tokenizer``: of the tokenizers library. It is left without truncation.
    """
    return answering(texts, encodings(tokenizer, texts, max_length), overlap(tokenizer, max_length))


def answering(
    texts: Sequence[str], encoded: Iterable[list[Any]], shared: int
) -> Iterator[list[Window]]:
    """Yield the windows of each joined text from their encodings.

    ``shared``: the number of tokens that neighbours share.
    """
    for text, parts in zip(texts, encoded, strict=True):
        yield _windows(of(text), parts, shared)


def beginnings(tokenizer: Any, texts: Sequence[str], max_length: int) -> Iterator[Window]:
    """Yield the first ``max_length`` tokens of each joined text.

    ``first`` has all words of the text; those beyond the end are ``CUT_OFF``.
    """
    import numpy as np

    for text, parts in zip(texts, encodings(tokenizer, texts, max_length, 0), strict=True):
        first = parts[0]
        inside, ends = _tokens(first)
        tokens = _first_tokens(of(text), ends)
        if len(inside):
            place = inside[np.minimum(tokens, len(inside) - 1)]
        else:
            place = 0 * tokens
        if len(parts) > 1:
            place[tokens == len(inside)] = CUT_OFF
        yield Window(first.ids, first.attention_mask, first.type_ids, place.tolist())


def feed(
    windows: Sequence[Window], names: Sequence[str]
) -> tuple[dict[str, NDArray[np.int64]], NDArray[np.int64]]:
    """Return a text's windows as a graph's inputs, and where its words are answered.

    The inputs are windows × tokens, padded with 0. A place is an index into the outputs of all
    tokens, window after window.
    """
    import numpy as np

    width = max(len(window.ids) for window in windows)
    places = [row * width + place for row, window in enumerate(windows) for place in window.first]
    return padded(windows, names), np.array(places, np.int64)


def _windows(words: list[str], parts: list[Any], shared: int) -> list[Window]:
    import numpy as np

    # Neighbours share ``shared`` tokens, and each answers the half that is nearer to its middle.
    numbers = []
    places = []
    ends = []
    for number, part in enumerate(parts):
        inside, all_ends = _tokens(part)
        before = 0
        if number:
            before = shared // 2
        after = 0
        if number < len(parts) - 1:
            after = shared - shared // 2
        answered = slice(before, len(inside) - after)
        numbers.append(np.full(len(inside[answered]), number))
        places.append(inside[answered])
        ends.append(all_ends[answered])
    window = np.concatenate(numbers)
    place = np.concatenate(places)
    if len(place):
        tokens = np.minimum(_first_tokens(words, np.concatenate(ends)), len(place) - 1)
        window = window[tokens]
        place = place[tokens]
    else:  # the tokenizer drops all characters of the text
        window = place = np.zeros(len(words), int)
    return [
        Window(part.ids, part.attention_mask, part.type_ids, place[window == at].tolist())
        for at, part in enumerate(parts)
    ]


def _tokens(part: Any) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the places of an encoding's own tokens, and the character after each one's last."""
    import numpy as np

    inside = np.flatnonzero(np.array(part.special_tokens_mask, int) == 0)
    return inside, np.array([end for _, end in part.offsets], int)[inside]


def _first_tokens(words: list[str], ends: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the first token that ends in or after each word; their number if there is none.

    ``ends``: for each token, the character of the joined text after its last one.
    """
    import numpy as np

    starts = np.cumsum([0, *(len(word) + len(SEPARATOR) for word in words)])[:-1]
    word = np.maximum.accumulate(np.searchsorted(starts, ends) - 1)
    return np.searchsorted(word, np.arange(len(words)))
