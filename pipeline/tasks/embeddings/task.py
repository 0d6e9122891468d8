"""Sentence embeddings: texts as vectors, for a search or for the similarity of pairs."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from rarefy.pipeline.data.values import as_number, as_text, is_missing
from rarefy.pipeline.model.architectures import parts
from rarefy.pipeline.model.pretrained import pooling
from rarefy.pipeline.tasks.embeddings import contrastive as lessons
from rarefy.pipeline.tasks.embeddings.neighbours import Neighbours
from rarefy.pipeline.tasks.embeddings.predictions import Embedding
from rarefy.pipeline.tasks.shared import tokenize
from rarefy.pipeline.tasks.shared.formulas import Formula
from rarefy.pipeline.tasks.task import NOT_A_NUMBER, Row, Task
from rarefy.pipeline.terms.errors import DataError, ModelError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor

    from rarefy.pipeline.data.split import Split
    from rarefy.pipeline.data.table import Source
    from rarefy.pipeline.terms.recipe_parts import Data

SAME_COSINE = 0.05
"""The largest difference of two models' cosines of a pair that agree."""
NEAR_PLACE = 0.1
"""The share of all pairs by which a right pair's place may be wrong."""
ALIKE = 0.9
"""The least cosine of a text's embeddings before and after rounding."""


