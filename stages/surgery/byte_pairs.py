"""Which tokens and merges of a byte-pair encoding a smaller vocabulary has to keep.

A word is encoded by applying, again and again, the merge of lowest rank among its adjacent pairs
(Sennrich et al. 2016, arXiv 1508.07909). No merge crosses the borders of a token in the result, so
a token is formed by the same merges in every word: those that encode the token on its own. If the
results of these merges are kept as well, and the merges keep their order, text made of kept tokens
is split as before: at each step the merge that was chosen is still there, and the merges that it
was preferred to have only become fewer.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from itertools import pairwise
from typing import Any


def closure(model: dict[str, Any], tokens: Iterable[str]) -> set[str]:
    """Return the tokens, and every token that the merges pass through to form one of them.

    ``model`` is the "model" of tokenizer.json. A token that no merges form, such as a special
    token, stands alone.
    """
    ranks = {(left, right): rank for rank, (left, right) in enumerate(model["merges"])}
    kept: set[str] = set()
    for token in tokens:
        kept.add(token)
        passed = _encode(model, ranks, token)
        if passed[-1:] == [token]:
            kept.update(passed)
    return kept


def kept_merges(model: dict[str, Any], tokens: Collection[str]) -> list[list[str]]:
    """Return the merges whose parts and result are among ``tokens``, in the same order."""
    return [
        [left, right]
        for left, right in model["merges"]
        if left in tokens and right in tokens and _joined(model, left, right) in tokens
    ]


def symbols(model: dict[str, Any], token: str) -> list[str]:
    """Return the symbols that a token is merged from: one per character, marked as the model does.

    The model may mark every symbol that continues a word (``continuing_subword_prefix``), and the
    one that ends it (``end_of_word_suffix``).
    """
    prefix = model.get("continuing_subword_prefix") or ""
    suffix = model.get("end_of_word_suffix") or ""
    bare = token.removeprefix(prefix).removesuffix(suffix)
    parts = [(prefix if at else "") + letter for at, letter in enumerate(bare)]
    if parts and prefix and token.startswith(prefix):
        parts[0] = prefix + parts[0]
    if parts and suffix and token.endswith(suffix):
        parts[-1] += suffix
    return parts


def _encode(model: dict[str, Any], ranks: dict[tuple[str, str], int], token: str) -> list[str]:
    """Return all symbols that occur while a token is encoded, the last merge's result last."""
    parts = symbols(model, token)
    passed = list(parts)
    while len(parts) > 1:
        pairs = list(pairwise(parts))
        rank, at = min((ranks.get(pair, len(ranks)), at) for at, pair in enumerate(pairs))
        if rank == len(ranks):
            return []
        parts[at : at + 2] = [_joined(model, *pairs[at])]
        passed.append(parts[at])
    return passed


def _joined(model: dict[str, Any], left: str, right: str) -> str:
    return left + right.removeprefix(model.get("continuing_subword_prefix") or "")
