"""Inference with a bundle: ONNX Runtime or OpenVINO, without PyTorch or transformers."""

from __future__ import annotations

import copy
import time
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property, partial
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rarefy.pipeline.model import batches
from rarefy.pipeline.model.quantization import cpu_arithmetic
from rarefy.pipeline.model.runtime import adapter_file, onnx_runtime, openvino, tensorrt
from rarefy.pipeline.model.runtime.bundle_files import (
    MODEL,
    OPTIONS,
    SIGNATURE,
    check_tokenizer,
    path_of,
    read,
)
from rarefy.pipeline.model.runtime.graph_file import check_graph, contains
from rarefy.pipeline.model.runtime.providers import DEVICES, PROVIDERS, check_included
from rarefy.pipeline.model.tokens import windows, words
from rarefy.pipeline.terms import bounds
from rarefy.pipeline.terms.errors import (
    DataError,
    IntegrityError,
    ModelError,
    ProviderError,
    as_model_error,
    first_line,
)
from rarefy.pipeline.terms.progress import Progress

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Feed = dict[str, NDArray[np.int64]]

TOKENIZER = "tokenizer.json"
TOKENIZER_KEYS = ("max_length", "truncation_side", "words", "windows")
"""What of a signature the tokenizer depends on; adapters that read alike share one."""
AT_RUN_TIME = "DynamicQuantize"
"""What the operators are called that find ranges of activations at run time."""


def check_rows(signature: Mapping[str, Any], *, paired: bool) -> None:
    """Raise DataError if the bundle with this signature cannot read pairs, or single texts."""
    for key in ("words", "windows"):
        if signature.get(key) and paired:
            raise DataError(f"this bundle reads single texts in {key}, not pairs of texts")
    if paired and not signature.get("pairs"):
        raise DataError("this bundle reads single texts, not pairs of texts")
    if signature.get("pairs") and not paired:
        raise DataError("this bundle reads pairs of texts; give a second text to each")


def ranges_at_run_time(graph: Any) -> bool:
    """Return whether an ONNX graph finds ranges of activations at run time, also in an ``If``."""
    for node in graph.node:
        if node.op_type.startswith(AT_RUN_TIME):
            return True
        for attribute in node.attribute:
            if any(map(ranges_at_run_time, (attribute.g, *attribute.graphs))):
                return True
    return False


def rows_interact(directory: Path) -> bool:
    """Return whether a bundle's answer to a row depends on the rows in its batch.

    It does if the graph quantizes activations by their range at run time: that range is taken over
    the whole tensor. The file is parsed only if it contains the name of such an operator: that
    takes twice its size in memory.
    """
    if not contains(path_of(directory, MODEL), AT_RUN_TIME.encode()):
        return False
    return ranges_at_run_time(_graph(directory).graph)


def _graph(directory: Path) -> Any:
    import onnx

    return onnx.load(str(path_of(directory, MODEL)), load_external_data=False)


