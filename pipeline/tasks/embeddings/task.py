"""Sentence embeddings: texts as vectors, for a search or for the similarity of pairs.

The data has one of three forms. With ``data.corpus``, rows are a query and what it should find;
they are scored by a search over the corpus. Without, rows are two texts and the score of their
similarity; or texts alone (see ``embedding_neighbours``). A unit is a text: a query, a document, a
row's.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from rarefy.pipeline.data.table import as_number, as_text, is_missing
from rarefy.pipeline.model import pooling
from rarefy.pipeline.model.architectures import parts
from rarefy.pipeline.tasks.embeddings import contrastive, neighbours
from rarefy.pipeline.tasks.embeddings.neighbours import NeighbourPresenter, NeighbourScorer
from rarefy.pipeline.tasks.embeddings.predictions import EmbeddingPresenter
from rarefy.pipeline.tasks.shared import tokenize
from rarefy.pipeline.tasks.shared.formulas import Formula
from rarefy.pipeline.tasks.task import (
    NOT_A_NUMBER,
    Encoder,
    Head,
    LossFunction,
    Objective,
    Reader,
    Requests,
    Rounding,
    Row,
    Scorer,
    Task,
)
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
"""The share of all pairs by which a correct pair's place may be wrong."""
ALIKE = 0.9
"""The least cosine of a text's embeddings before and after rounding."""


class PairReader(Reader):
    """Reads queries with what they should find, or pairs with a score, or texts alone."""

    searches: ClassVar[bool] = True
    singly: ClassVar[bool] = True
    correlates: ClassVar[bool] = True
    self_labelled: ClassVar[Collection[str]] = ("eval",)
    """Nothing reads the neighbours of other texts."""

    def lacks_labels(self, data: Data) -> bool:
        """Return whether the rows are texts alone."""
        return len(data.text_columns) == 1 and super().lacks_labels(data)

    def target_columns(self, data: Data) -> tuple[str, ...]:
        """Return the column of scores; empty for a search and for texts alone."""
        if len(data.text_columns) != 2:
            self._check_texts_alone(data)
            return ()
        if data.corpus is None and not data.label_columns:
            raise DataError(
                "data.corpus is missing: with label: null, a row is a query and what it should "
                "find in a corpus, a file with columns id and text; for texts alone, name one "
                "column in data.text"
            )
        if data.label_columns and data.search_option:
            raise DataError(
                f"data.{data.search_option}: cannot be combined with scored pairs; for a "
                "search, write label: null"
            )
        return super().target_columns(data)

    def _check_texts_alone(self, data: Data) -> None:
        if data.label_columns:
            raise DataError(
                f"data.text: {self.task.name} takes two columns: a query and what it should find, "
                "or two texts with the score of their similarity; texts alone need label: null"
            )
        if data.search_option:
            raise DataError(
                f"data.{data.search_option}: not used by single texts; a search needs two "
                "columns in data.text: a query and what it should find"
            )

    def check_column(self, values: Iterable[Any], column: str, source: Source) -> None:
        """Raise DataError if a score is not a finite number."""
        for value in values:
            if is_missing(value) or as_number(value) is not None:
                continue
            raise DataError(
                f"{source.reference}: column {column!r} contains {str(value)[:40]!r}; "
                f"{self.task.name} needs a number, the similarity of the two texts"
            )

    def read_row(
        self, texts: tuple[Any, ...], values: tuple[Any, ...], source: Source, number: int
    ) -> tuple[tuple[str, ...], Any] | str:
        """Return a row's texts and score; in a search, a document's id may be a number."""
        searching = not values and len(texts) == 2 and source.name != "unlabelled"
        if searching and is_missing(texts[1]) and not is_missing(texts[0]):
            raise DataError(
                f"{source.reference}: row {number}: the query {str(texts[0])[:40]!r} has no text "
                "to find"
            )
        if searching and source.name == "eval":
            texts = (texts[0], as_text(texts[1]))
        return super().read_row(texts, values, source, number)

    def target(self, values: tuple[Any, ...]) -> float | None:
        """Return the score of a pair."""
        if is_missing(values[0]):
            return None
        return as_number(values[0])

    def index_targets(
        self, targets: Sequence[Any], names: Sequence[str], source: Source
    ) -> list[Any]:
        """Return the scores of pairs. Raises DataError if they are all the same."""
        if len(set(targets)) < 2:
            raise DataError(f"{source.reference}: all pairs have the same score")
        return list(targets)


