"""The tokenizer of a bundle as a model of Triton's Python backend: texts in, token ids out.

Requires only tokenizers and numpy, besides what the server gives.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
import triton_python_backend_utils as pb_utils
from tokenizers import Tokenizer

NAMES = {"input_ids": "ids", "token_type_ids": "type_ids"}


class TritonPythonModel:
    """Tokenize the texts of each request, padded to the longest of them."""

    def initialize(self, args: dict[str, str]) -> None:
        """Load the tokenizer from this version's folder."""
        folder = Path(args["model_repository"]) / args["model_version"]
        settings = json.loads((folder / "settings.json").read_text(encoding="utf-8"))
        self.inputs = settings["inputs"]
        self.pairs = settings["pairs"]
        self.tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        side = settings["truncation_side"]
        self.tokenizer.enable_truncation(settings["max_length"], direction=side)
        padding = self.tokenizer.token_to_id(settings["pad_token"]) or 0
        self.tokenizer.enable_padding(pad_id=padding, pad_token=settings["pad_token"])

    def execute(self, requests: list[Any]) -> list[Any]:
        """Return one response for each request; one that cannot be read gets an error."""
        responses = []
        for request in requests:
            try:
                responses.append(pb_utils.InferenceResponse(self.tensors(request)))
            except Exception as error:
                problem = pb_utils.TritonError(f"{type(error).__name__}: {error}")
                responses.append(pb_utils.InferenceResponse([], problem))
        return responses

    def tensors(self, request: Any) -> list[Any]:
        """Return the inputs of the model for a request's texts."""
        rows = texts(request, "TEXT")
        if self.pairs:
            rows = list(zip(rows, texts(request, "PAIR"), strict=True))
        encoded = self.tokenizer.encode_batch(rows)
        for encoding in encoded:
            if not any(encoding.attention_mask):  # all of it would be padding
                raise ValueError("a text has no tokens, so there is no prediction")
        tensors = []
        for name in self.inputs:
            attribute = NAMES.get(name, name)
            ids = np.array([getattr(encoding, attribute) for encoding in encoded], np.int64)
            tensors.append(pb_utils.Tensor(name, ids))
        return tensors


def texts(request: Any, name: str) -> list[Any]:
    """Return the texts of a tensor of bytes, batch × 1."""
    tensor = pb_utils.get_input_tensor_by_name(request, name)
    return [text.decode("utf-8") for text in tensor.as_numpy().reshape(-1)]
