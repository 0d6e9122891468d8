"""Token classification: a tag for each word, such as entities, addresses and parts of speech.

A unit is a word; labels are tags, in the order of the model's outputs. A text of a split is its
words joined by single spaces. The truth is a list of sentences: ``{"tags": […]}`` with the index of
each word's tag; the first has ``names``, the tags' names.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from rarefy.pipeline.data.table import IGNORED, given_text, is_missing, is_unicode
from rarefy.pipeline.model.tokens import windows, words
from rarefy.pipeline.model.tokens.words import CUT_OFF, NO_WORD, Window
from rarefy.pipeline.tasks import bases
from rarefy.pipeline.tasks.bases import (
    SingleLabelPresenter,
    SingleLabelScorer,
    SoftmaxHead,
    SoftmaxObjective,
)
from rarefy.pipeline.tasks.shared import formulas, heads, tokenize
from rarefy.pipeline.tasks.shared.formulas import Formula
from rarefy.pipeline.tasks.task import (
    ALL_SPLITS,
    FIRST,
    WITHOUT_TEXT,
    Encoder,
    LabelTable,
    Reader,
    Row,
    Task,
    no_text,
)
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
"""The key of config.json that says how raw text becomes words; see
``rarefy.pipeline.model.tokens.words``."""
MOST_SPLIT = 0.1
"""A bundle splits raw text into words and symbols if that would split fewer words of its data."""


class TagReader(Reader):
    """Reads lists of tokens and tags, or text with spans."""

    self_labelled = ALL_SPLITS

    def target_columns(self, data: Data) -> tuple[str, ...]:
        """Return the column of the tags or spans. Raises DataError for a pair of texts."""
        if len(data.text_columns) > 1:
            raise DataError(f"data.text: {self.task.name} takes one column")
        return super().target_columns(data)

    def check_column(self, values: Iterable[Any], column: str, source: Source) -> None:
        """Raise DataError unless a column holds lists."""
        for value in values:
            if is_missing(value) or isinstance(value, list):
                continue
            raise DataError(
                f"{source.reference}: column {column!r} contains {str(value)[:40]!r}; "
                f"{self.task.name} needs a list of tags, one per token, or of spans"
            )

    def read_row(
        self, texts: tuple[Any, ...], values: tuple[Any, ...], source: Source, number: int
    ) -> tuple[tuple[str, ...], Any] | str:
        """Return the words joined by spaces, and their tags.

        Raises DataError, naming the row, if the tags or spans do not fit the words.
        """
        (text,) = texts
        if not text:
            return WITHOUT_TEXT
        if not isinstance(text, str | list):
            return no_text(text)
        target = self.target(values)
        if values and target is None:
            return "without a label"
        try:
            sentence, tags = read_rows.read(text, target)
        except DataError as error:
            raise DataError(f"{source.reference}: row {number}: {error}") from error
        if not sentence:
            return WITHOUT_TEXT
        if not is_unicode(sentence):
            return no_text(sentence)
        return (sentence,), tags

    def target(self, values: tuple[Any, ...]) -> Any | None:
        """Return the list of tags or spans."""
        if not values or is_missing(values[0]):
            return None
        return values[0]

    def labels(self, targets: Iterable[Any], source: Source) -> list[str]:
        """Return the tags in a stable order: ``O``, then by type."""
        try:
            return read_rows.names(targets)
        except DataError as error:
            raise DataError(f"{source.reference}: {error}") from error

    def index_targets(
        self, targets: Sequence[Any], names: Sequence[str], source: Source
    ) -> list[Any]:
        """Return each row's tags as indices into the labels."""
        place = bases.label_places(set().union(*targets), names, source, "tag")
        return [[place[tag] for tag in tags] for tags in targets]

    def count_labels(self, targets: Iterable[Any], names: Sequence[str]) -> dict[str, int]:
        """Return the number of words with each tag; ``I-`` only if it occurs."""
        counts: Counter[str] = Counter()
        for tags in targets:
            counts.update(tags)
        return {tag: counts[tag] for tag in names if counts[tag] or not tag.startswith("I-")}

    def count_marked(self, indices: Iterable[Any], names: Sequence[str]) -> dict[str, int]:
        """Return the number of entities of each type."""
        scheme = entities.scheme_of(names)
        counts = Counter[str]()
        for row in indices:
            tags = [names[index] for index in row]
            counts.update(span.type for span in entities.spans(tags, scheme))
        return {kind: counts[kind] for kind in entities.types(names)}


