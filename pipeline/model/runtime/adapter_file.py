"""The file of an adapter: what one task adds to a base that several tasks share.

It is in ONNX Runtime's own format, arrays by the names of the base's inputs: the low-rank weights
of each layer, and how many first tokens of the last layer the task reads. Two more inputs, which no
node of the base reads, carry the head, a graph in ONNX of its own, and the facts, in JSON: labels,
signature, and the digest of the base. So a task is one file.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from rarefy.pipeline.model.runtime.bundle_files import check_config, check_signature
from rarefy.pipeline.terms import json_text
from rarefy.pipeline.terms.errors import IntegrityError, ModelError, first_line

if TYPE_CHECKING:
    from numpy.typing import NDArray

FILE: Final = "adapter.onnx_adapter"
"""The adapter of a bundle's own task."""
SCHEMA: Final = "rarefy.adapter/1"
ADAPTER: Final = "adapter"
BASE: Final = "base"
"""Keys of the signature of a bundle whose adapter is a file: its name, the digest of the base."""
HIDDEN: Final = "hidden_states"
"""The output of the base, rows × tokens × width, which the head reads."""
TOKENS: Final = "tokens"
HEAD: Final = "head"
FACTS: Final = "facts"
"""Inputs of the base that are no weights."""


@dataclass(frozen=True)
class AdapterFile:
    """An adapter that was read and is whole.

    ``head``: a graph in ONNX; ``config`` and ``signature``: those of a bundle for its task.
    """

    path: Path
    head: bytes
    facts: dict[str, Any]

    @property
    def config(self) -> dict[str, Any]:
        config: dict[str, Any] = self.facts["config"]
        return config

    @property
    def signature(self) -> dict[str, Any]:
        signature: dict[str, Any] = self.facts["signature"]
        return signature

    def check_base(self, signature: Mapping[str, Any]) -> None:
        """Raise ModelError if the bundle with this signature is not the adapter's base."""
        base, own = signature.get(BASE), self.signature.get(BASE)
        if base is None:
            raise ModelError(
                f"{self.path}: this bundle takes no adapters; export one of 'adapt' without 'merge'"
            )
        if base != own:
            raise ModelError(
                f"{self.path}: this adapter is for the base {str(own)[:12]}, but the bundle's base "
                f"is {base[:12]}"
            )


def read(path: Path) -> AdapterFile:
    """Return an adapter.

    Raises ModelError if there is no such file, IntegrityError if it is damaged or of another kind.
    """
    import onnxruntime

    if not path.is_file():
        raise ModelError(f"{path}: no such adapter; a bundle has its own in {FILE}")
    try:
        file = onnxruntime.AdapterFormat.read_adapter(str(path))  # kept: it has the arrays' memory
        stored = file.get_parameters()
    except RuntimeError:  # whose text is of the library's source
        raise IntegrityError(f"{path}: not an adapter of ONNX Runtime, or damaged") from None
    try:
        arrays = {name: value.numpy() for name, value in stored.items()}
        facts = json_text.shaped(dict[str, Any], arrays[FACTS].tobytes())
        if facts["schema"] != SCHEMA:
            raise ValueError(f"schema {facts['schema']!r}, expected {SCHEMA!r}")
        if facts["sha256"] != digest(arrays):
            raise ValueError("its weights do not match their digest")
        check_signature(facts["signature"])
        check_config(facts["config"])
        head = arrays[HEAD].tobytes()
    except KeyError as error:
        raise IntegrityError(f"{path}: not an adapter of rarefy: it has no {error}") from None
    except (ValueError, TypeError, AttributeError) as error:
        raise IntegrityError(f"{path}: the adapter is damaged: {first_line(error)}") from None
    if b"location" in head:  # of tensors in other files, which the runtime would open
        raise IntegrityError(f"{path}: the adapter's head refers to other files")
    return AdapterFile(path, head, facts)


def digest(arrays: Mapping[str, NDArray[Any]]) -> str:
    """Return the sha256 of an adapter's arrays but the facts, which contain it."""
    hashed = hashlib.sha256()
    for name in sorted(arrays):
        if name != FACTS:
            hashed.update(f"{name} {arrays[name].shape} ".encode())
            hashed.update(arrays[name].tobytes())
    return hashed.hexdigest()


class Session:
    """A base with one adapter active; any number of these share the session of the base.

    Args:
        base: ONNX Runtime's session of the base.
        adapter: for this base.

    Raises:
        IntegrityError: if the head cannot be loaded.
    """

    def __init__(self, base: Any, adapter: AdapterFile) -> None:
        import onnxruntime

        self.base = base
        self._weights = onnxruntime.LoraAdapter()
        self._weights.Load(str(adapter.path))
        self._active = onnxruntime.RunOptions()
        self._active.add_active_adapter(self._weights)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.log_severity_level = 4
        try:
            self._head = onnxruntime.InferenceSession(
                adapter.head, options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # of ONNX Runtime, which has a class for each code
            reason = first_line(error)
            raise IntegrityError(f"{adapter.path}: the head cannot be loaded: {reason}") from error

    def run(self, outputs: Sequence[str] | None, feed: Mapping[str, Any]) -> list[Any]:
        """Return the outputs of the head by name, all of them for None; as a session does."""
        [hidden] = self.base.run([HIDDEN], feed, self._active)
        answers: list[Any] = self._head.run(outputs, {HIDDEN: hidden})
        return answers

    def get_inputs(self) -> list[Any]:
        """Return the inputs that a call needs: those of the base that no adapter gives."""
        inputs: list[Any] = self.base.get_inputs()
        return inputs

    def get_outputs(self) -> list[Any]:
        """Return the outputs of the head."""
        outputs: list[Any] = self._head.get_outputs()
        return outputs
