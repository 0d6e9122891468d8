"""Run the model in this folder: ``python predict.py "some text"`` prints JSON.

Requires only onnxruntime, tokenizers and numpy. Input: texts as arguments, or a JSON object
``{"texts": [...], "pairs": [...] or null}`` on stdin. Output: one answer for each.
"""

import base64
import contextlib
import importlib
import json
import mmap
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from tokenizers import Tokenizer

HERE = Path(__file__).resolve().parent
ROWS = 32
"""Windows that run at once."""
PROBE = (
    "CAg6YgoYCgFhCgFiEgF5Ig1NYXRNdWxJbnRlZ2VyEgFnWhUKAWESEAoOCAISCgoDEgFtCgMSAWtaFQoBYhIQCg4IAxIKCgMS"
    "AWsKAxIBbmIVCgF5EhAKDggGEgoKAxIBbQoDEgFuQgQKABAR"
)
"""An ONNX model of one node, ``y = MatMulInteger(a, b)``, in base64."""


def read(name: str) -> Any:
    """Read a JSON file of the bundle."""
    return json.loads((HERE / name).read_text(encoding="utf-8"))


def exact() -> bool:
    """Return whether this CPU computes int8 products exactly: x86 without VNNI does not."""
    session = onnxruntime.InferenceSession(
        base64.b64decode(PROBE), providers=["CPUExecutionProvider"]
    )
    one, other = np.full((1, 64), 255, np.uint8), np.full((64, 16), 127, np.int8)
    return bool((session.run(None, {"a": one, "b": other})[0] == 255 * 127 * 64).all())


def load() -> tuple[Any, Any]:
    """Load the session and the tokenizer."""
    if read("signature.json").get("isa") == "vnni" and not exact():
        sys.exit(
            "this bundle was made for CPUs with VNNI (isa: vnni), and gives wrong answers on this "
            "one; export it for a target without isa"
        )
    version = tuple(int(number) for number in onnxruntime.__version__.split(".")[:2])
    if has(b"GatherBlockQuantized") and version < (1, 28):
        sys.exit(
            f"onnxruntime {onnxruntime.__version__} misreads this bundle's 4-bit embeddings; "
            "install a later one: pip install 'onnxruntime>=1.31'"
        )
    stored = read("session_options.json")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = stored["intra_op_num_threads"]
    options.inter_op_num_threads = 1
    level = "ORT_ENABLE_" + stored["graph_optimization_level"].upper()
    options.graph_optimization_level = getattr(onnxruntime.GraphOptimizationLevel, level)
    options.log_severity_level = 3
    if stored["providers"][0] != "CPUExecutionProvider":
        with contextlib.redirect_stdout(sys.stderr):  # it prints load failures
            onnxruntime.preload_dlls()
        if stored["providers"][0] == "TensorrtExecutionProvider":
            with contextlib.suppress(ImportError):
                importlib.import_module("tensorrt_libs")  # loads it from where pip has put it
    # ONNX Runtime's own fallback prints to stdout and moves to the CPU, now or later.
    session = onnxruntime.InferenceSession(
        str(HERE / "model.onnx"),
        options,
        providers=stored["providers"],
        provider_options=stored.get("provider_options"),
        enable_fallback=0,
    )
    if session.get_providers()[0] != stored["providers"][0]:
        sys.exit(
            f"{stored['providers'][0]} is not active: the session would run on another provider"
        )
    tokenizer = Tokenizer.from_file(str(HERE / "tokenizer.json"))
    tokenizer.no_padding()
    signature = read("signature.json")
    side = signature.get("truncation_side", "right")
    tokenizer.enable_truncation(signature["max_length"], direction=side)
    return session, tokenizer


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


def run(session: Any, parts: list[Any], padding: int = 0) -> Any:
    """Return the graph's output for the windows of a text, which are padded on the right.

    They run 32 at a time, which bounds memory.
    """
    width = max(len(part.ids) for part in parts)
    feed = {}
    for name in [value.name for value in session.get_inputs()]:
        key = {"input_ids": "ids", "token_type_ids": "type_ids"}.get(name, name)
        fill = padding if name == "input_ids" else 0
        rows = [getattr(part, key) for part in parts]
        feed[name] = np.array([row + [fill] * (width - len(row)) for row in rows], np.int64)
    # With ranges found at run time, a window's output depends on those beside it.
    step = len(parts) if len(parts) > ROWS and has(b"DynamicQuantize") else ROWS
    outputs = [
        session.run(None, {name: rows[at : at + step] for name, rows in feed.items()})[0]
        for at in range(0, len(parts), step)
    ]
    return np.concatenate(outputs)


def has(operator: bytes) -> bool:
    """Return whether the graph has an operator whose name begins so."""
    with (
        (HERE / "model.onnx").open("rb") as file,
        mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as graph,
    ):
        return graph.find(operator) >= 0


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
    request = request if isinstance(request, dict) else {}
    texts, pairs = request.get("texts"), request.get("pairs")
    in_words = read("signature.json").get("words", False)
    form = 'give {"texts": [...], "pairs": [...] or null}; a text is a string'
    form += " or a list of words" if in_words else ""
    if not isinstance(texts, list) or not isinstance(pairs, list | None):
        sys.exit(form)
    given = [[*row] if in_words and isinstance(row, list) else [row] for row in texts]
    strings = [text for row in [*given, pairs or []] for text in row]
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


# The answer of one row, for text-classification.
def described(outputs: Any, encoding: Any, config: dict[str, Any]) -> dict[str, Any]:
    """Return {"label", "probabilities"} from a row's logits (1 × labels)."""
    names = config["id2label"]
    labels = [names[str(index)] for index in range(len(names))]
    logits = outputs[0].astype(np.float64)
    powers = np.exp(logits - logits.max())
    shares = (powers / powers.sum()).round(6).tolist()
    best = labels[int(np.argmax(logits))]
    return {"label": best, "probabilities": dict(zip(labels, shares, strict=True))}


# End of the answer.
def answer(texts: list[str], pairs: list[str] | None = None) -> list[dict[str, Any]]:
    """Return one answer for each text, or for each text with its pair."""
    session, tokenizer = load()
    config, signature = read("config.json"), read("signature.json")
    in_windows = signature.get("windows", False)
    if in_windows and pairs is not None:
        sys.exit("this bundle reads single texts in windows, not pairs of texts")
    if pairs is not None and not signature.get("pairs"):
        sys.exit("this bundle reads single texts, not pairs of texts")
    if pairs is None and signature.get("pairs"):
        sys.exit('this bundle reads pairs of texts; give {"texts": [...], "pairs": [...]} on stdin')
    if in_windows:
        overlap(tokenizer)
    padding = tokenizer.token_to_id(read("tokenizer_config.json").get("pad_token", "")) or 0
    answers = []
    for row in texts if pairs is None else zip(texts, pairs, strict=True):
        encoding = encoded(tokenizer, *([row] if isinstance(row, str) else row))
        parts = [encoding, *encoding.overflowing] if in_windows else [encoding]
        outputs = run(session, parts, padding).mean(axis=0, keepdims=True)
        answers.append(described(outputs, encoding, config))
    return answers


def main() -> None:
    """Read the request and print the answers, in UTF-8 whatever the locale."""
    answers = answer(*checked(received()))
    text = json.dumps({"predictions": answers}, ensure_ascii=False, indent=2)
    sys.stdout.buffer.write(text.encode() + b"\n")


if __name__ == "__main__":
    main()