class WordEncoder(Encoder):
    """Makes a unit of every word, whatever the tokenizer.

    ``first`` of a tokenized row has the place of each word's token, or ``CUT_OFF``.
    """

    unit_per_row: ClassVar[bool] = False
    of_words: ClassVar[bool] = True
    no_windows: ClassVar[str | None] = "it reads long texts in windows anyway"

    def encode(
        self, tokenizer: Any, split: Split, rows: Sequence[int] | None = None
    ) -> list[dict[str, list[int]]]:
        """Tokenize rows (default: all), cut off at ``max_length``, unpadded: one dict per row."""
        if rows is None:
            rows = range(len(split))
        texts = [split.texts[row] for row in rows]
        starts = words.beginnings(tokenizer.backend_tokenizer, texts, self.task.max_length)
        return [_row(tokenizer, start) for start in starts]

    def lengths(self, tokenizer: Any, split: Split, rows: Sequence[int]) -> list[int]:
        """Return the number of tokens in each row before it is cut off or read in windows."""
        return tokenize.counts(tokenizer, [split.texts[row] for row in rows])

    def examples(self, tokenizer: Any, split: Split, rows: Sequence[int]) -> list[Row]:
        """Return rows with each word's tag as ``labels``: -100 if it has none or is cut off."""
        examples = []
        for number, row in zip(rows, self.encode(tokenizer, split, rows), strict=True):
            tags = _tags(split, number, self.count_units(row))
            places = row[FIRST]
            targets = [
                IGNORED if place == CUT_OFF else tag
                for tag, place in zip(tags, places, strict=True)
            ]
            examples.append(row | {"labels": targets})
        return examples

    def training_rows(self, tokenizer: Any, split: Split, rows: Sequence[int]) -> list[Row]:
        """Return all windows of rows, with the tags of the words that are predicted in each."""
        examples = []
        texts = [split.texts[row] for row in rows]
        for number, parts in zip(rows, self._windows(tokenizer, texts), strict=True):
            count = sum(len(part.first) for part in parts)
            tags = iter(_tags(split, number, count))
            for part in parts:
                targets = list(itertools.islice(tags, len(part.first)))
                examples.append(_row(tokenizer, part) | {"labels": targets})
        return examples

    def count_units(self, row: Row) -> int:
        """Return the number of words of a tokenized row."""
        return len(row[FIRST])

    def encode_requests(self, tokenizer: Any, split: Split) -> list[Row]:
        """Return the windows of all rows, one dict per window."""
        rows = []
        for parts in self._windows(tokenizer, split.texts):
            rows += [_row(tokenizer, part) for part in parts]
        return rows

    def _windows(self, tokenizer: Any, texts: Sequence[str]) -> Iterable[Sequence[Window]]:
        return words.windows(tokenizer.backend_tokenizer, texts, self.task.max_length)


class TagHead(SoftmaxHead):
    """The head of a token classifier, with one logit for each tag."""

    def labels_of(self, config: Mapping[str, Any]) -> list[str] | None:
        """Return the tags of a token classifier."""
        return heads.labels(config, heads.TOKENS, fewest=2)

    def load(self, directory: str) -> Any:
        """Return the token classifier that transformers builds for the body in ``directory``.

        An existing head is kept if it has the same tags in the same order. Raises ModelError if the
        model is incomplete or transformers has no token classifier for it.
        """
        return heads.load(Path(directory), "token-classification", self.task.labels, None)

    def select(self, output: Any, batch: Mapping[str, Tensor], config: Any) -> Tensor:
        """Return the logits at each word's token, (words, tags); NaN for a word that is cut off."""
        import torch

        first = batch[FIRST]
        row, unit = torch.nonzero(first != NO_WORD, as_tuple=True)
        place = first[row, unit]
        logits: Tensor = output.logits[row, place.clamp(min=0)]
        is_cut = (place == CUT_OFF)[:, None]
        return logits.masked_fill(is_cut, float("nan"))

    def settings(self, config: Mapping[str, Any]) -> dict[str, Any]:
        """Return the splitter that a bundle's config.json names.

        Raises ModelError if it is of another version.
        """
        name = config.get(SPLITTER, words.OWN)
        if name not in words.SPLITTERS:
            raise ModelError(
                f"config.json: no splitter {name!r}: another version of rarefy made this bundle; "
                "run its recipe again"
            )
        return {SPLITTER: name}