@dataclass(frozen=True)
class SentenceEmbeddings(Task):
    """A body without a head, whose token embeddings are pooled as its config.json says.

    The data has one of three forms. With ``data.corpus``, rows are a query and what it should find;
    they are scored by a search over the corpus. Without, rows are two texts and the score of their
    similarity; or texts alone (see ``Neighbours``). A unit is a text: a query, a document, a row's.
    """

    name: ClassVar[str] = "sentence-embeddings"
    version: ClassVar[int] = 3
    output: ClassVar[str] = "sentence_embedding"
    body_only: ClassVar[bool] = True
    searches: ClassVar[bool] = True
    singly: ClassVar[bool] = True
    smooths: ClassVar[bool] = False
    correlates: ClassVar[bool] = True
    trivial: ClassVar[str] = "a search by words (BM25), or of equal cosines"
    answers_itself: ClassVar[bool] = True
    answered: ClassVar[Collection[str]] = ("eval",)  # nothing reads the neighbours of other texts
    own_form: ClassVar[type[Any] | None] = Neighbours

    # The rows of a file

    @classmethod
    def target_columns(cls, data: Data) -> tuple[str, ...]:
        """Return the column of scores; empty for a search and for texts alone."""
        if len(data.text_columns) != 2:
            if data.label_columns:
                raise DataError(
                    f"data.text: {cls.name} takes two columns: a query and what it should find, or "
                    "two texts with the score of their similarity; texts alone need label: null"
                )
            if data.search_option:
                raise DataError(
                    f"data.{data.search_option}: texts alone search nothing; a search needs two "
                    "columns in data.text: a query and what it should find"
                )
            return ()
        if data.corpus is None and not data.label_columns:
            raise DataError(
                "data.corpus is missing: with label: null, a row is a query and what it should "
                "find in a corpus, a file with columns id and text; for texts alone, name one "
                "column in data.text"
            )
        if data.label_columns and data.search_option:
            raise DataError(
                f"data.{data.search_option}: pairs with a score search nothing; write label: null"
            )
        return super().target_columns(data)

    @classmethod
    def bare(cls, data: Data) -> bool:
        """Return whether the rows are texts alone."""
        return len(data.text_columns) == 1 and super().bare(data)

    @classmethod
    def check_column(cls, values: Iterable[Any], column: str, source: Source) -> None:
        """Raise DataError if a score is not a finite number."""
        for value in values:
            if not is_missing(value) and as_number(value) is None:
                raise DataError(
                    f"{source.reference}: column {column!r} contains {str(value)[:40]!r}; "
                    f"{cls.name} needs a number, the similarity of the two texts"
                )

    @classmethod
    def read_row(
        cls, texts: tuple[Any, ...], values: tuple[Any, ...], source: Source, number: int
    ) -> tuple[tuple[str, ...], Any] | str:
        """Return a row's texts and score; in a search, a document's id may be a number."""
        searching = not values and len(texts) == 2 and source.name != "unlabelled"
        if searching and is_missing(texts[1]) and not is_missing(texts[0]):
            raise DataError(
                f"{source.reference}: row {number}: the query {str(texts[0])[:40]!r} has nothing "
                "that it should find"
            )
        if searching and source.name == "eval":
            texts = (texts[0], as_text(texts[1]))
        return super().read_row(texts, values, source, number)

    @classmethod
    def target(cls, values: tuple[Any, ...]) -> float | None:
        """Return the score of a pair."""
        return None if is_missing(values[0]) else as_number(values[0])

    @classmethod
    def indexed(cls, targets: Sequence[Any], names: Sequence[str], source: Source) -> list[Any]:
        """Return the scores of pairs. Raises DataError if they are all the same."""
        if len(set(targets)) < 2:
            raise DataError(f"{source.reference}: all pairs have the same score")
        return list(targets)

    @classmethod
    def head(cls, config: Mapping[str, Any]) -> list[str] | None:
        """Return no labels: every body answers without a head."""
        return []

    # Rows as tokens

    def encode(
        self, tokenizer: Any, split: Split, rows: Sequence[int] | None = None
    ) -> list[dict[str, list[int]]]:
        """Tokenize all texts of rows, each for itself: first the rows' first texts."""
        chosen = range(len(split)) if rows is None else rows
        return self._tokens(tokenizer, _texts(split, chosen))

    def lengths(self, tokenizer: Any, split: Split, rows: Sequence[int]) -> list[int]:
        """Return the number of tokens in the longest text of each row."""
        counts = tokenize.counts(tokenizer, _texts(split, rows))
        return [max(counts[at :: len(rows)]) for at in range(len(rows))]

    def examples(self, tokenizer: Any, split: Split, rows: Sequence[int]) -> list[Row]:
        """Return one row for each text, with those of negatives: a teacher embeds each alone."""
        wrong = [text for row in rows for text in lessons.negatives(split, row)]
        made = self._tokens(tokenizer, [*_texts(split, rows), *wrong])
        return [row | {"labels": lessons.UNSCORED} for row in made]

    def lessons(self, tokenizer: Any, split: Split, rows: Sequence[int]) -> list[Row]:
        """Return rows of a text, a second one and, if given, a negative; see ``lessons.rows``."""
        return lessons.rows(self._tokens, tokenizer, split, rows)

    def _tokens(self, tokenizer: Any, texts: Sequence[str]) -> list[Row]:
        return tokenize.rows(tokenizer, list(texts), None, self.max_length)

    # Its model

    def load_model(self, directory: str) -> Any:
        """Return the body in ``directory``, without any head, pooled as it says.

        Raises ModelError if it is incomplete, IntegrityError if it is pickled or truncated.
        """
        from rarefy.pipeline.model.pretrained import load as pretrained

        path = Path(directory)
        body = pretrained.load(path, pretrained.weight_files(path)).model.base_model
        pooling.note(body.config, pooling.read(path))
        return body.eval()

    def check_head(self, network: Any, where: str) -> None:
        """Raise ModelError if a model has a head."""
        plain = parts.unwrapped(network)
        if plain.base_model is not plain:
            raise ModelError(
                f"{where}: {type(plain).__name__} has a head; {self.name} needs a body without"
            )

    def width_of(self, model: Any) -> int:
        """Return the length of an embedding."""
        return int(model.config.hidden_size)

    def raw(self, output: Any, inputs: Mapping[str, Tensor], config: Any) -> Tensor:
        """Return the embeddings of a batch, pooled as the model's config says: texts × width."""
        from rarefy.pipeline.tasks.embeddings import similarity

        given = getattr(config, pooling.KEY, None)
        how = pooling.Pooling() if given is None else pooling.of_config(given)
        return similarity.pooled(output.last_hidden_state, inputs["attention_mask"], how)

    # Its losses

    def loss(
        self, outputs: Tensor, batch: Mapping[str, Tensor], *, total: bool, smoothing: float = 0.0
    ) -> Tensor:
        """Return 0, because a text alone has no target; ``total``: what its gradients tell.

        See ``similarity.projected``.
        """
        from rarefy.pipeline.tasks.embeddings import similarity

        if not total:
            return outputs.sum() * 0
        return similarity.projected(outputs, int(batch["input_ids"].sum()))

    def training(self, smoothing: float = 0.0) -> Callable[[Any, dict[str, Tensor]], Tensor]:
        """Return the loss of ``lessons``: by the scores of pairs, or by a batch's documents."""
        return partial(lessons.loss, self.outputs)

    def imitation(self, outputs: Tensor, goal: Tensor, temperature: float) -> Tensor:
        """Return how far embeddings are from the teacher's; see ``similarity.imitation``."""
        from rarefy.pipeline.tasks.embeddings import similarity

        return similarity.imitation(outputs, goal)

    def fitting(self, outputs: Tensor, width: int) -> Tensor | None:
        """Return what brings a teacher's embeddings to a width; see ``similarity.fitting``."""
        from rarefy.pipeline.tasks.embeddings import similarity

        return similarity.fitting(outputs, width)

    def divergence(self, outputs: Tensor, other: Tensor) -> Tensor:
        """Return 1 − the cosine of each text's embeddings."""
        from torch.nn import functional

        return 1 - functional.cosine_similarity(outputs.double(), other.double())

    # Its answers

    @classmethod
    def scored(cls, data: Data) -> Collection[str]:
        """Return the names of ``formulas``."""
        return _scores(data.corpus is not None)

    @classmethod
    def formulas(cls, truth: Sequence[Any]) -> Mapping[str, Formula]:
        """Return nDCG@10, recall@10 and MRR@10 of a search; Spearman and Pearson of pairs."""
        return _scores(_is_search(truth))

    def requests(self, split: Split) -> tuple[Sequence[str], Sequence[str] | None]:
        """Return the queries and then the corpus, or each text of the pairs once."""
        if split.corpus is not None:
            return [*split.texts, *split.corpus], None
        return list(dict.fromkeys([*split.texts, *(split.pairs or ())])), None

    def asked(self, tokenizer: Any, split: Split) -> list[Row]:
        """Return the tokenized ``requests`` of a split."""
        return self._tokens(tokenizer, self.requests(split)[0])

    def truth(self, split: Split) -> list[Any]:
        """Return the pairs' scores, or what each query should find (see ``search.truth``)."""
        from rarefy.pipeline.tasks.embeddings import search

        if split.corpus is None:
            return super().truth(split)
        return search.truth(split.texts, split.corpus, split.labels or ())

    @classmethod
    def block(cls, truth: Sequence[Any]) -> str:
        """Return ``query``, or ``pair`` if pairs are scored."""
        return "query" if _is_search(truth) else "pair"

    @classmethod
    def floor(cls, truth: Sequence[Any]) -> float | None:
        """Return BM25's nDCG@10 of a search; of pairs 0, the correlation of equal cosines."""
        by_words = cls.beside(truth)
        return by_words[1] if by_words else 0.0

    @classmethod
    def beside(cls, truth: Sequence[Any]) -> tuple[str, float] | None:
        """Return BM25's nDCG@10 of a search."""
        if not _is_search(truth):
            return None
        return "BM25", float(sum(query["bm25"] for query in truth) / len(truth))

    def kept(self, answers: NDArray[np.float64], split: Split) -> NDArray[np.float64]:
        """Return what each query finds (see ``scoring.search``), or each pair's cosine.

        The embeddings of a corpus are not kept: 10,000 documents are 30 MB for each model.
        """
        from rarefy.pipeline.tasks.embeddings import scores as embeddings
        from rarefy.pipeline.tasks.embeddings import search

        if split.corpus is not None:
            queries = len(split.texts)
            first, text = search.distinct(split.corpus)
            documents = answers[queries:][first]
            return search.by_cosine(answers[:queries], documents, split.labels or (), text)
        place = {text: at for at, text in enumerate(self.requests(split)[0])}
        sides = [[place[text] for text in texts] for texts in (split.texts, split.pairs or ())]
        return embeddings.cosines(answers[sides[0]], answers[sides[1]])[:, None]

    @classmethod
    def right(cls, answers: NDArray[np.float64], truth: Sequence[Any]) -> NDArray[np.bool_]:
        """Return whether a query finds first what it should, or a pair is about in its place.

        That is: its place among all pairs, in the order of cosines, is at most a tenth of their
        number from its place in the order of the scores. Nothing is right if an answer is NaN.
        """
        import numpy as np

        from rarefy.pipeline.tasks.embeddings import search
        from rarefy.pipeline.tasks.regression import scores as regression

        if _is_search(truth):
            return search.first_is_right(answers) & np.isfinite(answers).all(axis=1)
        if not np.isfinite(answers).all():
            return np.zeros(len(answers), bool)
        one = np.ones((1, len(truth)))
        places = [
            regression.midranks(values)(one)[0]
            for values in (answers[:, 0], np.asarray(truth, dtype=float))
        ]
        return np.asarray(np.abs(places[0] - places[1]) <= NEAR_PLACE * len(truth))

    @classmethod
    def same(cls, ours: NDArray[np.float64], theirs: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Return whether two models agree.

        In a search: at least half of the first ten documents are the same. On pairs: the cosines
        differ by at most 0.05.
        """
        import numpy as np

        from rarefy.pipeline.tasks.embeddings import search

        if ours.shape[1] > 1:
            return np.asarray(search.overlap(ours, theirs) >= search.SAME_AT_LEAST)
        return np.asarray(np.abs(ours - theirs)[:, 0] <= SAME_COSINE)

    @classmethod
    def alike(cls, exact: NDArray[np.float64], rough: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Return whether the cosine of two embeddings of a text is at least 0.9."""
        import numpy as np

        from rarefy.pipeline.tasks.embeddings import scores as embeddings

        return np.asarray(embeddings.cosines(exact, rough) >= ALIKE)

    @classmethod
    def decided(cls, answers: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Return that no embedding may be changed much by rounding."""
        import numpy as np

        return np.ones(len(answers), bool)

    def predictions(self, answers: NDArray[np.float64]) -> list[Embedding]:
        """Return each text's embedding."""
        return [Embedding(row.tolist()) for row in answers]

    # Its rows in the report

    def said(self, answers: NDArray[np.float64], split: Split) -> list[str]:
        """Return the first document that each query finds, or each pair's cosine."""
        import numpy as np

        if split.corpus is None:
            return [f"{value:.3f}" for value in answers[:, 0]]
        first = answers[:, 0]
        return [split.corpus[int(place)] if np.isfinite(place) else NOT_A_NUMBER for place in first]

    def wanted(self, split: Split) -> list[str]:
        """Return the documents that each query should find, or each pair's score."""
        if split.corpus is None:
            return [f"{score:g}" for score in split.labels or ()]
        return [
            " | ".join(split.corpus[place] for place in places) for places in split.labels or ()
        ]


def _texts(split: Split, rows: Sequence[int]) -> list[str]:
    """Return the first texts of rows, then their second ones if there are any."""
    columns = [split.texts] if split.pairs is None else [split.texts, split.pairs]
    return [column[row] for column in columns for row in rows]


def _is_search(truth: Sequence[Any]) -> bool:
    return bool(len(truth)) and isinstance(truth[0], Mapping)


def _scores(searches: bool) -> Mapping[str, Formula]:
    from rarefy.pipeline.tasks.embeddings import search
    from rarefy.pipeline.tasks.regression import scores as regression

    pairs = {"spearman": regression.spearman, "pearson": regression.pearson}
    return search.SCORES if searches else pairs