class TextReader(PairReader):
    """Reads texts alone, of which each needs a neighbour."""

    fewest: ClassVar[int] = 2


class TextEncoder(Encoder):
    """Tokenizes each text of a row for itself."""

    def encode(
        self, tokenizer: Any, split: Split, rows: Sequence[int] | None = None
    ) -> list[dict[str, list[int]]]:
        """Tokenize all texts of rows, each for itself: first the rows' first texts."""
        if rows is None:
            rows = range(len(split))
        return self._tokens(tokenizer, _texts(split, rows))

    def lengths(self, tokenizer: Any, split: Split, rows: Sequence[int]) -> list[int]:
        """Return the number of tokens in the longest text of each row."""
        counts = tokenize.counts(tokenizer, _texts(split, rows))
        return [max(counts[at :: len(rows)]) for at in range(len(rows))]

    def examples(self, tokenizer: Any, split: Split, rows: Sequence[int]) -> list[Row]:
        """Return one row for each text, with those of negatives: a teacher embeds each alone."""
        texts = _texts(split, rows)
        for row in rows:
            texts += contrastive.negatives(split, row)
        unscored = {"labels": contrastive.UNSCORED}
        return [inputs | unscored for inputs in self._tokens(tokenizer, texts)]

    def training_rows(self, tokenizer: Any, split: Split, rows: Sequence[int]) -> list[Row]:
        """Return rows of a text, a second and, if given, a negative; see ``embedding_lessons``."""
        return contrastive.rows(self._tokens, tokenizer, split, rows)

    def requests(self, split: Split) -> Requests:
        """Return the queries and then the corpus, or each text of the pairs once."""
        if split.corpus is not None:
            return [*split.texts, *split.corpus], None
        texts = [*split.texts, *(split.pairs or ())]
        return list(dict.fromkeys(texts)), None

    def encode_requests(self, tokenizer: Any, split: Split) -> list[Row]:
        """Return the tokenized ``requests`` of a split."""
        texts, _ = self.requests(split)
        return self._tokens(tokenizer, texts)

    def _tokens(self, tokenizer: Any, texts: Sequence[str]) -> list[Row]:
        return tokenize.rows(tokenizer, list(texts), None, self.task.max_length)


class PoolingHead(Head):
    """No head: a body whose token embeddings are pooled as its config.json says."""

    output_name: ClassVar[str] = "sentence_embedding"
    body_only: ClassVar[bool] = True

    def labels_of(self, config: Mapping[str, Any]) -> list[str] | None:
        """Return no labels: every body predicts without a head."""
        return []

    def load(self, directory: str) -> Any:
        """Return the body in ``directory``, without any head, pooled as it says.

        Raises ModelError if it is incomplete, IntegrityError if it is pickled or truncated.
        """
        from rarefy.pipeline.model import pretrained, safe_loading

        path = Path(directory)
        body = pretrained.load(path, safe_loading.weight_files(path)).model.base_model
        pooling.note(body.config, pooling.read(path))
        return body.eval()

    def check(self, network: Any, where: str) -> None:
        """Raise ModelError if a model has a head."""
        plain = parts.unwrapped(network)
        if plain.base_model is not plain:
            raise ModelError(
                f"{where}: {type(plain).__name__} has a head; {self.task.name} needs a body without"
            )

    def width(self, model: Any) -> int:
        """Return the length of an embedding."""
        return int(model.config.hidden_size)

    def graph_output(self, output: Any, inputs: Mapping[str, Tensor], config: Any) -> Tensor:
        """Return the embeddings of a batch, pooled as the model's config says: (texts, width)."""
        from rarefy.pipeline.tasks.embeddings import similarity

        noted = getattr(config, pooling.KEY, None)
        how = pooling.Pooling() if noted is None else pooling.of_config(noted)
        return similarity.pooled(output.last_hidden_state, inputs["attention_mask"], how)

    def rounding(self, exact: NDArray[np.float64], rough: NDArray[np.float64]) -> Rounding:
        """Compare embeddings: the same if their cosine is at least 0.9, and all are decided."""
        import numpy as np

        from rarefy.pipeline.tasks.embeddings import scores as embeddings

        same = np.asarray(embeddings.cosines(exact, rough) >= ALIKE)
        return Rounding(exact, rough, same, np.ones(len(exact), bool))


