"""Rewriting: a masked language model replaces words of the training rows, for teachers to label."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field

from pipeline.stage import Context, Draft
from pipeline.stage.resources import FLOAT, PROCESS, TEXTS, Resources, Workload, upto
from pipeline.store.artifact import Artifact, Kind, Metric
from pipeline.terms.errors import DataError, ModelError
from stages import batches, novel, training, transfer_set
from stages.novel import Novel
from stages.parameters import Training
from stages.transfer_set import Pair

if TYPE_CHECKING:
    from stages.masked_lm import Encoded, MaskedTokenLoss, Word

TOGETHER = 64
"""Texts that are rewritten at once."""
BYTES = 120


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
    consumes: ClassVar[frozenset[Kind]] = frozenset({Kind.ENCODER, Kind.CHECKPOINT, Kind.ADAPTER})
    produces: ClassVar[Kind | None] = Kind.TRANSFER_SET
    reads: ClassVar[frozenset[str]] = novel.SPLITS
    aside: ClassVar[bool] = True

    model: str = Field(
        description="an encoder, best one pretrained with masks: a directory, "
        "hub:owner/name@revision or package:import_name/sub/dir"
    )
    copies: int = Field(4, ge=1, le=1000, description="of each row, with other words replaced")
    share: float = Field(
        0.3, gt=0, le=1, description="of the words that are replaced, at least one"
    )
    epochs: int = Field(1, ge=0, le=1000, description="passes over the rows; 0: the model as it is")
    top_p: float = Field(0.9, gt=0, le=1, description="share of the probability to sample from")

    def files(self, base: Path) -> tuple[Path, ...]:
        """Return the model's files. Raises ModelError if it cannot be found."""
        from pipeline.run import locating

        return locating.locate(self.model, base, allow_pickle=False).files

    def resources(self, work: Workload) -> Resources:
        """Return the texts on disk, and the model's weights with gradients and moments."""
        size = sum(path.stat().st_size for path in self.files(work.base))
        rows = work.rows_of(frozenset({"train"}))
        return Resources(
            disk=upto(BYTES * self.copies * rows + 12 * size),
            memory=PROCESS + upto(FLOAT * size),
            texts=self.copies * rows,
            effort=float((self.copies + self.epochs) * rows),
        )

    def run(self, context: Context, model: Artifact) -> Draft:
        """Train the model and rewrite; a killed run goes on after its last batch.

        Raises ModelError if the model cannot fill masks, DataError if no text is new.
        """
        from pipeline.model import checkpoint
        from pipeline.run import locating
        from stages import masked_lm

        training.prepare(context)
        directory = locating.locate(self.model, context.base, allow_pickle=False).directory
        tokenizer = checkpoint.load_tokenizer(directory)
        if tokenizer.mask_token_id is None:
            raise ModelError(f"rewrite: the tokenizer of {self.model} has no mask token")
        network, head_is_new = masked_lm.open_model(directory, "rewrite")
        train = context.split("train")
        texts = masked_lm.encode(tokenizer, train.texts, train.pairs, context.task.max_length)
        if not any(text.words for text in texts):
            raise DataError("rewrite: the training rows have no words")
        loss = masked_lm.MaskedTokenLoss(network)
        draw = random.Random(context.seed)  # noqa: S311

        def rows() -> list[Any]:
            made = [(text, masked_lm.words_of_text(text, draw)) for text in texts]
            return [
                masked_lm.masked(t, words, tokenizer.mask_token_id) for t, words in made if words
            ]

        if head_is_new and not self.epochs:
            raise ModelError(f"rewrite: {self.model} has no head that fills masks; set epochs")
        if head_is_new:
            masked_lm.train_head(context, self, network, tokenizer, rows(), loss)
        if self.epochs:
            every = [row for _ in range(self.epochs) for row in rows()]
            training.train(context, self, network, tokenizer, every, loss, epochs=1, name="tuning")
        new = Novel(context.splits, singly=context.task.body_only)
        made = self._made(context, network, tokenizer, texts, loss)
        roles = transfer_set.write(
            context.output, (row for row in made if new.add(row, "rewritten"))
        )
        if not len(new):
            raise DataError("rewrite: no new text: all are known, or repeat one another")
        metrics = (Metric(name=name, value=count) for name, count in sorted(new.counts.items()))
        return Draft(roles, {TEXTS: len(new)}, tuple(metrics))

    def _made(
        self,
        context: Context,
        network: Any,
        tokenizer: Any,
        texts: Sequence[Encoded],
        loss: MaskedTokenLoss,
    ) -> Iterator[Pair]:
        """Yield all copies of all rows, shorter rows first."""
        import torch

        train = context.split("train")
        order = sorted(
            (at for at, text in enumerate(texts) if text.words),
            key=lambda at: len(texts[at].row["input_ids"]),
        )
        order = [at for at in order for _ in range(self.copies)]
        network = network.to(context.device).eval()
        banned = _banned(tokenizer)

        def rewrite(number: int) -> list[Pair]:
            seed = f"{context.seed} {number}"
            draw = random.Random(seed)  # noqa: S311
            torch.manual_seed(draw.getrandbits(32))
            chosen = order[number * TOGETHER : (number + 1) * TOGETHER]
            words = [self._words(texts[at], draw) for at in chosen]
            filled = self._filled(
                context, network, tokenizer, [texts[at] for at in chosen], words, loss, banned
            )
            return [
                replaced(novel.pair(train, at), own, fills)
                for at, own, fills in zip(chosen, words, filled, strict=True)
            ]

        count = -(-len(order) // TOGETHER)
        made = batches.kept(context.work / "rewritten.jsonl", rewrite)
        for number, batch in enumerate(islice(made, count), 1):
            context.progress(min(number * TOGETHER, len(order)), len(order), "rewriting")
            yield from ((text, other) for text, other in batch)

    def _words(self, text: Encoded, draw: random.Random) -> list[Word]:
        return draw.sample(text.words, max(1, round(self.share * len(text.words))))

    def _filled(
        self,
        context: Context,
        network: Any,
        tokenizer: Any,
        texts: Sequence[Encoded],
        words: Sequence[Sequence[Word]],
        loss: MaskedTokenLoss,
        banned: tuple[Any, Any],
    ) -> list[list[str]]:
        """Return what the model puts in place of each text's words."""
        import torch

        from stages import masked_lm
        from stages.causal_lm import nucleus
        from stages.trainer import collate, use_bf16

        rows = [
            masked_lm.masked(text, own, tokenizer.mask_token_id)
            for text, own in zip(texts, words, strict=True)
        ]
        batch = {k: v.to(context.device) for k, v in collate(rows, tokenizer).items()}
        places = (batch["labels"] != masked_lm.IGNORED).nonzero().tolist()
        bf16 = use_bf16(context.device, network)
        with (
            torch.inference_mode(),
            torch.autocast(context.device, torch.bfloat16, enabled=bf16),
        ):
            logits, _ = loss.logits(network, batch)
        first = {(at, word.tokens[0]) for at, own in enumerate(words) for word in own}
        never, inside = banned
        logits = logits.float().masked_fill(never.to(logits.device), -torch.inf)
        starts = torch.tensor([tuple(place) in first for place in places], device=logits.device)
        logits = logits.masked_fill(starts[:, None] & inside.to(logits.device), -torch.inf)
        sampled = nucleus(logits, self.top_p)[:, 0].tolist()
        found = dict(zip(map(tuple, places), sampled, strict=True))
        return [
            [tokenizer.decode([found[at, token] for token in word.tokens]).strip() for word in own]
            for at, own in enumerate(words)
        ]


def replaced(row: Pair, words: Sequence[Word], fills: Sequence[str]) -> Pair:
    """Return a row with some of its words replaced; what stands between them stays."""
    parts = list(row)
    for word, fill in sorted(zip(words, fills, strict=True), key=lambda each: -each[0].start):
        text = parts[word.part] or ""
        parts[word.part] = text[: word.start] + fill + text[word.end :]
    return parts[0] or "", parts[1]


def _banned(tokenizer: Any) -> tuple[Any, Any]:
    """Return which tokens are never put in a text, and which never begin a word: 1 × vocabulary."""
    import torch

    names = tokenizer.convert_ids_to_tokens(range(len(tokenizer)))
    # Byte-level and SentencePiece tokenizers have no such prefix; their decoder adds no mark.
    prefix = getattr(tokenizer.backend_tokenizer.model, "continuing_subword_prefix", None)
    special = set(tokenizer.all_special_ids)
    never = [at in special or name.startswith("[unused") for at, name in enumerate(names)]
    inside = [bool(prefix) and name.startswith(prefix) for name in names]
    return torch.tensor([never]), torch.tensor([inside])
