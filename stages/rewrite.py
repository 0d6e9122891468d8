"""Rewriting: a masked language model replaces words of the training rows, for teachers to label."""

from __future__ import annotations

import random
import sys
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field

from pipeline.stage import Context, Draft, locating
from pipeline.stage.locating import Located
from pipeline.store.artifact import Artifact, Kind, Metric
from pipeline.terms.errors import DataError, ModelError
from stages import batches, novel, training, transfer_set
from stages.novel import Novel
from stages.parameters import Training
from stages.transfer_set import TEXTS, Pair

if TYPE_CHECKING:
    from stages.mask_filling import Filler
    from stages.masked_lm import Encoded, Word
    from stages.rows import Rows

TOGETHER = 64
"""Texts that are rewritten at once, if the copies of a row are not more."""
WRITERS = ("ForCausalLM", "GPT2LMHeadModel")
"""How the names of heads end that give the next token."""


class Rewrite(Training):
    """Have a masked language model replace words of the training rows; a teacher labels the result.

    Words are masked whole, all of a copy at once, and sampled by nucleus from what the model
    expects there (the augmentation of TinyBERT, Jiao et al. 2020, arXiv 1909.10351, which replaces
    them one by one). The model learns the training rows first; a new head, for weights that have
    none, is trained before that, alone. A text that stands in train, dev or eval, or was made
    before, is left out and counted.

    The next stage goes on from this one's input.
    """

    name: ClassVar[str] = "rewrite"
    version: ClassVar[int] = 5
    consumes: ClassVar[frozenset[Kind]] = frozenset({Kind.ENCODER, Kind.CHECKPOINT, Kind.ADAPTER})
    produces: ClassVar[Kind | None] = Kind.TRANSFER_SET
    reads: ClassVar[frozenset[str]] = novel.SPLITS
    aside: ClassVar[bool] = True
    reads_input: ClassVar[bool] = False

    model: str = Field(
        description="an encoder, best one pretrained with masks: a directory, "
        "hub:owner/name@revision or package:import_name/sub/dir"
    )
    copies: int = Field(
        default=4, ge=1, le=1000, description="of each row, with other words replaced"
    )
    share: float = Field(
        default=0.3, gt=0, le=1, description="of the words that are replaced, at least one"
    )
    epochs: int = Field(
        default=1, ge=0, le=1000, description="passes over the rows; 0: the model as it is"
    )
    top_p: float = Field(
        default=0.9, gt=0, le=1, description="share of the probability to sample from"
    )

    def files(self, base: Path) -> tuple[Path, ...]:
        """Return the model's files. Raises ModelError if it is not found, or fills no masks."""
        located = self._located(base)
        for head in located.config.get("architectures") or ():
            if head.endswith(WRITERS):
                raise ModelError(
                    f"rewrite.model: {self.model} writes on ({head}) and fills no masks; 'write' "
                    "takes such models"
                )
        return located.files

    def _located(self, base: Path) -> Located:
        return locating.locate(self.model, base, allow_pickle=False, key="rewrite.model")

    def run(self, context: Context, model: Artifact) -> Draft:
        """Train the model and rewrite; a killed run goes on after its last batch.

        Rows are cut to the recipe's max_length, or to what the model can read.

        Raises ModelError if the model cannot fill masks, DataError if no text is new.
        """
        from pipeline.model import checkpoint
        from stages import masked_lm
        from stages.mask_filling import Filler

        training.prepare(context)
        located = self._located(context.base)
        length = min(context.task.max_length, located.positions or sys.maxsize)
        tokenizer = checkpoint.load_tokenizer(located.directory)
        if tokenizer.mask_token_id is None:
            raise ModelError(f"rewrite: the tokenizer of {self.model} has no mask token")
        network, head_is_new = masked_lm.open_model(located.directory, "rewrite")
        if head_is_new and not self.epochs:
            raise ModelError(f"rewrite: {self.model} has no head that fills masks; set epochs")
        checkpoint.leave_out_types(network.config, tokenizer)
        loss = masked_lm.MaskedTokenLoss(network)
        if head_is_new:
            rows = self._rows(context, tokenizer, length, 1, f"{context.seed} head")
            masked_lm.train_head(context, self, network, tokenizer, rows, loss)
        if self.epochs:
            seed = f"{context.seed} tuning"
            rows = self._rows(context, tokenizer, length, self.epochs, seed)
            training.train(context, self, network, tokenizer, rows, loss, epochs=1, name="tuning")
        filler = Filler(
            network.to(context.device).eval(), tokenizer, loss, context.device, self.top_p
        )
        new = Novel(context.splits, singly=context.task.singly)
        made = (row for row in self._made(context, filler, length) if new.add(row, "rewritten"))
        roles = transfer_set.write(context.output, made)
        if not len(new):
            raise DataError("rewrite: no new text: all are known, or repeat one another")
        metrics = (Metric(name=name, value=count) for name, count in sorted(new.counts.items()))
        return Draft(roles, {TEXTS: len(new)}, tuple(metrics))

    def _rows(self, context: Context, tokenizer: Any, length: int, epochs: int, seed: str) -> Rows:
        """Return each training row with other words masked in each epoch."""
        from stages import masked_lm
        from stages.rows import Rows

        draw, rows = random.Random(seed), Rows(context.work)  # noqa: S311
        count = len(context.split("train"))
        for _ in range(epochs):
            for start in range(0, count, training.CHUNK):
                chosen = range(start, min(start + training.CHUNK, count))
                rows.extend(
                    masked_lm.masked(
                        text, masked_lm.words_of_text(text, draw), tokenizer.mask_token_id
                    )
                    for text in self._encoded(context, tokenizer, length, chosen).values()
                )
                context.progress(chosen.stop, count, "masking")
        if not len(rows):
            raise DataError("rewrite: the training rows have no words")
        return rows

    def _encoded(
        self, context: Context, tokenizer: Any, length: int, chosen: range
    ) -> dict[int, Encoded]:
        """Return the training rows that have words, by their place, cut to ``length`` tokens."""
        from stages import masked_lm

        train = context.split("train")
        texts, pairs = train.texts[chosen.start : chosen.stop], train.pairs
        seconds = None if pairs is None else pairs[chosen.start : chosen.stop]
        encoded = masked_lm.encode(tokenizer, texts, seconds, length)
        return {at: text for at, text in zip(chosen, encoded, strict=True) if text.words}

    def _made(self, context: Context, filler: Filler, length: int) -> Iterator[Pair]:
        """Yield all copies of all rows."""
        import torch

        from stages.mask_filling import replaced

        train = context.split("train")
        each = max(1, TOGETHER // self.copies)

        def rewrite(number: int) -> list[Pair]:
            draw = random.Random(f"{context.seed} {number}")  # noqa: S311
            torch.manual_seed(draw.getrandbits(32))
            chosen = range(number * each, min((number + 1) * each, len(train)))
            found = self._encoded(context, filler.tokenizer, length, chosen)
            places = [at for at in found for _ in range(self.copies)]
            if not places:
                return []
            texts = [found[at] for at in places]
            words = [self._words(text, draw) for text in texts]
            return [
                replaced(novel.pair(train, at), own, fills)
                for at, own, fills in zip(places, words, filler.fill(texts, words), strict=True)
            ]

        made = batches.kept(context.work / "rewritten.jsonl", rewrite)
        for number, batch in enumerate(islice(made, -(-len(train) // each)), 1):
            context.progress(min(number * each, len(train)), len(train), "rewriting")
            yield from ((text, other) for text, other in batch)

    def _words(self, text: Encoded, draw: random.Random) -> list[Word]:
        return draw.sample(text.words, max(1, round(self.share * len(text.words))))