class BundleModel:
    """A model loaded from a bundle's directory.

    Args:
        directory: the bundle.
        provider: ``cpu``, ``cuda`` or ``tensorrt`` of ONNX Runtime, or ``openvino``.
        threads: intra-op threads of the session; by default the number stored in the bundle.

    Raises:
        IntegrityError: if the graph refers to files outside the bundle, or is no file.
        ModelError: if a file of the bundle is missing.
        ProviderError: if the session does not run on the requested provider, or the bundle needs a
            CPU with VNNI.
    """

    def __init__(
        self, directory: Path, *, provider: str = "cpu", threads: int | None = None
    ) -> None:
        self.directory = Path(directory).resolve()
        self._describe(read(self.directory, "config.json"), read(self.directory, SIGNATURE))
        cpu_arithmetic.check(self.signature)
        self.provider = provider
        self.session = self._session(provider, threads)
        self.precision: str | None = getattr(self.session, "precision", None)
        """What floats are computed in if the runtime chooses, as OpenVINO does; else None."""
        self._open_tokenizer()

    def with_adapter(self, path: Path) -> BundleModel:
        """Return a model that answers another task with this one's base, whose session they share.

        Raises ModelError if there is no such adapter or it is for another base, IntegrityError if
        it is damaged.
        """
        adapter = adapter_file.read(path)
        adapter.check_base(self.signature)
        other = copy.copy(self)
        other._describe(adapter.config, adapter.signature)
        other.session = adapter_file.Session(self.session.base, adapter)
        other._check_names(other.session)
        if any(adapter.signature.get(key) != self.signature.get(key) for key in TOKENIZER_KEYS):
            other._open_tokenizer()
        return other

    def _describe(self, config: dict[str, Any], signature: dict[str, Any]) -> None:
        """Take the labels, the task and the tensors' names from these files of a bundle."""
        self.config = config
        self.signature = signature
        named = config["id2label"]
        self.labels = tuple(named[str(at)] for at in range(len(named)))
        self.inputs = tuple(entry["name"] for entry in signature["inputs"])
        self.output = signature["outputs"][0]["name"]
        self.task = signature["task"]

    def _open_tokenizer(self) -> None:
        """Load the tokenizer, with the signature's length."""
        self.tokenizer = self._tokenizer()
        self.tokenizer.no_padding()
        side = self.signature.get("truncation_side", "right")
        self.tokenizer.enable_truncation(self.signature["max_length"], direction=side)
        self.by_words = side == "right" and windows.by_words(self.tokenizer)
        self.of_words = bool(self.signature.get("words"))
        self.in_windows = bool(self.signature.get("windows"))
        if self.of_words or self.in_windows:  # here and not in a call: threads share the tokenizer
            windows.cut(self.tokenizer, self.signature["max_length"])

    def _tokenizer(self) -> Any:
        """Return the bundle's tokenizer. Raises IntegrityError if it is damaged."""
        from tokenizers import Tokenizer

        path = path_of(self.directory, TOKENIZER)
        try:
            check_tokenizer(path)
            with as_model_error("the tokenizer"):
                return Tokenizer.from_file(str(path))
        except Exception as error:  # of no class but Exception, whatever is wrong
            raise IntegrityError(f"{path}: not a tokenizer: {first_line(error)}") from error

    def encode(self, texts: Sequence[str], pairs: Sequence[str] | None = None) -> list[Feed]:
        """Tokenize into one feed per text: arrays of 1 × tokens, int64, truncated to max length.

        A long text may be read in windows: arrays of windows × tokens.
        """
        return [feed for feed, _ in self.asked(texts, pairs)]

    def encode_together(self, texts: Sequence[str], pairs: Sequence[str] | None = None) -> Feed:
        """Tokenize texts into one feed, padded on the right to the longest: rows × tokens.

        A text that is read in windows has a row for each of them. Answers may differ from those to
        single texts if ``rows_interact``. Raises DataError as ``asked`` does.
        """
        check_rows(self.signature, paired=pairs is not None)
        encodings: list[Any] = []
        if self.of_words or self.in_windows:
            for parts in windows.read(self.tokenizer, texts):
                encodings += parts
        else:
            encodings += self._encodings(texts, pairs)
        return windows.feed(encodings, self.inputs, self._padding)

    def _rows(self, texts: Sequence[str], pairs: Sequence[str] | None) -> list[Feed]:
        return [windows.feed([one], self.inputs) for one in self._encodings(texts, pairs)]

    def _encodings(self, texts: Sequence[str], pairs: Sequence[str] | None) -> Iterator[Any]:
        """Yield the encoding of each row, truncated to max length."""
        rows: Sequence[Any] = texts if pairs is None else list(zip(texts, pairs, strict=True))
        read = self.tokenizer.encode_batch
        longest = self.signature["max_length"]
        if pairs is None and self.by_words:
            read = partial(windows.encode_beginnings, self.tokenizer, max_length=longest)
        for part in batches.portions(texts, pairs):
            yield from read([rows[row] for row in part])

    def run(self, feed: Feed) -> NDArray[np.float32]:
        """Return the raw outputs of a batch, including copies to and from the device.

        Many windows run one part after the other, unless ``rows_interact``: that bounds memory.
        Raises ProviderError if the provider fails, so that the session never falls back to another.
        """
        if not (self.of_words or self.in_windows):
            return self._call(feed)
        parts = [*windows.at_once(feed, self.signature["max_length"])]
        if len(parts) == 1 or self.rows_interact:
            return self._call(feed)
        import numpy as np

        return np.concatenate([self._call(part) for part in parts])

    def _call(self, feed: Feed) -> NDArray[np.float32]:
        """Return the raw outputs of one call of the session; raise as ``run`` does."""
        try:  # not in a context manager, which takes 2% of a small student's call
            output: NDArray[np.float32] = self.session.run([self.output], feed)[0]
        except onnx_runtime.provider_failures(self.provider) as error:
            raise self._failure(error) from error
        self._check_output(output.shape)
        return output

    def _failure(self, error: Exception) -> ProviderError:
        return ProviderError(f"provider {self.provider!r} failed: {onnx_runtime.reason(error)}")

    def resident(self, feed: dict[str, NDArray[np.int64]]) -> Any:
        """Return an IOBinding with the feed copied to the device; the logits will stay there."""
        from onnxruntime import OrtValue

        device = DEVICES[self.provider]
        binding = self.session.io_binding()
        for name, array in feed.items():
            binding.bind_ortvalue_input(name, OrtValue.ortvalue_from_numpy(array, device, 0))
        binding.bind_output(self.output, device, 0)
        binding.synchronize_inputs()
        return binding

    def device_ms(self, feed: dict[str, NDArray[np.int64]]) -> float:
        """Return the time in ms of one call with inputs and outputs kept in device memory.

        Raises ProviderError if the provider fails.
        """
        try:
            binding = self.resident(feed)
            before = time.perf_counter_ns()
            self.session.run_with_iobinding(binding)
            binding.synchronize_outputs()
            return (time.perf_counter_ns() - before) / 1e6
        except onnx_runtime.provider_failures(self.provider) as error:
            raise self._failure(error) from error

    def units(
        self,
        texts: Sequence[str],
        pairs: Sequence[str] | None = None,
        progress: Progress | None = None,
        together: int = 1,
    ) -> NDArray[np.float32]:
        """Return the raw outputs, units × width. Rows run without padding.

        ``together``: rows of equal length that run at once, of a bundle whose units are rows; one
        row's answer then depends on the others if ``rows_interact``.
        """
        import numpy as np

        feeds = self.asked(texts, pairs)
        outputs: list[NDArray[np.float32]] = [np.empty(0, np.float32)] * len(feeds)
        done = 0
        for rows in self._groups(feeds, together):
            if len(rows) == 1:
                feed, places = feeds[rows[0]]
                outputs[rows[0]] = self.units_of(self.run(feed), places)
            else:
                grouped = [feeds[row][0] for row in rows]
                joined = {}
                for name in grouped[0]:
                    joined[name] = np.concatenate([feed[name] for feed in grouped])
                for row, output in zip(rows, self.run(joined), strict=True):
                    outputs[row] = output[None]
            done += len(rows)
            if progress and done % 64 == 0:
                progress(done, len(feeds), "rows predicted")
        return np.concatenate(outputs)

    def _groups(self, feeds: Sequence[tuple[Feed, Any]], together: int) -> Iterator[list[int]]:
        """Yield the places of feeds that run at once."""
        alike: dict[tuple[int, ...], list[int]] = {}
        for row, (feed, _) in enumerate(feeds):
            if together == 1 or self.of_words or self.in_windows:
                yield [row]
            else:
                alike.setdefault(feed[self.inputs[0]].shape, []).append(row)
        for rows in alike.values():
            yield from (rows[at : at + together] for at in range(0, len(rows), together))

    def asked(
        self, texts: Sequence[str], pairs: Sequence[str] | None = None
    ) -> list[tuple[Feed, NDArray[np.int64] | None]]:
        """Return each text's feed, and where its units' outputs are; see ``units_of``.

        Raises DataError if the bundle does not read pairs, or single texts, or one has no tokens.
        """
        check_rows(self.signature, paired=pairs is not None)
        with as_model_error("the tokenizer"):
            return self._tokenized(texts, pairs)

    def _tokenized(
        self, texts: Sequence[str], pairs: Sequence[str] | None
    ) -> list[tuple[Feed, NDArray[np.int64] | None]]:
        feeds: list[tuple[Feed, NDArray[np.int64] | None]]
        if self.of_words:
            shared = windows.overlap(self.tokenizer, self.signature["max_length"])
            places = words.answering(texts, windows.read(self.tokenizer, texts), shared)
            feeds = [words.feed(parts, self.inputs) for parts in places]
        elif self.in_windows:
            padding = self._padding
            cut = windows.read(self.tokenizer, texts)
            feeds = [(windows.feed(parts, self.inputs, padding), None) for parts in cut]
        else:
            feeds = [(feed, None) for feed in self._rows(texts, pairs)]
        windows.check(texts, [feed for feed, _ in feeds])
        return feeds

    def units_of(
        self, output: NDArray[np.float32], places: NDArray[np.int64] | None
    ) -> NDArray[np.float32]:
        """Return a feed's raw outputs, units × width, from the output of its call.

        ``places``: each unit's index into the outputs of all tokens; None if a row is a unit.
        """
        if places is not None:
            tokens: NDArray[np.float32] = output.reshape(-1, output.shape[-1])
            return tokens[places]
        if self.in_windows:
            output = output.mean(axis=0, keepdims=True)
        return output

    @cached_property
    def _padding(self) -> int:
        """Return the id of the tokenizer's padding token, 0 if it has none."""
        token = read(self.directory, "tokenizer_config.json").get("pad_token")
        if token:
            return int(self.tokenizer.token_to_id(token) or 0)
        return 0

    def _session(self, provider: str, threads: int | None) -> Any:
        check_included(provider)  # whether it starts is seen below, without a session more
        name = PROVIDERS[provider]
        path = path_of(self.directory, MODEL)
        check_graph(path)
        has_adapter = adapter_file.ADAPTER in self.signature
        if has_adapter and provider != "cpu":
            raise ProviderError(
                f"{self.directory}: a bundle whose adapter is a file runs on the provider cpu "
                f"only, not {provider}"
            )
        if provider == "openvino":
            return openvino.Session(path, threads or self._threads())
        import onnxruntime

        options = self._options(threads)
        if provider != "cpu":
            options.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
            onnx_runtime.load_libraries(name)
        try:
            # ONNX Runtime's own fallback prints to stdout and moves to the CPU, now or later.
            session = onnxruntime.InferenceSession(
                str(path), options, providers=self._providers(provider), enable_fallback=0
            )
        except onnx_runtime.refusals() as error:
            if provider == "cpu":
                raise ModelError(
                    f"{path}: ONNX Runtime cannot load this file: {onnx_runtime.reason(error)}"
                ) from error
            raise ProviderError(
                f"provider {provider!r} is not active: {onnx_runtime.reason(error)}"
            ) from error
        if (active := session.get_providers()[0]) != name:
            raise ProviderError(
                f"provider {provider!r} is not active: the session runs on {active}"
            )
        if provider != "cpu":
            onnx_runtime.check_placement(session, provider, name)
        if has_adapter:
            adapter = adapter_file.read(self.directory / adapter_file.FILE)
            adapter.check_base(self.signature)
            session = adapter_file.Session(session, adapter)
        self._check_names(session)
        return session

    def _check_names(self, session: Any) -> None:
        """Raise IntegrityError if the graph has other inputs or outputs than its signature."""
        outputs = {output.name: output.shape for output in session.get_outputs()}
        graph_inputs = sorted(entry.name for entry in session.get_inputs())
        if sorted(self.inputs) != graph_inputs or self.output not in outputs:
            raise IntegrityError(
                f"{self.directory}: the graph's inputs and outputs are not those of {SIGNATURE}"
            )
        self._check_output(outputs[self.output])

    def _check_output(self, shape: Sequence[int | str | None]) -> None:
        """Raise IntegrityError if an output has more numbers than any task has."""
        if prod(size for size in shape if isinstance(size, int)) > bounds.OUTPUTS:
            raise IntegrityError(
                f"{self.directory}: the graph gives more than {bounds.OUTPUTS:,} numbers in a call"
            )
        stated = self.signature["outputs"][0].get("shape", [])
        if not shape or not stated:
            return
        width, stated_width = shape[-1], stated[-1]
        if isinstance(width, int) and isinstance(stated_width, int) and width != stated_width:
            raise IntegrityError(
                f"{self.directory}: the graph gives {width:,} numbers for each unit, but "
                f"{SIGNATURE} says {stated_width:,}"
            )

    def _providers(self, provider: str) -> list[Any]:
        """Return the providers for a session. TensorRT falls back to CUDA for unsupported nodes."""
        if provider != "tensorrt":
            return [PROVIDERS[provider]]
        options = tensorrt.precision(self._precision()) | tensorrt.cache(self.directory)
        return [(PROVIDERS[provider], options), PROVIDERS["cuda"]]

    def _precision(self) -> str:
        """Return the precision in the graph's metadata, or "" if another tool made the graph."""
        for entry in _graph(self.directory).metadata_props:
            if entry.key == "precision":
                return str(entry.value)
        return ""

    @cached_property
    def rows_interact(self) -> bool:
        """Whether a row's answer depends on the rows in its batch; see ``rows_interact``.

        Kept, because the file with all weights is read for it.
        """
        return rows_interact(self.directory)

    def _threads(self) -> int:
        """Return the number of threads that the bundle was exported for."""
        return int(read(self.directory, OPTIONS).get("intra_op_num_threads", 1))

    def _options(self, threads: int | None) -> Any:
        """Return the session options stored in the bundle, with the caller's number of threads."""
        import onnxruntime

        stored = read(self.directory, OPTIONS)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads or self._threads()
        options.inter_op_num_threads = 1
        options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
        level = f"ORT_ENABLE_{stored['graph_optimization_level'].upper()}"
        options.graph_optimization_level = getattr(onnxruntime.GraphOptimizationLevel, level)
        options.log_severity_level = 3
        return options
