"""Writing: a small language model writes texts like the training rows, for teachers to label."""

from __future__ import annotations

import random
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any, ClassVar

from pydantic import Field, model_validator

from pipeline.stage import Context, Draft
from pipeline.stage.split import Split
from pipeline.store.artifact import Artifact, Kind, Metric
from pipeline.terms.errors import DataError, RecipeError
from stages import batches, novel, spans, training, transfer_set
from stages.novel import Novel
from stages.parameters import Training, changed
from stages.transfer_set import TEXTS

PROMPT = "More texts like these, one on each line:\n"
MARK = "- "
"""What each example begins with."""
WORDS = 60
"""Words of the longest example, or its characters in a script without spaces."""
TRIES = 4
"""Texts that are written for each that is asked for, before the stage gives up."""


class Write(Training):
    """Have a small language model write texts like the training rows; a teacher labels them.

    The model is tuned on the training rows first, or (``epochs: 0``) reads some of them as a
    prompt, others for each batch. Sampling is by nucleus (Holtzman et al. 2020, arXiv 1904.09751).
    A text that stands in train, dev or eval, or was written before, is left out and counted.
    Language models as the source of a transfer set: He et al. 2022, arXiv 2106.06168.

    The next stage goes on from this one's input.
    """

    name: ClassVar[str] = "write"
    version: ClassVar[int] = 4
    consumes: ClassVar[frozenset[Kind]] = frozenset({Kind.ENCODER, Kind.CHECKPOINT, Kind.ADAPTER})
    produces: ClassVar[Kind | None] = Kind.TRANSFER_SET
    reads: ClassVar[frozenset[str]] = novel.SPLITS
    libraries: ClassVar[tuple[str, ...]] = (*Training.libraries, "gguf")
    aside: ClassVar[bool] = True
    reads_input: ClassVar[bool] = False

    model: str = Field(
        description="a causal language model: a directory, hub:owner/name@revision, "
        "package:import_name/sub/dir, or a GGUF file in one"
    )
    texts: int = Field(default=10_000, ge=1, le=10_000_000, description="new texts to write")
    epochs: int = Field(
        default=1, ge=0, le=1000, description="passes over the rows; 0: a prompt instead"
    )
    learning_rate: float = Field(
        default=5e-5, gt=0, lt=1, description="peak learning rate, after warm-up"
    )
    batch_size: int = Field(default=16, ge=1, le=4096, description="rows per step of the tuning")
    examples: int = Field(default=4, ge=1, le=100, description="rows in a prompt")
    together: int = Field(default=64, ge=1, le=4096, description="texts that are written at once")
    temperature: float = Field(default=1.0, gt=0, le=10, description="less: likelier words")
    top_p: float = Field(
        default=0.95, gt=0, le=1, description="share of the probability to sample from"
    )
    tokens: int = Field(default=48, ge=4, le=4096, description="of the longest text")

    @model_validator(mode="after")
    def _tunes_or_prompts(self) -> Write:
        if self.epochs and changed(self, ("examples",)):
            raise ValueError("'examples' are of a prompt: give 'epochs: 0'")
        if not self.epochs and (unread := changed(self, Training.model_fields.keys() - {"epochs"})):
            raise ValueError(
                f"{sorted(unread)[0]!r} is of the tuning, which 'epochs: 0' leaves out"
            )
        return self

    def check_columns(self, count: int) -> None:
        """Raise RecipeError if the rows are pairs of texts."""
        if count > 1:
            raise RecipeError("the rows are pairs of texts, and it writes single texts")

    def files(self, base: Path) -> tuple[Path, ...]:
        """Return the model's files. Raises ModelError if it cannot be found."""
        from stages import causal_lm

        return causal_lm.files(self.model, base)

    def run(self, context: Context, model: Artifact) -> Draft:
        """Tune the model, if asked for, and write; a killed run goes on after its last batch.

        Raises DataError if the model only repeats itself, ModelError if it cannot read as many
        tokens.
        """
        from stages import causal_lm

        train = context.split("train")
        training.prepare(context)
        writer = causal_lm.open_model(self.model, context.base)
        writer.check_length(1, self.tokens)
        if self.epochs:
            rows = causal_lm.rows(context, writer, train)
            training.train(
                context, self, writer.network, writer.tokenizer, rows, causal_lm.loss, name="tuning"
            )
        writer.network.to(context.device)
        new = Novel(context.splits)
        roles = transfer_set.write(context.output, self._kept(context, writer, train, new))
        if not len(new):
            raise DataError(f"write: {self.model} wrote nothing that is new")
        metrics = (Metric(name=name, value=count) for name, count in sorted(new.counts.items()))
        return Draft(roles, {TEXTS: len(new)}, tuple(metrics))

    def _kept(
        self, context: Context, writer: Any, train: Split, new: Novel
    ) -> Iterator[tuple[str, None]]:
        """Yield new texts until there are enough, or the model only repeats itself."""

        def write(number: int) -> list[str]:
            return self._batch(f"{context.seed} {number}", writer, train)

        tries = TRIES * self.texts // self.together + 10
        for batch in islice(batches.kept(context.work / "written.jsonl", write), tries):
            for text in batch:
                if len(new) < self.texts and new.add((text, None), "written"):
                    yield text, None
            context.progress(len(new), self.texts, "writing")
            if len(new) == self.texts:
                return

    def _batch(self, seed: str, writer: Any, train: Split) -> list[str]:
        import torch

        draw = random.Random(seed)  # noqa: S311
        torch.manual_seed(draw.getrandbits(32))
        found: list[str] = writer.write(
            "" if self.epochs else self._prompt(train, draw),
            self.together,
            tokens=self.tokens,
            temperature=self.temperature,
            top_p=self.top_p,
        )
        return found

    def _prompt(self, train: Split, draw: random.Random) -> str:
        """Return a prompt with some of the rows that are not too long."""
        found: list[str] = []
        for _ in range(20 * self.examples):
            text = " ".join(train.texts[draw.randrange(len(train))].split())
            if len(spans.units(text)[0]) <= WORDS:
                found.append(text)
            if len(found) == self.examples:
                break
        if not found:
            raise DataError(
                f"write: all rows are longer than {WORDS} words, too long for a prompt; set epochs"
            )
        return PROMPT + "".join(f"{MARK}{text}\n" for text in found) + MARK.rstrip()
