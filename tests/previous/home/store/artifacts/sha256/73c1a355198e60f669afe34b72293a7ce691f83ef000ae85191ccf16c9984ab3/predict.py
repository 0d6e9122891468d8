"""Run the model in this folder: ``python predict.py "some text"`` prints JSON.

Requires only onnxruntime or openvino, tokenizers and numpy. Input: texts as arguments, or a JSON
object ``{"texts": [...], "pairs": [...] or null}`` on stdin. Output: one answer for each.

Two files beside this one differ between bundles: ``predict_session.py`` opens the graph, and
``predict_task.py`` makes an answer of the graph's outputs.
"""

import functools
import json
import mmap
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from tokenizers import Tokenizer

HERE = Path(__file__).resolve().parent
ROWS = 32
"""Windows that run at once."""


def read(name: str) -> Any:
    """Read a JSON file of the bundle."""
    return json.loads((HERE / name).read_text(encoding="utf-8"))


@functools.cache
def beside(name: str) -> Any:
    """Return the module in a file of the bundle.

    It is not imported by its name: one process may load several bundles, and nothing is written
    into their folders.
    """
    path = HERE / name
    module = ModuleType(path.stem)
    code = compile(path.read_bytes(), str(path), "exec")
    exec(code, vars(module))  # noqa: S102
    return module


def load() -> tuple[Any, Any]:
    """Load the session and the tokenizer."""
    signature = read("signature.json")
    session = beside("predict_session.py").open_session(HERE, has)
    tokenizer = Tokenizer.from_file(str(HERE / "tokenizer.json"))
    tokenizer.no_padding()
    side = signature.get("truncation_side", "right")
    tokenizer.enable_truncation(signature["max_length"], direction=side)
    return session, tokenizer


def has(operator: bytes) -> bool:
    """Return whether the graph has an operator whose name begins so."""
    with (
        (HERE / "model.onnx").open("rb") as file,
        mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as graph,
    ):
        return graph.find(operator) >= 0


def overlap(tokenizer: Any) -> int:
    """Let long texts be read in windows that overlap by half; return by how many tokens."""
    length = read("signature.json")["max_length"]
    shared: int = (length - tokenizer.num_special_tokens_to_add(False)) // 2
    tokenizer.enable_truncation(length, stride=shared)
    return shared


def encoded(tokenizer: Any, *text: str) -> Any:
    """Return the encoding of a text or a pair; exit with one line if it has no tokens."""
    encoding = tokenizer.encode(*text)
    if not encoding.ids:
        sys.exit(f"the text {text[0]!r:.60} has no tokens, so it cannot be answered")
    return encoding


def run(session: Any, windows: list[Any], padding: int = 0) -> Any:
    """Return the graph's output for the windows of a text, which are padded on the right.

    They run 32 at a time, which bounds memory.
    """
    feed = padded(windows, [value.name for value in session.get_inputs()], padding)
    # With ranges found at run time, a window's output depends on those beside it.
    together = len(windows) > ROWS and has(b"DynamicQuantize")
    step = ROWS
    if together:
        step = len(windows)
    outputs = []
    for at in range(0, len(windows), step):
        part = {name: rows[at : at + step] for name, rows in feed.items()}
        outputs.append(session.run(None, part)[0])
    return np.concatenate(outputs)


def padded(windows: list[Any], names: list[str], padding: int) -> dict[str, Any]:
    """Return the graph's inputs by name, each an array of int64 (windows, tokens)."""
    width = max(len(window.ids) for window in windows)
    attributes = {"input_ids": "ids", "token_type_ids": "type_ids"}
    feed = {}
    for name in names:
        fill = 0
        if name == "input_ids":
            fill = padding
        rows = []
        for window in windows:
            row = getattr(window, attributes.get(name, name))
            rows.append(row + [fill] * (width - len(row)))
        feed[name] = np.array(rows, np.int64)
    return feed


def received() -> Any:
    """Return the request: the arguments as texts, or the JSON on stdin."""
    if sys.argv[1:]:
        return {"texts": sys.argv[1:]}
    try:
        return json.loads(sys.stdin.buffer.read())
    except (ValueError, RecursionError) as error:
        sys.exit(f"stdin is not JSON in UTF-8: {error}")


def checked(request: Any) -> tuple[list[Any], list[str] | None]:
    """Return the texts and pairs of a request; exit with one line if they cannot be answered."""
    if not isinstance(request, dict):
        request = {}
    texts = request.get("texts")
    pairs = request.get("pairs")
    in_words = read("signature.json").get("words", False)
    form = 'give {"texts": [...], "pairs": [...] or null}; a text is a string'
    if in_words:
        form += " or a list of words"
    if not isinstance(texts, list) or not isinstance(pairs, list | None):
        sys.exit(form)
    strings = list(pairs or [])
    for text in texts:
        strings += text if in_words and isinstance(text, list) else [text]
    if not all(isinstance(text, str) for text in strings):
        sys.exit(form)
    if pairs is not None and len(pairs) != len(texts):
        sys.exit(
            f"each text needs one pair; the request has {len(texts)} texts, {len(pairs)} pairs"
        )
    try:
        "".join(strings).encode()
    except UnicodeEncodeError:
        sys.exit("a text is not valid Unicode; write it in UTF-8")
    return texts, pairs


def refuse(pairs: list[str] | None, signature: dict[str, Any]) -> None:
    """Exit with one line if the bundle reads pairs and there are none, or single texts only."""
    if pairs is None:
        if signature.get("pairs"):
            form = 'give {"texts": [...], "pairs": [...]} on stdin'
            sys.exit(f"this bundle reads pairs of texts; {form}")
        return
    for key, how in (("words", " in words"), ("windows", " in windows")):
        if signature.get(key):
            sys.exit(f"this bundle reads single texts{how}, not pairs of texts")
    if not signature.get("pairs"):
        sys.exit("this bundle reads single texts, not pairs of texts")


def answer(texts: list[Any], pairs: list[str] | None = None) -> list[dict[str, Any]]:
    """Return one answer for each text, or for each text with its pair."""
    signature = read("signature.json")
    config = read("config.json")
    refuse(pairs, signature)
    session, tokenizer = load()
    task = beside("predict_task.py")
    in_words = signature.get("words", False)
    in_windows = in_words or signature.get("windows", False)
    shared = padding = 0
    if in_windows:
        shared = overlap(tokenizer)
    if not in_words:  # windows of words are filled up with 0, as when the bundle was measured
        padding = tokenizer.token_to_id(read("tokenizer_config.json").get("pad_token", "")) or 0

    def compute(*strings: str) -> tuple[list[Any], Any]:
        """Return the windows of a text or a pair, and the graph's output for each of them."""
        encoding = encoded(tokenizer, *strings)
        windows = [encoding]
        if in_windows:
            windows += encoding.overflowing
        return windows, run(session, windows, padding)

    if in_words:
        answers: list[dict[str, Any]] = task.answer_words(texts, config, compute, shared)
        return answers
    answers = []
    for row in zip(texts, strict=True) if pairs is None else zip(texts, pairs, strict=True):
        _, outputs = compute(*row)
        answers.append(task.describe(outputs.mean(axis=0), config))
    return answers


def main() -> None:
    """Read the request and print the answers, in UTF-8 whatever the locale."""
    answers = answer(*checked(received()))
    text = json.dumps({"predictions": answers}, ensure_ascii=False, indent=2)
    sys.stdout.buffer.write(text.encode() + b"\n")


if __name__ == "__main__":
    main()
