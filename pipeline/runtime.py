"""A bundle that answers: ONNX Runtime and tokenizers, without PyTorch or transformers."""

from __future__ import annotations

import json
import mmap
import stat
from collections.abc import Callable, Sequence
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from pipeline.errors import IntegrityError, ModelError, ProviderError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

MODEL = "model.onnx"
PROVIDERS = {
    "cpu": "CPUExecutionProvider",
    "cuda": "CUDAExecutionProvider",
    "tensorrt": "TensorrtExecutionProvider",
}


class BundleModel:
    """A classifier from a bundle's directory.

    Args:
        directory: the bundle.
        provider: ``cpu``, ``cuda`` or ``tensorrt``.
        threads: intra-op threads of the session.

    Raises:
        IntegrityError: the graph reaches for files outside the bundle, or is not a regular file.
        ModelError: a file of the bundle is missing.
        ProviderError: the session does not run on the provider asked for.
    """

    def __init__(self, directory: Path, *, provider: str = "cpu", threads: int = 1) -> None:
        from tokenizers import Tokenizer

        self.directory = Path(directory).resolve()
        config = self._read("config.json")
        self.signature = self._read("signature.json")
        self.labels = tuple(config["id2label"][str(at)] for at in range(len(config["id2label"])))
        self.inputs = tuple(entry["name"] for entry in self.signature["inputs"])
        self.session = self._session(provider, threads)
        self.tokenizer = Tokenizer.from_file(str(self._file("tokenizer.json")))
        self.tokenizer.no_padding()
        self.tokenizer.enable_truncation(self.signature["max_length"])

    def encode(
        self, texts: Sequence[str], pairs: Sequence[str] | None = None
    ) -> list[dict[str, NDArray[np.int64]]]:
        """Tokenize: one feed a text, each array 1 × tokens, int64, cut to the model's length."""
        import numpy as np

        rows = texts if pairs is None else list(zip(texts, pairs, strict=True))
        feeds = []
        for encoding in self.tokenizer.encode_batch(list(rows)):
            known = {
                "input_ids": encoding.ids,
                "attention_mask": encoding.attention_mask,
                "token_type_ids": encoding.type_ids,
            }
            feeds.append({name: np.array([known[name]], dtype=np.int64) for name in self.inputs})
        return feeds

    def run(self, feed: dict[str, NDArray[np.int64]]) -> NDArray[np.float32]:
        """Return the logits, rows × labels."""
        logits: NDArray[np.float32] = self.session.run(["logits"], feed)[0]
        return logits

    def probabilities(
        self,
        texts: Sequence[str],
        pairs: Sequence[str] | None = None,
        progress: Callable[[float, float, str], None] | None = None,
    ) -> NDArray[np.float64]:
        """Return rows × labels, each row summing to one; the rows run one by one, unpadded."""
        import numpy as np

        feeds = self.encode(texts, pairs)
        answers = np.empty((len(feeds), len(self.labels)))
        for row, feed in enumerate(feeds):
            logits = self.run(feed)[0].astype(np.float64)
            powers = np.exp(logits - logits.max())
            answers[row] = powers / powers.sum()
            if progress and row % 64 == 0:
                progress(row, len(feeds), "rows answered")
        return answers

    def _session(self, provider: str, threads: int) -> Any:
        import onnxruntime

        if provider != "cpu" and hasattr(onnxruntime, "preload_dlls"):
            onnxruntime.preload_dlls()
        name = PROVIDERS[provider]
        if name not in onnxruntime.get_available_providers():
            raise ProviderError(
                f"provider {provider!r} is not active: this onnxruntime has only "
                f"{', '.join(onnxruntime.get_available_providers())}"
            )
        path = self._file(MODEL)
        check_graph(path)
        session = onnxruntime.InferenceSession(str(path), self._options(threads), providers=[name])
        if session.get_providers()[0] != name:
            raise ProviderError(
                f"provider {provider!r} is not active: the session runs on "
                f"{session.get_providers()[0]}"
            )
        return session

    def _options(self, threads: int) -> Any:
        """Return the session options that the bundle was measured with, and our threads."""
        import onnxruntime

        stored = self._read("session_options.json")
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
        level = f"ORT_ENABLE_{stored['graph_optimization_level'].upper()}"
        options.graph_optimization_level = getattr(onnxruntime.GraphOptimizationLevel, level)
        options.log_severity_level = 3
        return options

    def _read(self, name: str) -> dict[str, Any]:
        try:
            value: dict[str, Any] = json.loads(self._file(name).read_text(encoding="utf-8"))
        except ValueError as error:
            raise IntegrityError(f"{self.directory}/{name}: not JSON: {error}") from error
        return value

    def _file(self, name: str) -> Path:
        path = self.directory / name
        if not path.exists():
            raise ModelError(f"{self.directory}: no {name}; is this a bundle?")
        return path


def check_graph(path: Path) -> None:
    """Refuse an ONNX file that would read other files than those beside it.

    External tensors name a path, which the runtime follows (CVE-2022-25882, CVE-2024-27318). Each
    must be a plain name of a regular file with one link in the same directory, and lie inside it.

    Raises:
        IntegrityError: it does not.
    """
    _regular(path)
    # Every external tensor has the key "location" in its bytes; without it there is none, and
    # the graph need not be parsed here.
    with path.open("rb") as file:
        if path.stat().st_size == 0:
            raise IntegrityError(f"{path}: empty")
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            if content.find(b"location") < 0:
                return
    import onnx
    from onnx.external_data_helper import (
        ExternalDataInfo,
        _get_all_tensors,
        uses_external_data,
    )

    for tensor in _get_all_tensors(onnx.load(str(path), load_external_data=False)):
        if uses_external_data(tensor):
            info = ExternalDataInfo(tensor)
            _check_external(path, tensor.name, info.location, info.offset or 0, info.length or 0)


def _check_external(path: Path, tensor: str, location: str, offset: int, length: int) -> None:
    parts = PurePosixPath(location).parts
    if len(parts) != 1 or parts[0] in ("..", "/") or "\\" in location or ":" in location:
        raise IntegrityError(f"{path}: tensor {tensor!r} reads {location!r}, outside the bundle")
    beside = path.parent / location
    _regular(beside)
    if offset < 0 or length < 0 or offset + length > beside.stat().st_size:
        raise IntegrityError(f"{path}: tensor {tensor!r} reads past the end of {location}")


def _regular(path: Path) -> None:
    try:
        status = path.lstat()
    except FileNotFoundError:
        raise IntegrityError(f"{path}: the graph needs this file, it is not there") from None
    if not stat.S_ISREG(status.st_mode) or status.st_nlink != 1:
        raise IntegrityError(f"{path}: not a regular file with one link")
