"""Predict with a bundle from Python: any number of rows, in batches of equal length."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from pathlib import Path
from time import perf_counter
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from pipeline.model import own_provider
from pipeline.model.runtime import BundleModel
from pipeline.release import bundles
from pipeline.stage import tasks
from pipeline.stage.values import given_text
from pipeline.store.home import Home
from pipeline.terms.errors import DataError, RecipeError
from pipeline.terms.progress import Progress, silent
from pipeline.terms.vocabulary import check_threads

T = TypeVar("T")
Row = tuple[str, str | None]
BATCH = 32
"""Rows that share a call if they do not change each other's answers."""
TOKENS = BATCH * 512
"""Of a call's rows, if nobody says how many: the memory of attention grows with their length."""
WINDOW, CHARACTERS = 4096, 4_000_000
"""Rows that are tokenized at once, and their characters: enough that many rows have the same
length, but not more memory, for long texts, than a small machine has."""
SIZES = (1, 4, 8, 16, 32)
TRIED, ROUNDS = 16, 3
"""What ``fastest_batch`` tries: numbers of rows, on so many rows, so often."""


class Bundle:
    """A bundle loaded for inference.

    Args:
        reference: a run's name, a bundle's or a run's folder, a tag, a digest, or ``URL#tag``.
        home: the state folder in which names, tags and digests are looked up; default:
            ``RAREFY_HOME`` of the environment, or else ``.rarefy``.
        provider: ``cpu``, ``cuda`` or ``tensorrt`` of ONNX Runtime, or ``openvino``; by default the
            one that the bundle was exported for.
        threads: intra-op threads; by default the number that the bundle was exported for.

    Raises RecipeError if there is no such bundle or number of threads, IntegrityError if the
    bundle is damaged, ProviderError if the provider is not available.
    """

    def __init__(
        self,
        reference: Path | str,
        *,
        home: Path | str | None = None,
        provider: str | None = None,
        threads: int | None = None,
    ) -> None:
        check_threads(threads)
        self.home = Home.of(home)
        self.files = bundles.find(bundles.named(reference), self.home)
        bundles.check_bytes(self.files)
        provider = own_provider.chosen(self.files.directory, provider)
        self._model = BundleModel(self.files.directory, provider=provider, threads=threads)
        made = tasks.find(self._model.task)
        task = made(self._model.labels, self._model.signature["max_length"], ())
        self._task = task.of_model(self._model.config)

    @property
    def provider(self) -> str:
        """What runs the model: ``cpu``, ``cuda``, ``tensorrt`` or ``openvino``."""
        return self._model.provider

    @property
    def reads_pairs(self) -> bool:
        """Whether a row is a pair of texts."""
        return bool(self._model.signature.get("pairs"))

    @property
    def labels(self) -> tuple[str, ...]:
        """The labels, in the order of the model's outputs."""
        return self._model.labels

    @property
    def digest(self) -> str:
        """The digest of the bundle's manifest."""
        return self.files.digest

    def predict(
        self,
        texts: Iterable[str],
        pairs: Iterable[str] | None = None,
        *,
        batch_size: int | None = None,
        progress: Progress = silent,
    ) -> list[Any]:
        """Return one prediction for each text, or for each text with its pair, in order.

        What a prediction is depends on the bundle's task: a ``Prediction`` for classification.

        Rows with the same number of tokens share a batch, so nothing is padded. A graph in dynamic
        int8 takes the range of its activations over a whole batch, so a row's answer depends on
        the rows beside it (``benchmarks/batches.py``). By default such a bundle therefore answers
        row by row, as it was validated, and any other in batches of 32, of long rows fewer (see
        ``fastest_batch``).

        Raises DataError if ``texts`` and ``pairs`` differ in number, or one of them is a single
        text, if the bundle does not read pairs, or only them, if something given is no text or has
        no tokens, or a text is a list in which a word is empty or has a blank in it; RecipeError
        for an impossible ``batch_size``.
        """
        if batch_size is None and self._model.rows_interact:
            batch_size = 1
        if batch_size is not None and batch_size < 1:
            raise RecipeError(f"batch_size: {batch_size}, expected 1 or more")
        answers: list[Any] = []
        for window in _tokenized_at_once(_rows(texts, pairs)):
            answers += self._answer(window, batch_size)
            progress(len(answers), 0, "rows predicted")
        return answers

    def fastest_batch(self, texts: Iterable[str], pairs: Iterable[str] | None = None) -> int:
        """Return the ``batch_size`` with the most rows a second, by trying some on these rows.

        It depends on the machine, the threads and the rows' lengths, so no bundle can contain it.
        Full batches of single rows, short and long, are timed. If rows interact, nothing is tried:
        they are answered alone. Raises what ``predict`` raises, and DataError if there is no text.
        """
        if self._model.rows_interact:
            return 1
        feeds = [feed for feed, _ in self._asked([*_rows(texts, pairs)])]
        if not feeds:
            raise DataError("fastest_batch needs some texts to try")
        feeds.sort(key=self._length)
        spent = dict.fromkeys(SIZES, 0.0)
        for feed in feeds[:: -(-len(feeds) // TRIED)]:
            times = [[self._seconds([feed] * size) for size in SIZES] for _ in range(ROUNDS + 1)]
            for size, *measured in zip(SIZES, *times[1:], strict=True):
                spent[size] += min(measured) / size
        return min(SIZES, key=spent.__getitem__)

    def _seconds(self, feeds: list[dict[str, NDArray[np.int64]]]) -> float:
        before = perf_counter()
        self._batch(feeds)
        return perf_counter() - before

    def _asked(self, rows: list[Row]) -> list[Any]:
        seconds = [pair for _, pair in rows]
        alone = all(pair is None for pair in seconds)
        pairs = None if alone else [given_text(pair) for pair in seconds]
        return self._model.asked([self._task.ask(text) for text, _ in rows], pairs)

    def _length(self, feed: dict[str, NDArray[np.int64]]) -> int:
        """Return the number of tokens."""
        tokens: int = feed[self._model.inputs[0]].shape[1]
        return tokens

    def _answer(self, rows: list[Row], batch_size: int | None) -> list[Any]:
        given = [text for text, _ in rows]
        asked = self._asked(rows)
        feeds = [feed for feed, _ in asked]
        found: list[Any] = [None] * len(feeds)
        lengths = [self._length(feed) for feed in feeds]
        order = sorted(range(len(feeds)), key=lengths.__getitem__)
        for length, alike in itertools.groupby(order, key=lengths.__getitem__):
            size = batch_size or min(BATCH, max(1, TOKENS // max(1, length)))
            for batch in _batches(alike, size):
                for row, raw in zip(batch, self._batch([feeds[row] for row in batch]), strict=True):
                    found[row] = self._model.units_of(raw, asked[row][1])
        return list(self._task.reply(given, self._task.answers(np.concatenate(found))))

    def _batch(self, feeds: list[dict[str, NDArray[np.int64]]]) -> list[NDArray[np.float32]]:
        """Return the output for each feed, run as one batch; a feed may have several rows."""
        joined = {name: np.concatenate([feed[name] for feed in feeds]) for name in feeds[0]}
        ends = np.cumsum([len(next(iter(feed.values()))) for feed in feeds])
        return np.split(self._model.run(joined), ends[:-1])


def _rows(texts: Iterable[str], pairs: Iterable[str] | None) -> Iterable[Row]:
    for given in (texts, () if pairs is None else pairs):
        if isinstance(given, str) or not isinstance(given, Iterable):
            raise DataError("give a list of texts; put a single text into a list")
    return ((text, None) for text in texts) if pairs is None else _paired(texts, pairs)


def _paired(texts: Iterable[str], pairs: Iterable[str]) -> Iterator[Row]:
    """Yield each text with its pair. Raises DataError if there are more of one."""
    end: Any = object()
    for text, pair in itertools.zip_longest(texts, pairs, fillvalue=end):
        if text is end or pair is end:
            more, fewer = ("pairs", "texts") if text is end else ("texts", "pairs")
            raise DataError(f"there are more {more} than {fewer}")
        yield text, pair


def _tokenized_at_once(rows: Iterable[Row]) -> Iterator[list[Row]]:
    """Yield the next rows until they, or their characters, are enough."""
    gathered, characters = list[Row](), 0
    for row in rows:
        gathered.append(row)
        characters += sum(len(str(text)) for text in row)
        if len(gathered) == WINDOW or characters >= CHARACTERS:
            yield gathered
            gathered, characters = [], 0
    if gathered:
        yield gathered


def _batches(items: Iterable[T], size: int) -> Iterator[list[T]]:
    source = iter(items)
    while batch := list(itertools.islice(source, size)):
        yield batch
