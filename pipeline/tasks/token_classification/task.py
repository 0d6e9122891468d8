"""Token classification: a tag for each word, such as entities, addresses and parts of speech."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

from rarefy.pipeline.data.task_rows import WITHOUT_TEXT, left_out
from rarefy.pipeline.data.values import IGNORED, given_text, is_missing
from rarefy.pipeline.model.tokens import windows, words
from rarefy.pipeline.model.tokens.words import CUT_OFF, FIRST, NO_WORD, Window
from rarefy.pipeline.tasks.presentation import Marks
from rarefy.pipeline.tasks.shared import formulas, heads, labels, tokenize
from rarefy.pipeline.tasks.shared.formulas import Formula
from rarefy.pipeline.tasks.single_label import SingleLabel
from rarefy.pipeline.tasks.task import Row
from rarefy.pipeline.tasks.token_classification import entities, read_rows
from rarefy.pipeline.tasks.token_classification import predictions as entity_answers
from rarefy.pipeline.tasks.token_classification import scores as entity_scores
from rarefy.pipeline.tasks.token_classification.predictions import Entities, Tagged
from rarefy.pipeline.tasks.token_classification.scores import NAMES, TAGS
from rarefy.pipeline.terms.errors import DataError, ModelError
from rarefy.pipeline.terms.recipe_parts import Data
from rarefy.pipeline.terms.wording import plural

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor

    from rarefy.pipeline.data.split import Split
    from rarefy.pipeline.data.table import Source

SPLITTER = "splitter"
MOST_SPLIT = 0.1
"""A bundle splits raw text into words and symbols if that would split fewer words of its data."""


@dataclass(frozen=True)
class TokenClassification(SingleLabel):
    """A unit is a word; ``labels`` are tags, in the order of the model's outputs.

    A text of a split is its words joined by single spaces. The truth is a list of sentences:
    ``{"tags": […]}`` with the index of each word's tag; the first has ``names``, the tags' names.
    ``splitter``: how raw text becomes words; see ``rarefy.pipeline.model.tokens.words``.
    """

    splitter: str = words.OWN

    name: ClassVar[str] = "token-classification"
    unit_per_row: ClassVar[bool] = False
    of_words: ClassVar[bool] = True
    answers_itself: ClassVar[bool] = True
    no_windows: ClassVar[str | None] = "it reads long texts in windows anyway"
    scores: ClassVar[Mapping[str, Formula]] = entity_scores.SCORES

    # The rows of a file

    @classmethod
    def target_columns(cls, data: Data) -> tuple[str, ...]:
        """Return the column of the tags or spans. Raises DataError for a pair of texts."""
        if len(data.text_columns) > 1:
            raise DataError(f"data.text: {cls.name} takes one column")
        return super().target_columns(data)

    @classmethod
    def check_column(cls, values: Iterable[Any], column: str, source: Source) -> None:
        """Raise DataError unless a column holds lists."""
        for value in values:
            if not is_missing(value) and not isinstance(value, list):
                raise DataError(
                    f"{source.reference}: column {column!r} contains {str(value)[:40]!r}; "
                    f"{cls.name} needs a list of tags, one per token, or of spans"
                )

    @classmethod
    def read_row(
        cls, texts: tuple[Any, ...], values: tuple[Any, ...], source: Source, number: int
    ) -> tuple[tuple[str, ...], Any] | str:
        """Return the words joined by spaces, and their tags.

        Raises DataError, naming the row, if the tags or spans do not fit the words.
        """
        (text,) = texts
        if not text:
            return WITHOUT_TEXT
        if not isinstance(text, str | list):
            return left_out(text)
        target = cls.target(values)
        if values and target is None:
            return "without a label"
        try:
            asked, tags = read_rows.read(text, target)
        except DataError as error:
            raise DataError(f"{source.reference}: row {number}: {error}") from error
        return ((asked,), tags) if asked else WITHOUT_TEXT

    @classmethod
    def target(cls, values: tuple[Any, ...]) -> Any | None:
        """Return the list of tags or spans."""
        return None if not values or is_missing(values[0]) else values[0]

    @classmethod
    def names(cls, targets: Iterable[Any], source: Source) -> list[str]:
        """Return the tags in a stable order: ``O``, then by type."""
        try:
            return read_rows.names(targets)
        except DataError as error:
            raise DataError(f"{source.reference}: {error}") from error

    @classmethod
    def indexed(cls, targets: Sequence[Any], names: Sequence[str], source: Source) -> list[Any]:
        """Return each row's tags as indices into ``names``."""
        place = labels.places({tag for tags in targets for tag in tags}, names, source, "tag")
        return [[place[tag] for tag in tags] for tags in targets]

    @classmethod
    def counts(cls, targets: Iterable[Any], names: Sequence[str]) -> dict[str, int]:
        """Return the number of words with each tag; ``I-`` only if it occurs."""
        counted = Counter(tag for tags in targets for tag in tags)
        return {tag: counted[tag] for tag in names if counted[tag] or not tag.startswith("I-")}

    @classmethod
    def head(cls, config: Mapping[str, Any]) -> list[str] | None:
        """Return the tags of a token classifier."""
        return heads.labels(config, heads.TOKENS, fewest=2)

    # Rows as tokens

    def encode(
        self, tokenizer: Any, split: Split, rows: Sequence[int] | None = None
    ) -> list[dict[str, list[int]]]:
        """Tokenize rows (default: all), cut off at ``max_length``, unpadded: one dict per row.

        Every word is a unit, whatever the tokenizer: ``first`` is the place of its token, or
        ``CUT_OFF``.
        """
        texts = [split.texts[row] for row in (range(len(split)) if rows is None else rows)]
        starts = words.beginnings(tokenizer.backend_tokenizer, texts, self.max_length)
        return [_row(tokenizer, start) for start in starts]

    def asked(self, tokenizer: Any, split: Split) -> list[Row]:
        """Return the windows of all rows, one dict per window."""
        found = words.windows(tokenizer.backend_tokenizer, split.texts, self.max_length)
        return [_row(tokenizer, window) for parts in found for window in parts]

    def lengths(self, tokenizer: Any, split: Split, rows: Sequence[int]) -> list[int]:
        """Return the number of tokens in each row before it is cut off or read in windows."""
        return tokenize.counts(tokenizer, [split.texts[row] for row in rows])

    def examples(self, tokenizer: Any, split: Split, rows: Sequence[int]) -> list[Row]:
        """Return rows with each word's tag as ``labels``: -100 if it has none or is cut off."""
        made = []
        for number, row in zip(rows, self.encode(tokenizer, split, rows), strict=True):
            tags = self._tags(split, number, self.units(row))
            both = zip(tags, row[FIRST], strict=True)
            labels = [IGNORED if place == CUT_OFF else tag for tag, place in both]
            made.append(row | {"labels": labels})
        return made

    def lessons(self, tokenizer: Any, split: Split, rows: Sequence[int]) -> list[Row]:
        """Return all windows of rows, with the tags of the words that each answers."""
        made = []
        texts = [split.texts[row] for row in rows]
        found = words.windows(tokenizer.backend_tokenizer, texts, self.max_length)
        for number, parts in zip(rows, found, strict=True):
            tags = iter(self._tags(split, number, sum(len(part.first) for part in parts)))
            for part in parts:
                labels = list(itertools.islice(tags, len(part.first)))
                made.append(_row(tokenizer, part) | {"labels": labels})
        return made

    def _tags(self, split: Split, row: int, count: int) -> list[int]:
        return list(split.labels[row]) if split.labels else [IGNORED] * count

    def units(self, row: Row) -> int:
        """Return the number of words of a tokenized row."""
        return len(row[FIRST])

    # Its model

    def load_model(self, directory: str) -> Any:
        """Return the token classifier that transformers builds for the body in ``directory``.

        An existing head is kept if it has the same tags in the same order. Raises ModelError if the
        model is incomplete or transformers has no token classifier for it.
        """
        return heads.load(Path(directory), self.name, self.labels, None)

    def select(self, output: Any, batch: Mapping[str, Tensor], config: Any) -> Tensor:
        """Return the logits at each word's token: words × tags; NaN for a word that is cut off."""
        import torch

        first = batch[FIRST]
        row, unit = torch.nonzero(first != NO_WORD, as_tuple=True)
        place = first[row, unit]
        logits: Tensor = output.logits[row, place.clamp(min=0)]
        return logits.masked_fill((place == CUT_OFF)[:, None], float("nan"))

    # Its losses

    def loss(
        self, outputs: Tensor, batch: Mapping[str, Tensor], *, total: bool, smoothing: float = 0.0
    ) -> Tensor:
        """Return the cross-entropy of logits (words × tags) with the tags."""
        from rarefy.pipeline.tasks.shared import losses

        labels = batch["labels"][batch[FIRST] != NO_WORD]
        known = labels != IGNORED
        return losses.hard(outputs[known], labels[known], smoothing, total=total)

    def imitation(self, outputs: Tensor, goal: Tensor, temperature: float) -> Tensor:
        """Return the divergence from the teacher's softened answers to words that both read."""
        from rarefy.pipeline.tasks.shared import losses

        both = ~(outputs.isnan() | goal.isnan()).any(dim=-1)
        if not both.any():
            return outputs[both].sum()
        return losses.soft(outputs[both], goal[both], temperature)

    def divergence(self, outputs: Tensor, other: Tensor) -> Tensor:
        """Return the Kullback-Leibler divergence of each word's answers; 0 if it is cut off."""
        cut = outputs.isnan().all(dim=-1) & other.isnan().all(dim=-1)
        return super().divergence(outputs, other).masked_fill(cut, 0.0)

    # Its answers

    def truth(self, split: Split) -> list[Any]:
        """Return each sentence's tags, and with the first the names of all tags."""
        rows: list[dict[str, Any]] = [{TAGS: list(tags)} for tags in split.labels or ()]
        return [rows[0] | {NAMES: list(self.labels)}, *rows[1:]] if rows else []

    def targets_of(self, answers: NDArray[np.float64], split: Split) -> list[list[int]]:
        """Return the index of each word's most probable tag, sentence by sentence."""
        tags = iter(formulas.answers(answers).tolist())
        return [list(itertools.islice(tags, len(words.of(text)))) for text in split.texts]

    @classmethod
    def expected(cls, truth: Sequence[Any]) -> int:
        """Return the number of words."""
        return sum(len(row[TAGS]) for row in truth)

    @classmethod
    def block(cls, truth: Sequence[Any]) -> str:
        """Return ``sentence``."""
        return "sentence"

    @classmethod
    def block_of_unit(cls, truth: Sequence[Any]) -> NDArray[np.int64] | None:
        """Return the number of each word's sentence."""
        import numpy as np

        _, _, lengths = entity_scores.read(truth)
        return np.repeat(np.arange(len(lengths)), lengths)

    trivial: ClassVar[str] = "the same tag for every word"
    marked: ClassVar[str] = "entity"

    @classmethod
    def floor(cls, truth: Sequence[Any]) -> float | None:
        """Return the entity F1 of the best answer that gives every word the same tag."""
        return entity_scores.floor(truth)

    @classmethod
    def uniform(cls, truth: Sequence[Any]) -> bool:
        """Return whether all words have the same tag."""
        return len({tag for row in truth for tag in row[TAGS]}) < 2

    @classmethod
    def marks(
        cls, tables: Sequence[NDArray[np.float64]], truth: Sequence[Any], labels: Sequence[str]
    ) -> Marks:
        """Return the types of all entities that the truth or a model has."""
        return entity_scores.marks(tables, truth)

    @classmethod
    def right(cls, answers: NDArray[np.float64], truth: Sequence[Any]) -> NDArray[np.bool_]:
        """Return for each sentence whether every word has the right tag."""
        import numpy as np

        _, tags, lengths = entity_scores.read(truth)
        wrong = np.repeat(np.arange(len(lengths)), lengths)[formulas.answers(answers) != tags]
        return np.asarray(np.bincount(wrong, minlength=len(lengths)) == 0)

    def predictions(self, answers: NDArray[np.float64]) -> list[Tagged]:
        """Return each word's tag."""
        return entity_answers.of_words(answers, self.labels)

    # What a user asks a bundle

    def reading(self, split: Split) -> dict[str, Any]:
        """Return how raw text is split: at blanks if the data's words have marks at their ends."""
        found = [word for text in split.texts[:1000] for word in words.of(text)]
        parted = sum(map(_holds_symbol, found))
        return {SPLITTER: words.OWN if parted <= MOST_SPLIT * len(found) else "blank"}

    def of_model(self, config: Mapping[str, Any]) -> Self:
        """Return the task with the splitter that a bundle's config.json names.

        Raises ModelError if it is of another version.
        """
        named = config.get(SPLITTER, self.splitter)
        if named not in words.SPLITTERS:
            raise ModelError(
                f"config.json: no splitter {named!r}: another version of rarefy made this bundle; "
                "run its recipe again"
            )
        return replace(self, splitter=named)

    def given(self, request: str) -> list[str]:
        """Return a text as the list of its words."""
        return words.of(request)

    def ask(self, given: Any) -> str:
        """Return a raw text, or a list of words, as words joined by spaces.

        Raises DataError if it is neither, or if a word is empty, has a blank in it or is not text.
        """
        if isinstance(given, list | tuple):
            return given_text(read_rows.read(given, None)[0])
        text = given_text(given)
        return words.joined([text[start:end] for start, end in self._places(text)])

    def reply(self, given: Sequence[Any], answers: NDArray[np.float64]) -> list[Entities]:
        """Return each text's entities, with the characters of the text as it was given.

        In a list of words, they are the characters of the words joined by spaces. Raises DataError
        if the answers are not one for each word.
        """
        tagged, found, at = self.predictions(answers), [], 0
        for one in given:
            text = one if isinstance(one, str) else words.joined(one)
            places = self._places(text) if isinstance(one, str) else words.split(text, "blank")
            own = tagged[at : at + len(places)]
            found.append(entity_answers.of_text(text, places, own, self.labels))
            at += len(places)
        if at != len(tagged):
            raise DataError(f"{plural(len(tagged), 'answer')} to {plural(at, 'word')}")
        return found

    def _places(self, text: str) -> list[tuple[int, int]]:
        return words.split(text, self.splitter)

    # Its rows in the report

    def said(self, answers: NDArray[np.float64], split: Split) -> list[str]:
        """Return each sentence with the entities that were found."""
        lengths = [len(words.of(text)) for text in split.texts]
        tags = entities.tagged(formulas.answers(answers), self.labels, lengths)
        return self._shown(split, tags)

    def wanted(self, split: Split) -> list[str]:
        """Return each sentence with its true entities."""
        return self._shown(split, [[self.labels[tag] for tag in row] for row in split.labels or ()])

    def _shown(self, split: Split, tags: Sequence[Sequence[str]]) -> list[str]:
        return [
            entity_answers.in_words(words.of(text), row, self.labels)
            for text, row in zip(split.texts, tags, strict=True)
        ]

    @classmethod
    def sureness(cls, answers: NDArray[np.float64], truth: Sequence[Any]) -> NDArray[np.float64]:
        """Return the least probability of a sentence's tags; 0 for an answer that is NaN."""
        import numpy as np

        _, _, lengths = entity_scores.read(truth)
        sure = super().sureness(answers, truth)
        starts = np.cumsum([0, *lengths[:-1]])
        return np.minimum.reduceat(sure, starts)


def _row(tokenizer: Any, window: Window) -> Row:
    return windows.inputs(window, tokenizer.model_input_names) | {FIRST: window.first}


def _holds_symbol(word: str) -> bool:
    """Return whether a word would be split, and not only into characters of a script."""
    parts = words.split(word, words.OWN)
    return len(parts) > 1 and not all(word[start].isalnum() for start, _ in parts)