class EmbeddingObjective(Objective):
    """Losses of embeddings: by documents or scores without a teacher, or those of a teacher."""

    of_labels: ClassVar[bool] = False

    def loss(self, outputs: Tensor, batch: Mapping[str, Tensor], *, total: bool) -> Tensor:
        """Return 0, because a text alone has no target; ``total``: what its gradients tell.

        See ``similarity.projected``.
        """
        from rarefy.pipeline.tasks.embeddings import similarity

        if not total:
            return outputs.sum() * 0
        seed = int(batch["input_ids"].sum())
        return similarity.projected(outputs, seed)

    def training_loss(self) -> LossFunction:
        """Return the loss of ``embedding_lessons``: by scores, or by a batch's documents."""
        return partial(contrastive.loss, self.task.head.outputs)

    def imitation(self, outputs: Tensor, goal: Tensor, temperature: float) -> Tensor:
        """Return how far embeddings are from the teacher's; see ``similarity.imitation``."""
        from rarefy.pipeline.tasks.embeddings import similarity

        return similarity.imitation(outputs, goal)

    def projection(self, outputs: Tensor, width: int) -> Tensor | None:
        """Return what brings a teacher's embeddings to a width; see ``similarity.fitting``."""
        from rarefy.pipeline.tasks.embeddings import similarity

        return similarity.fitting(outputs, width)

    def divergence(self, outputs: Tensor, other: Tensor) -> Tensor:
        """Return 1 − the cosine of each text's embeddings."""
        from torch.nn import functional

        return 1 - functional.cosine_similarity(outputs.double(), other.double())

    def targets(self, predictions: NDArray[np.float64], split: Split) -> list[list[int]]:
        """Return the places of each text's neighbours, for texts alone."""
        return neighbours.places_of(predictions)


class SearchScorer(Scorer):
    """Scores what queries find, (queries, columns), or the cosines of pairs, (pairs, 1)."""

    trivial = "a search by words (BM25), or of equal cosines"

    def formulas(self, truth: Sequence[Any]) -> Mapping[str, Formula]:
        """Return nDCG@10, recall@10 and MRR@10 of a search; Spearman and Pearson of pairs."""
        return _scores(_is_search(truth))

    def score_names(self, data: Data) -> Collection[str]:
        """Return the names of ``formulas``."""
        return _scores(data.corpus is not None)

    def floor(self, truth: Sequence[Any]) -> float | None:
        """Return BM25's nDCG@10 of a search; of pairs 0, the correlation of equal cosines."""
        by_words = self.baseline(truth)
        if by_words is None:
            return 0.0
        _, ndcg = by_words
        return ndcg

    def baseline(self, truth: Sequence[Any]) -> tuple[str, float] | None:
        """Return BM25's nDCG@10 of a search."""
        if not _is_search(truth):
            return None
        total = sum(query["bm25"] for query in truth)
        return "BM25", float(total / len(truth))

    def truth(self, split: Split) -> list[Any]:
        """Return the pairs' scores, or what each query should find (see ``search.truth``)."""
        from rarefy.pipeline.tasks.embeddings import search

        if split.corpus is None:
            return super().truth(split)
        return search.truth(split.texts, split.corpus, split.labels or ())

    def block_name(self, truth: Sequence[Any]) -> str:
        """Return ``query``, or ``pair`` if pairs are scored."""
        return "query" if _is_search(truth) else "pair"

    def retained(self, predictions: NDArray[np.float64], split: Split) -> NDArray[np.float64]:
        """Return what each query finds (see ``scoring.search``), or each pair's cosine.

        The embeddings of a corpus are not retained: 10,000 documents are 30 MB for each model.
        """
        from rarefy.pipeline.tasks.embeddings import scores as embeddings
        from rarefy.pipeline.tasks.embeddings import search

        if split.corpus is not None:
            count = len(split.texts)
            queries, corpus = predictions[:count], predictions[count:]
            distinct, text = search.distinct(split.corpus)
            return search.by_cosine(queries, corpus[distinct], split.labels or (), text)
        texts, _ = self.task.encoder.requests(split)
        place = {text: at for at, text in enumerate(texts)}
        first = [place[text] for text in split.texts]
        second = [place[text] for text in split.pairs or ()]
        return embeddings.cosines(predictions[first], predictions[second])[:, None]

    def correct(self, predictions: NDArray[np.float64], truth: Sequence[Any]) -> NDArray[np.bool_]:
        """Return whether a query finds first what it should, or a pair is about in its place.

        That is: its place among all pairs, in the order of cosines, is at most a tenth of their
        number from its place in the order of the scores. Nothing is correct if a value is NaN.
        """
        import numpy as np

        from rarefy.pipeline.tasks.embeddings import search
        from rarefy.pipeline.tasks.regression import scores as regression

        finite = np.isfinite(predictions)
        if _is_search(truth):
            return search.first_is_correct(predictions) & finite.all(axis=1)
        if not finite.all():
            return np.zeros(len(predictions), bool)
        one = np.ones((1, len(truth)))
        by_cosine = regression.midranks(predictions[:, 0])(one)[0]
        by_score = regression.midranks(np.asarray(truth, dtype=float))(one)[0]
        return np.asarray(np.abs(by_cosine - by_score) <= NEAR_PLACE * len(truth))

    def agreement(
        self, ours: NDArray[np.float64], theirs: NDArray[np.float64]
    ) -> NDArray[np.bool_]:
        """Return whether two models agree.

        In a search: at least half of the first ten documents are the same. On pairs: the cosines
        differ by at most 0.05.
        """
        import numpy as np

        from rarefy.pipeline.tasks.embeddings import search

        if ours.shape[1] > 1:
            return np.asarray(search.overlap(ours, theirs) >= search.SAME_AT_LEAST)
        return np.asarray(np.abs(ours - theirs)[:, 0] <= SAME_COSINE)


