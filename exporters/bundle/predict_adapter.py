"""Run a bundle's graph with an adapter that is a file; see ``Adapted``."""

import hashlib
import json
from pathlib import Path
from typing import Any

import onnxruntime

SCHEMA = "rarefy.adapter/1"
HIDDEN = "hidden_states"
TASKS = {
    "text-classification": "task_text_classification.py",
    "multi-label-classification": "task_multi_label_classification.py",
    "regression": "task_regression.py",
    "token-classification": "task_token_classification.py",
}
"""A task -> the file of a bundle that makes its answers."""


class Adapted:
    """A session of a base with one adapter active, and the head in the adapter's file.

    Any number of these share the session. ``config`` and ``signature`` are the adapter's own, and
    ``program`` is the file that makes its answers.
    """

    def __init__(self, session: Any, path: Path, base: str) -> None:
        """Load an adapter.

        Args:
            session: of the base.
            path: the adapter's file.
            base: the digest of the base.

        Raises:
            ValueError: there is no such adapter, it is damaged or for another base.
        """
        if not path.is_file():
            raise ValueError(f"{path}: no such adapter")
        arrays = read(path)
        facts = json.loads(arrays["facts"].tobytes())
        self.config: dict[str, Any] = facts["config"]
        self.signature: dict[str, Any] = facts["signature"]
        self.program = TASKS[facts["answers_like"]]
        if self.signature["base"] != base:
            raise ValueError(f"{path}: this adapter is for another base")
        self.session = session
        self.weights = onnxruntime.LoraAdapter()
        self.weights.Load(str(path))
        self.active = onnxruntime.RunOptions()
        self.active.add_active_adapter(self.weights)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.log_severity_level = 3
        head = arrays["head"].tobytes()
        providers = ["CPUExecutionProvider"]
        self.head = onnxruntime.InferenceSession(head, options, providers=providers)

    def run(self, outputs: Any, feed: dict[str, Any]) -> list[Any]:
        """Return the head's outputs for the inputs of the base."""
        [hidden] = self.session.run([HIDDEN], feed, self.active)
        answers: list[Any] = self.head.run(outputs, {HIDDEN: hidden})
        return answers


def read(path: Path) -> dict[str, Any]:
    """Return the arrays of an adapter's file by name.

    Raises ValueError if it is damaged, or not of rarefy.
    """
    try:
        file = onnxruntime.AdapterFormat.read_adapter(str(path))
        stored = file.get_parameters()
    except RuntimeError:  # whose text is of the library's source
        raise ValueError(f"{path}: not an adapter, or damaged") from None
    arrays = {}
    for name, value in stored.items():
        arrays[name] = value.numpy().copy()  # or it would be the file's, which is not kept
    if "facts" not in arrays:
        raise ValueError(f"{path}: not an adapter of rarefy")
    facts = json.loads(arrays["facts"].tobytes())
    if facts["schema"] != SCHEMA:
        raise ValueError(f"{path}: this adapter is of another version of rarefy")
    if facts["sha256"] != digest(arrays):
        raise ValueError(f"{path}: the adapter is damaged")
    return arrays


def digest(arrays: dict[str, Any]) -> str:
    """Return the sha256 of an adapter's arrays but its facts, which have it."""
    hashed = hashlib.sha256()
    for name in sorted(arrays):
        if name == "facts":
            continue
        array = arrays[name]
        title = f"{name} {array.shape} "
        hashed.update(title.encode())
        hashed.update(array.tobytes())
    return hashed.hexdigest()
