"""Predict with a bundle from Python: any number of rows, in batches of equal length."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rarefy.pipeline import tasks
from rarefy.pipeline.data.table import given_text
from rarefy.pipeline.model.batches import rows_of_equal_length, split_rows
from rarefy.pipeline.model.runtime import bundle_files
from rarefy.pipeline.model.runtime.bundle_model import BundleModel
from rarefy.pipeline.release import bundles
from rarefy.pipeline.store.home import Home
from rarefy.pipeline.tasks import Task
from rarefy.pipeline.terms.errors import DataError, RecipeError
from rarefy.pipeline.terms.progress import Progress, silent
from rarefy.pipeline.terms.recipe_parts import check_threads

Row = tuple[str, str | None]
Feed = dict[str, NDArray[np.int64]]
"""The model's inputs by name, each of rows × tokens."""
BATCH = 32
"""Rows that share a call if they do not change each other's answers."""
TOKENS = BATCH * 512
"""Of a call's rows, if nobody says how many: the memory of attention grows with their length."""
WINDOW, CHARACTERS = 4096, 4_000_000
"""Rows that are tokenized at once, and their characters: enough that many rows have the same
length, but not more memory, for long texts, than a small machine has."""


class Bundle:
    """A bundle loaded for inference.

    Args:
        reference: a run's name, a bundle's or a run's folder, a tag, a digest, or ``URL#tag``.
        home: the state folder in which names, tags and digests are looked up; default:
            ``RAREFY_HOME`` of the environment, or else ``.rarefy``.
        provider: ``cpu``, ``cuda`` or ``tensorrt`` of ONNX Runtime, or ``openvino``; by default the
            one that the bundle was exported for.
        threads: intra-op threads; by default the number that the bundle was exported for.

    Raises:
        RecipeError: there is no such bundle or number of threads.
        IntegrityError: the bundle is damaged.
        ProviderError: the provider is not available.
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
        provider = bundle_files.chosen_provider(self.files.directory, provider)
        self._model = BundleModel(self.files.directory, provider=provider, threads=threads)
        self._task = _task_of(self._model)

    def with_adapter(self, reference: Path | str) -> Bundle:
        """Return a bundle that predicts the task of an adapter; both share this one's session.

        Args:
            reference: the adapter's file, or another bundle whose adapter is a file, by a name as
                the constructor takes it.

        Raises:
            RecipeError: there is no such adapter, or the bundle that is named has none.
            ModelError: the adapter is for another base, or this bundle takes none.
            IntegrityError: the adapter is damaged.
        """
        path = Path(reference)
        if not path.is_file():
            path = bundles.adapter_of(bundles.named(reference), self.home)
        other = copy.copy(self)
        other._model = self._model.with_adapter(path)
        other._task = _task_of(other._model)
        return other

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
        """Predict each text, or each text with its pair, in order.

        Args:
            texts: any number of texts; for a bundle that labels words, also lists of words.
            pairs: the second text of each row, if the bundle reads pairs.
            batch_size: rows of a call. By default 1 for a graph in dynamic int8, whose predictions
                depend on the other rows of a batch, and up to 32 for any other.
            progress: called as progress(done, total, note).

        Returns:
            One prediction for each row, in the form of the bundle's task: a ``Prediction`` for
            classification.

        Raises:
            DataError: ``texts`` and ``pairs`` differ in number, are a single text, or do not fit
                the bundle, or a text has no tokens.
            RecipeError: an impossible ``batch_size``.
        """
        if batch_size is None and self._model.rows_interact:
            batch_size = 1
        if batch_size is not None and batch_size < 1:
            raise RecipeError(f"batch_size: {batch_size}, expected 1 or more")
        predictions: list[Any] = []
        for window in windows(_rows(texts, pairs)):
            predictions += self._predict_window(window, batch_size)
            progress(len(predictions), 0, "rows predicted")
        return predictions

    def _tokenize(self, rows: list[Row]) -> list[Any]:
        """Return each row's feed, and what its units are found by."""
        texts = [self._task.presenter.preprocess(text) for text, _ in rows]
        seconds = [pair for _, pair in rows]
        if all(pair is None for pair in seconds):
            return self._model.asked(texts, None)
        pairs = [given_text(pair) for pair in seconds]
        return self._model.asked(texts, pairs)

    def _predict_window(self, rows: list[Row], batch_size: int | None) -> list[Any]:
        """Return a prediction for each row, in order; rows of equal length share batches."""
        requests = self._tokenize(rows)
        first_input = self._model.inputs[0]
        lengths = [feed[first_input].shape[1] for feed, _ in requests]
        outputs: list[Any] = [None] * len(requests)
        for length, places in rows_of_equal_length(lengths):
            size = batch_size or _batch_size(length)
            for batch in split_rows(places, size):
                feeds = [requests[place][0] for place in batch]
                batch_outputs = self._run_batch(feeds)
                for place, raw in zip(batch, batch_outputs, strict=True):
                    _, units = requests[place]
                    outputs[place] = self._model.units_of(raw, units)
        answers = self._task.head.predictions(np.concatenate(outputs))
        texts = [text for text, _ in rows]
        return list(self._task.presenter.postprocess(texts, answers))

    def _run_batch(self, feeds: list[Feed]) -> list[NDArray[np.float32]]:
        """Return the output for each feed, run as one batch; a feed may have several rows."""
        first_input = self._model.inputs[0]
        joined = {name: np.concatenate([feed[name] for feed in feeds]) for name in feeds[0]}
        ends = np.cumsum([len(feed[first_input]) for feed in feeds])
        output = self._model.run(joined)
        return np.split(output, ends[:-1])


def _task_of(model: BundleModel) -> Task:
    """Return the task that a model answers."""
    task = tasks.find(model.task).bind(model.labels, model.signature["max_length"])
    return task.of_model(model.config)


def _batch_size(length: int) -> int:
    """Return how many rows of ``length`` tokens share a call if nobody says it."""
    fitting = TOKENS // max(1, length)
    return min(BATCH, max(1, fitting))


def _rows(texts: Iterable[str], pairs: Iterable[str] | None) -> Iterable[Row]:
    """Return the rows. Raises DataError if a single text is given instead of a list."""
    columns = [texts] if pairs is None else [texts, pairs]
    for column in columns:
        if isinstance(column, str) or not isinstance(column, Iterable):
            raise DataError("give a list of texts; put a single text into a list")
    if pairs is None:
        return ((text, None) for text in texts)
    return _paired(texts, pairs)


def _paired(texts: Iterable[str], pairs: Iterable[str]) -> Iterator[Row]:
    """Yield each text with its pair. Raises DataError if there are more of one."""
    end: Any = object()
    for text, pair in itertools.zip_longest(texts, pairs, fillvalue=end):
        if text is end or pair is end:
            if text is end:
                raise DataError("there are more pairs than texts")
            raise DataError("there are more texts than pairs")
        yield text, pair


def windows(rows: Iterable[Row]) -> Iterator[list[Row]]:
    """Yield the rows that are tokenized at once: until they, or their characters, are enough."""
    window: list[Row] = []
    characters = 0
    for row in rows:
        window.append(row)
        characters += sum(len(str(text)) for text in row)
        if len(window) == WINDOW or characters >= CHARACTERS:
            yield window
            window, characters = [], 0
    if window:
        yield window
