"""Filling masks: what a masked language model puts in place of some words of a text."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from pipeline.stage.values import IGNORED
from stages.causal_lm import nucleus
from stages.masked_lm import Encoded, MaskedTokenLoss, Word, masked
from stages.trainer import collate, use_bf16
from stages.transfer_set import Pair

DECODED = 2**25
"""Logits of a language model at once: 128 MiB."""


@dataclass(frozen=True)
class Filler:
    """A masked language model on a device; ``loss`` is what it was tuned with.

    ``top_p``: the share of the probability that is sampled from.
    """

    network: Any
    tokenizer: Any
    loss: MaskedTokenLoss
    device: str
    top_p: float

    def fill(self, texts: Sequence[Encoded], words: Sequence[Sequence[Word]]) -> list[list[str]]:
        """Return what is sampled for some words of each text, all of which are masked at once.

        A special token is never sampled, nor one in the middle of a word for its beginning. As
        many texts are read at once as have ``DECODED`` logits, at least one.
        """
        found: list[list[str]] = []
        for part in self._parts(words):
            found += self._filled(texts[part], words[part])
        return found

    def _parts(self, words: Sequence[Sequence[Word]]) -> Iterator[slice]:
        """Yield the texts that are read at once, in order."""
        first, places = 0, 0
        for at, own in enumerate(words):
            more = sum(len(word.tokens) for word in own)
            if at > first and places + more > self._most:
                yield slice(first, at)
                first, places = at, 0
            places += more
        yield slice(first, len(words))

    def _filled(self, texts: Sequence[Encoded], words: Sequence[Sequence[Word]]) -> list[list[str]]:
        rows = [
            masked(text, own, self.tokenizer.mask_token_id)
            for text, own in zip(texts, words, strict=True)
        ]
        batch = {k: v.to(self.device) for k, v in collate(rows, self.tokenizer).items()}
        places = [(at, token) for at, token in (batch["labels"] != IGNORED).nonzero().tolist()]
        bf16 = use_bf16(self.device, self.network)
        with torch.inference_mode(), torch.autocast(self.device, torch.bfloat16, enabled=bf16):
            logits, _ = self.loss.logits(self.network, batch)
        first = {(at, word.tokens[0]) for at, own in enumerate(words) for word in own}
        starts = torch.tensor([place in first for place in places], device=logits.device)
        tokens: list[int] = []
        parts = torch.split(logits, self._most), torch.split(starts, self._most)
        for few, begin in zip(*parts, strict=True):
            able = few.float().masked_fill(self._never | begin[:, None] & self._inside, -torch.inf)
            tokens += nucleus(able, self.top_p)[:, 0].tolist()
        found = dict(zip(places, tokens, strict=True))
        return [
            [self.tokenizer.decode([found[at, token] for token in each.tokens]) for each in own]
            for at, own in enumerate(words)
        ]

    @property
    def _most(self) -> int:
        """The places whose logits are sampled from at once."""
        return max(1, DECODED // self._never.numel())

    @cached_property
    def _names(self) -> list[str]:
        names: list[str] = self.tokenizer.convert_ids_to_tokens(range(len(self.tokenizer)))
        return names

    @cached_property
    def _never(self) -> Tensor:
        """Which tokens no text has: vocabulary."""
        special = set(self.tokenizer.all_special_ids)
        return self._flags([at in special for at in range(len(self._names))])

    @cached_property
    def _inside(self) -> Tensor:
        """Which tokens begin no word, where the tokenizer marks them by a prefix: vocabulary."""
        model = self.tokenizer.backend_tokenizer.model
        prefix = getattr(model, "continuing_subword_prefix", None)
        return self._flags([bool(prefix) and name.startswith(prefix) for name in self._names])

    def _flags(self, found: list[bool]) -> Tensor:
        """Return them for every output of the model, which may have more than there are tokens."""
        count = self.network.get_output_embeddings().weight.shape[0]
        return torch.tensor([*found, *[True] * (count - len(found))], device=self.device)


def replaced(row: Pair, words: Sequence[Word], fills: Sequence[str]) -> Pair:
    """Return a row with some of its words replaced; what stands between them stays."""
    parts = [row[0], row[1] or ""]
    for word, fill in sorted(zip(words, fills, strict=True), key=lambda each: -each[0].start):
        text = parts[word.part]
        parts[word.part] = text[: word.start] + fill.strip() + text[word.end :]
    return parts[0], None if row[1] is None else parts[1]
