"""What it saves to tokenize no more of a long text than a model reads.

    python -m benchmarks.long_texts --home DIR

2,600 e-mails (``benchmarks.corpora``; DIR keeps them) are tokenized one by one as a server gets
them, whole and by ``windows.encode_beginnings``, in turn and in a random order, for models that
read 64 to 512 tokens. Under a minute.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from tokenizers import Tokenizer

from benchmarks import corpora
from benchmarks.record import Claim, finish
from benchmarks.students import MINILM
from pipeline.model import sources, windows

LENGTHS = (64, 128, 256, 512)
SHOWN = 128
ROUNDS = 3
SEED = 0
LEAST = 2.0


def compared(tokenizer: Any, texts: list[str], length: int) -> dict[str, Any]:
    """Return how many texts have other tokens, and the ms of a text: the median of the rounds."""
    tokenizer.enable_truncation(length)
    ways = {
        "whole": tokenizer.encode_batch,
        "beginning": partial(windows.encode, tokenizer, max_length=length),
    }
    whole, begun = (way(texts) for way in ways.values())
    differ = sum(one.ids != other.ids for one, other in zip(whole, begun, strict=True))
    random = np.random.default_rng(SEED)
    rounds: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(ROUNDS):
        spent = dict.fromkeys(ways, 0.0)
        for text in random.permutation(np.array(texts, object)):
            for name in random.permutation(list(ways)):
                before = time.perf_counter()
                ways[name]([text])
                spent[name] += time.perf_counter() - before
        for name, seconds in spent.items():
            rounds[name].append(1e3 * seconds / len(texts))
    ms = {name: float(np.median(values)) for name, values in rounds.items()}
    return {
        "tokens": length,
        "texts": len(texts),
        "differ": differ,
        "ms_whole": ms["whole"],
        "ms_beginning": ms["beginning"],
        "faster": ms["whole"] / ms["beginning"],
    }


def claims(rows: list[dict[str, Any]]) -> list[Claim]:
    """Return what must be shown."""
    differ = sum(row["differ"] for row in rows)
    (shown,) = (row for row in rows if row["tokens"] == SHOWN)
    return [
        Claim(
            f"{rows[0]['texts']:,} e-mails, cut to {', '.join(map(str, LENGTHS))} tokens",
            "the same tokens",
            f"{differ} differ",
            differ == 0,
        ),
        Claim(
            f"an e-mail cut to {SHOWN} tokens is tokenized faster",
            f"at least {LEAST:g}×",
            f"{shown['faster']:.1f}×: {shown['ms_beginning']:.2f} ms instead of "
            f"{shown['ms_whole']:.2f} ms",
            shown["faster"] >= LEAST,
        ),
    ]


def main() -> int:
    """Tokenize both ways for each length; write the record."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--home", type=Path, required=True, help="folder for the e-mails")
    folder = corpora.prepare("mails", parser.parse_args().home.resolve() / "data" / "mails")
    lines = (folder / "eval.jsonl").read_text().splitlines()
    texts = [json.loads(line)["text"] for line in lines]
    directory, _ = sources.model_directory(MINILM, Path())
    tokenizer = Tokenizer.from_file(str(directory / "tokenizer.json"))
    tokenizer.no_padding()
    rows = [compared(tokenizer, texts, length) for length in LENGTHS]
    return finish("long_texts", rows, claims(rows), seed=SEED)


if __name__ == "__main__":
    sys.exit(main())
