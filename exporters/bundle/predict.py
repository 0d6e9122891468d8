"""The model in this folder, for Python programs and for the command line.

    from predict import Model

    model = Model()
    model("some text")
    model(["a text", "another text"])

``python predict.py "some text"`` prints JSON. Its input: texts as arguments, or a JSON object
``{"texts": [...], "pairs": [...] or null}`` on stdin. Its output: one prediction for each.

Requires only onnxruntime or openvino, tokenizers and numpy. Two files beside this one differ
between bundles: ``predict_session.py`` opens the graph, and ``predict_task.py`` makes a prediction
of the graph's outputs.

If ``adapter.onnx_adapter`` is beside them, the graph is a base for several tasks: it answers
another one with its adapter, ``model.with_adapter(path)`` or ``python predict.py --adapter PATH``.
"""

import copy
import json
import mmap
import os
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from tokenizers import Tokenizer

HERE = Path(__file__).resolve().parent
ROWS = 32
"""Windows that run at once."""
INPUTS = {
    "input_ids": "ids",
    "attention_mask": "attention_mask",
    "token_type_ids": "type_ids",
}
"""An input of the graph -> the attribute of an encoding that it is made of."""
TOKENIZER_KEYS = ("max_length", "truncation_side", "words", "windows")
"""What of a signature the tokenizer depends on."""
FORM = 'give {"texts": [...], "pairs": [...] or null}'


class Model:
    """A bundle, loaded once; threads may call it at the same time."""

    def __init__(self, folder: Path | str = HERE) -> None:
        """Load a bundle.

        Args:
            folder: the bundle's; by default the one with this file.

        Raises:
            RuntimeError: the bundle would give wrong answers here: on this CPU, in this version of
                ONNX Runtime or on another provider.
        """
        self.folder = Path(folder)
        config = self._read("config.json")
        signature = self._read("signature.json")
        self.base: str | None = signature.get("base")
        self.tokenizer_form: dict[str, Any] = {}
        self.session: Any = self._module("predict_session.py").open_session(self.folder)
        self.inputs = [value.name for value in self.session.get_inputs()]
        if self.base:
            self._take_adapter(self.folder / signature["adapter"])
        else:
            self._take_task("predict_task.py", config, signature)

    def with_adapter(self, path: Path | str) -> "Model":
        """Return a model that answers the task of an adapter; both share this one's graph.

        Raises ValueError if the bundle takes no adapters, or not this one.
        """
        if not self.base:
            raise ValueError("this bundle takes no adapters")
        model = copy.copy(self)
        model.session = self.session.session
        model._take_adapter(Path(path))
        return model

    def _take_adapter(self, path: Path) -> None:
        """Answer by an adapter's file."""
        adapted = self._module("predict_adapter.py").Adapted(self.session, path, self.base)
        self.session = adapted
        self._take_task(adapted.program, adapted.config, adapted.signature)

    def _take_task(self, program: str, config: dict[str, Any], signature: dict[str, Any]) -> None:
        """Answer a task, whose file is ``program``, with these labels and texts of this form."""
        self.config = config
        self.in_pairs: bool = signature.get("pairs", False)
        self.in_words: bool = signature.get("words", False)
        self.in_windows: bool = self.in_words or signature.get("windows", False)
        self.task: Any = self._module(program)
        form = {key: signature.get(key) for key in TOKENIZER_KEYS}
        if form != self.tokenizer_form:  # adapters that read alike share a tokenizer
            self.tokenizer_form = form
            self._open_tokenizer(signature)

    def _open_tokenizer(self, signature: dict[str, Any]) -> None:
        """Load the tokenizer, for texts of a signature's form and length."""
        self.tokenizer: Any = Tokenizer.from_file(str(self.folder / "tokenizer.json"))
        self.tokenizer.no_padding()
        self.overlap = 0
        self.padding = 0
        length = signature["max_length"]
        if self.in_windows:  # they overlap by half
            special = self.tokenizer.num_special_tokens_to_add(False)
            self.overlap = (length - special) // 2
            self.tokenizer.enable_truncation(length, stride=self.overlap)
        else:
            side = signature.get("truncation_side", "right")
            self.tokenizer.enable_truncation(length, direction=side)
        if not self.in_words:  # windows of words are padded with 0, as when they were measured
            token = self._read("tokenizer_config.json").get("pad_token") or ""
            self.padding = self.tokenizer.token_to_id(token) or 0

    def __call__(self, texts: Any, pairs: Any = None) -> Any:
        """Return the prediction for a text, or a list of them for a list of texts.

        Args:
            texts: a string, or a list of strings; of a bundle that reads words, the list may have
                lists of words.
            pairs: the second texts, if the bundle reads pairs: a string, or a list as long.

        Returns:
            A dict for each text, as ``python predict.py`` prints it.

        Raises:
            ValueError: something cannot be answered: it is no text, has no tokens, or has no pair.
        """
        if isinstance(texts, str):
            if pairs is not None:
                pairs = [pairs]
            return self([texts], pairs)[0]
        self._check(texts, pairs)
        if self.in_words:
            return self.task.answer_words(texts, self.config, self._compute, self.overlap)
        predictions = []
        for number, text in enumerate(texts):
            row: tuple[str, ...] = (text,)
            if pairs is not None:
                row = (text, pairs[number])
            _, outputs = self._compute(*row)
            output = outputs[0]
            if len(outputs) > 1:
                output = outputs.mean(axis=0)
            predictions.append(self.task.describe(output, self.config))
        return predictions

    def _check(self, texts: Any, pairs: Any) -> None:
        """Raise ValueError if these are not rows that the bundle reads."""
        self._check_pairs(texts, pairs)
        strings = list(pairs or [])
        for text in texts:
            if self.in_words and isinstance(text, list | tuple):
                strings.extend(text)
            else:
                strings.append(text)
        for string in strings:
            if not isinstance(string, str):
                words = " or a list of words" if self.in_words else ""
                raise ValueError(f"a text is a string{words}, not {string!r:.60}")
            try:
                string.encode()
            except UnicodeEncodeError:
                raise ValueError("a text is not valid Unicode; write it in UTF-8") from None

    def _check_pairs(self, texts: Any, pairs: Any) -> None:
        """Raise ValueError if these are no lists, or no pairs for a bundle that reads pairs."""
        for rows in (texts, [] if pairs is None else pairs):
            if not isinstance(rows, list | tuple):
                raise ValueError(f"give a text or a list of texts, not {rows!r:.60}")
        if pairs is None:
            if self.in_pairs:
                raise ValueError(
                    "this bundle reads pairs of texts: model(text, pair); "
                    'on stdin {"texts": [...], "pairs": [...]}'
                )
            return
        if not self.in_pairs:
            how = ""
            if self.in_words:
                how = " in words"
            elif self.in_windows:
                how = " in windows"
            raise ValueError(f"this bundle reads single texts{how}, not pairs of texts")
        if len(pairs) != len(texts):
            raise ValueError(
                f"each text needs one pair; there are {len(texts)} texts, {len(pairs)} pairs"
            )

    def _compute(self, *strings: str) -> tuple[list[Any], Any]:
        """Return the windows of a text or a pair, and the graph's outputs (windows, …)."""
        encoding = self.tokenizer.encode(*strings)
        if not encoding.ids:
            raise ValueError(
                f"the text {strings[0]!r:.60} has no tokens, so there is no prediction"
            )
        windows = [encoding]
        if self.in_windows:
            windows += encoding.overflowing
        return windows, self._run(windows)

    def _run(self, windows: list[Any]) -> Any:
        """Return the graph's outputs for the windows of a text.

        They run 32 at a time, which bounds memory.
        """
        feed = self._padded(windows)
        if len(windows) <= ROWS or self._has(b"DynamicQuantize"):
            # With ranges found at run time, a window's output depends on those beside it.
            return self.session.run(None, feed)[0]
        outputs = []
        for at in range(0, len(windows), ROWS):
            part = {name: rows[at : at + ROWS] for name, rows in feed.items()}
            outputs.append(self.session.run(None, part)[0])
        return np.concatenate(outputs)

    def _padded(self, windows: list[Any]) -> dict[str, Any]:
        """Return the graph's inputs by name, each int64 (windows, tokens), padded on the right."""
        width = max(len(window) for window in windows)
        feed = {}
        for name in self.inputs:
            fill = 0
            if name == "input_ids":
                fill = self.padding
            rows = []
            for window in windows:
                row = getattr(window, INPUTS[name])
                rows.append(row + [fill] * (width - len(row)))
            feed[name] = np.array(rows, np.int64)
        return feed

    def _has(self, operator: bytes) -> bool:
        """Return whether the graph has an operator whose name begins so."""
        with (
            (self.folder / "model.onnx").open("rb") as file,
            mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as graph,
        ):
            return graph.find(operator) >= 0

    def _read(self, name: str) -> Any:
        """Read a JSON file of the bundle."""
        return json.loads((self.folder / name).read_text(encoding="utf-8"))

    def _module(self, name: str) -> Any:
        """Return the module in a file of the bundle.

        It is not imported by its name: one process may load several bundles, and nothing is written
        into their folders.
        """
        path = self.folder / name
        module = ModuleType(path.stem)
        code = compile(path.read_bytes(), str(path), "exec")
        exec(code, vars(module))  # noqa: S102
        return module