class SearchPresenter(EmbeddingPresenter):
    """Shows what queries find first, or the cosines of pairs."""

    def describe_prediction(self, predictions: NDArray[np.float64], split: Split) -> list[str]:
        """Return the first document that each query finds, or each pair's cosine."""
        import numpy as np

        first = predictions[:, 0]
        if split.corpus is None:
            return [f"{cosine:.3f}" for cosine in first]
        descriptions = []
        for place in first:
            descriptions.append(split.corpus[int(place)] if np.isfinite(place) else NOT_A_NUMBER)
        return descriptions

    def describe_target(self, split: Split) -> list[str]:
        """Return the documents that each query should find, or each pair's score."""
        if split.corpus is None:
            return [f"{score:g}" for score in split.labels or ()]
        descriptions = []
        for places in split.labels or ():
            descriptions.append(" | ".join(split.corpus[place] for place in places))
        return descriptions


def _texts(split: Split, rows: Sequence[int]) -> list[str]:
    """Return the first texts of rows, then their second ones if there are any."""
    texts = [split.texts[row] for row in rows]
    if split.pairs is not None:
        texts += [split.pairs[row] for row in rows]
    return texts


def _is_search(truth: Sequence[Any]) -> bool:
    return bool(len(truth)) and isinstance(truth[0], Mapping)


def _scores(searches: bool) -> Mapping[str, Formula]:
    from rarefy.pipeline.tasks.embeddings import search
    from rarefy.pipeline.tasks.regression import scores as regression

    if searches:
        return search.SCORES
    return {"spearman": regression.spearman, "pearson": regression.pearson}


_OF_PAIRS = Task(
    name="sentence-embeddings",
    reader=PairReader(),
    encoder=TextEncoder(),
    head=PoolingHead(),
    objective=EmbeddingObjective(),
    scorer=SearchScorer(),
    presenter=SearchPresenter(),
    version=3,
)
_OF_TEXTS = replace(
    _OF_PAIRS, reader=TextReader(), scorer=NeighbourScorer(), presenter=NeighbourPresenter()
)
SENTENCE_EMBEDDINGS = replace(_OF_PAIRS, for_texts_alone=_OF_TEXTS)