class TagObjective(SoftmaxObjective):
    """Cross-entropy with the tags of words, or with a teacher's softened probabilities."""

    def loss(self, outputs: Tensor, batch: Mapping[str, Tensor], *, total: bool) -> Tensor:
        """Return the cross-entropy of logits (words, tags) with the tags."""
        from rarefy.pipeline.tasks.shared import losses

        targets = batch["labels"][batch[FIRST] != NO_WORD]
        has_tag = targets != IGNORED
        return losses.hard(outputs[has_tag], targets[has_tag], total=total)

    def imitation(self, outputs: Tensor, goal: Tensor, temperature: float) -> Tensor:
        """Return the divergence from the teacher's softened probabilities of words both read."""
        from rarefy.pipeline.tasks.shared import losses

        both = ~(outputs.isnan() | goal.isnan()).any(dim=-1)
        if not both.any():
            return outputs[both].sum()
        return losses.soft(outputs[both], goal[both], temperature)

    def divergence(self, outputs: Tensor, other: Tensor) -> Tensor:
        """Return the Kullback-Leibler divergence of each word; 0 if it is cut off."""
        is_cut = outputs.isnan().all(dim=-1) & other.isnan().all(dim=-1)
        return super().divergence(outputs, other).masked_fill(is_cut, 0.0)

    def targets(self, predictions: NDArray[np.float64], split: Split) -> list[list[int]]:
        """Return the index of each word's most probable tag, sentence by sentence."""
        indices = iter(formulas.answers(predictions).tolist())
        lengths = [len(words.of(text)) for text in split.texts]
        return [list(itertools.islice(indices, length)) for length in lengths]


class EntityScorer(SingleLabelScorer):
    """Scores entities and words; a block is a sentence."""

    scores: ClassVar[Mapping[str, Formula]] = entity_scores.SCORES
    trivial = "the same tag for every word"

    def floor(self, truth: Sequence[Any]) -> float | None:
        """Return the entity F1 of the best prediction that gives every word the same tag."""
        return entity_scores.floor(truth)

    def truth(self, split: Split) -> list[Any]:
        """Return each sentence's tags, and with the first the names of all tags."""
        rows: list[dict[str, Any]] = [{TAGS: list(tags)} for tags in split.labels or ()]
        if rows:
            rows[0][NAMES] = list(self.task.labels)
        return rows

    def is_uniform(self, truth: Sequence[Any]) -> bool:
        """Return whether all words have the same tag."""
        return len(set().union(*(row[TAGS] for row in truth))) < 2

    def block_name(self, truth: Sequence[Any]) -> str:
        """Return ``sentence``."""
        return "sentence"

    def part(self, truth: Sequence[Any], blocks: Sequence[int]) -> list[Any]:
        """Return the truth of some sentences, with the names of all tags at the first."""
        rows = [{TAGS: truth[block][TAGS]} for block in blocks]
        if rows:
            rows[0][NAMES] = truth[0][NAMES]
        return rows

    def block_of_unit(self, truth: Sequence[Any]) -> NDArray[np.int64] | None:
        """Return the number of each word's sentence."""
        import numpy as np

        lengths = [len(row[TAGS]) for row in truth]
        return np.repeat(np.arange(len(lengths)), lengths)

    def correct(self, predictions: NDArray[np.float64], truth: Sequence[Any]) -> NDArray[np.bool_]:
        """Return for each sentence whether every word has the true tag."""
        import numpy as np

        _, tags, lengths = entity_scores.read(truth)
        sentence = np.repeat(np.arange(len(lengths)), lengths)
        wrong = sentence[formulas.answers(predictions) != tags]
        return np.asarray(np.bincount(wrong, minlength=len(lengths)) == 0)