def received(arguments: list[str]) -> tuple[list[Any], list[Any] | None]:
    """Return the texts and pairs of a request: the arguments as texts, or the JSON on stdin."""
    if len(arguments) == 1 and os.path.isfile(arguments[0]):  # noqa: PTH113 (Path raises)
        raise ValueError(f"{arguments[0]} is a file, not a text; on stdin, {FORM}")
    if arguments:
        return arguments, None
    try:
        request = json.loads(sys.stdin.buffer.read())
    except (ValueError, RecursionError) as error:
        raise ValueError(f"stdin is not JSON in UTF-8: {error}; {FORM}") from None
    if not isinstance(request, dict):
        raise ValueError(FORM)
    texts = request.get("texts")
    pairs = request.get("pairs")
    if not isinstance(texts, list) or not isinstance(pairs, list | None):
        raise ValueError(FORM)
    return texts, pairs


def main() -> None:
    """Read a request and print its predictions, in UTF-8 whatever the locale.

    Exits with one line if it cannot be answered.
    """
    arguments = sys.argv[1:]
    if arguments in (["-h"], ["--help"]):
        print(__doc__)
        return
    adapter = None
    if arguments[:1] == ["--adapter"] and len(arguments) > 1:
        adapter = arguments[1]
        arguments = arguments[2:]
    try:
        request = received(arguments)
        model = Model()
        if adapter:
            model = model.with_adapter(adapter)
        predictions = model(*request)
    except (RuntimeError, ValueError) as error:
        sys.exit(str(error))
    text = json.dumps({"predictions": predictions}, ensure_ascii=False, indent=2)
    sys.stdout.buffer.write(text.encode() + b"\n")


if __name__ == "__main__":
    main()