class EntityPresenter(SingleLabelPresenter):
    """Shows entities, with their characters in the text that a user wrote."""

    answers_like: ClassVar[str] = "token-classification"
    table_rows: ClassVar[str] = "entity"

    def answers(self, predictions: NDArray[np.float64]) -> list[Tagged]:
        """Return each word's tag."""
        return entity_answers.of_words(predictions, self.task.labels)

    def bundle_settings(self, split: Split) -> dict[str, Any]:
        """Return how raw text is split: at blanks if the data's words have marks at their ends."""
        total = with_symbol = 0
        for text in split.texts[:1000]:
            sentence = words.of(text)
            total += len(sentence)
            with_symbol += sum(map(_holds_symbol, sentence))
        splitter = words.OWN if with_symbol <= MOST_SPLIT * total else "blank"
        return {SPLITTER: splitter}

    def preprocess(self, text: Any) -> str:
        """Return a raw text, or a list of words, as words joined by spaces.

        Raises DataError if it is neither, or if a word is empty, has a blank in it or is not text.
        """
        if isinstance(text, list | tuple):
            sentence, _ = read_rows.read(text, None)
            return given_text(sentence)
        text = given_text(text)
        return words.joined([text[start:end] for start, end in self._places(text)])

    def user_text(self, request: str) -> list[str]:
        """Return a text as the list of its words."""
        return words.of(request)

    def postprocess(self, texts: Sequence[Any], predictions: NDArray[np.float64]) -> list[Entities]:
        """Return each text's entities, with the characters of the text as it was written.

        In a list of words, they are the characters of the words joined by spaces. Raises DataError
        if the predictions are not one for each word.
        """
        tagged = self.answers(predictions)
        answers, at = [], 0
        for text in texts:
            if isinstance(text, str):
                places = self._places(text)
            else:
                text = words.joined(text)
                places = words.split(text, "blank")
            of_text = tagged[at : at + len(places)]
            answers.append(entity_answers.of_text(text, places, of_text, self.task.labels))
            at += len(places)
        if at != len(tagged):
            raise DataError(f"{plural(len(tagged), 'prediction')} for {plural(at, 'word')}")
        return answers

    def _places(self, text: str) -> list[tuple[int, int]]:
        """Return the first character of each word and the one after its last."""
        return words.split(text, self.task.settings.get(SPLITTER, words.OWN))

    def describe_prediction(self, predictions: NDArray[np.float64], split: Split) -> list[str]:
        """Return each sentence with the entities that are predicted."""
        lengths = [len(words.of(text)) for text in split.texts]
        indices = formulas.answers(predictions)
        return self._in_words(split, entities.tagged(indices, self.task.labels, lengths))

    def describe_target(self, split: Split) -> list[str]:
        """Return each sentence with its true entities."""
        names = self.task.labels
        tags = [[names[index] for index in row] for row in split.labels or ()]
        return self._in_words(split, tags)

    def _in_words(self, split: Split, tags: Sequence[Sequence[str]]) -> list[str]:
        names = self.task.labels
        return [
            entity_answers.in_words(words.of(text), row, names)
            for text, row in zip(split.texts, tags, strict=True)
        ]

    def confidence(
        self, predictions: NDArray[np.float64], truth: Sequence[Any]
    ) -> NDArray[np.float64]:
        """Return the least probability of a sentence's tags; 0 for a prediction that is NaN."""
        import numpy as np

        _, _, lengths = entity_scores.read(truth)
        of_words = super().confidence(predictions, truth)
        starts = np.cumsum([0, *lengths[:-1]])
        return np.minimum.reduceat(of_words, starts)

    def label_table(
        self, tables: Sequence[NDArray[np.float64]], truth: Sequence[Any], labels: Sequence[str]
    ) -> LabelTable:
        """Return the types of all entities that the truth or a model has."""
        return entity_scores.label_table(tables, truth)

    def label_names(self, labels: Sequence[str]) -> list[str]:
        """Return the types of entities that the tags have."""
        return entities.types(labels)


def _tags(split: Split, row: int, count: int) -> list[int]:
    """Return the tags of a row's words; -100 for each of ``count`` words if it has none."""
    if not split.labels:
        return [IGNORED] * count
    return list(split.labels[row])


def _row(tokenizer: Any, window: Window) -> Row:
    return windows.inputs(window, tokenizer.model_input_names) | {FIRST: window.first}


def _holds_symbol(word: str) -> bool:
    """Return whether a word would be split, and not only into characters of a script."""
    parts = words.split(word, words.OWN)
    return len(parts) > 1 and not all(word[start].isalnum() for start, _ in parts)


TOKEN_CLASSIFICATION = Task(
    name="token-classification",
    reader=TagReader(),
    encoder=WordEncoder(),
    head=TagHead(),
    objective=TagObjective(),
    scorer=EntityScorer(),
    presenter=EntityPresenter(),
)
