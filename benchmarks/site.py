"""The documentation site: whether it builds, its words by page, and its prose before and after.

    python -m benchmarks.site [--zensical PATH]

The site is built with every link checked, by the Zensical of ``make docs``. Sentences, semicolons
and brackets are measured by ``tests.prose``, on the pages of today and of the commit before them.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

from benchmarks import record
from benchmarks.record import Claim
from tests import prose

ROOT = Path(__file__).parents[1]
BEFORE = "044cb820"
"""The last commit before the pages of a site."""
OLD_GENERATED = "docs/recipe.md"
WORDS = 21_000


def old_pages() -> dict[str, str]:
    """Return the pages of the commit before, but for its one generated page."""
    names = _git("ls-tree", "-r", "--name-only", BEFORE, "docs", "README.md", "CONTRIBUTING.md")
    pages = [name for name in names.split() if name.endswith(".md") and name != OLD_GENERATED]
    return {name: _git("show", f"{BEFORE}:{name}") for name in pages}


def _git(*words: str) -> str:
    done = subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True, check=True)
    return done.stdout


def words(text: str) -> int:
    """Return the number of words of a page, tables and headings included, blocks left out."""
    parts = prose.CODE_BLOCK.sub("", text).split()
    return sum(any(map(str.isalnum, part)) for part in parts)


def build(zensical: str) -> tuple[int, str]:
    """Return the exit code of a strict build, and its last line."""
    command = [zensical, "build", "--strict", "--clean"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    lines = (done.stdout + done.stderr).strip().splitlines()
    return done.returncode, lines[-1] if lines else ""


def claims(exit_code: int, said: str, before: str, after: str) -> list[Claim]:
    """Return the claims on the build, the words and the measures of all prose."""
    count = sum(words(text) for name, text in prose.pages().items() if "decisions" not in name)
    old = sum(words(text) for name, text in old_pages().items() if "decisions" not in name)
    then, now = prose.measure(before), prose.measure(after)
    aim = asdict(prose.AIM)
    made = [
        Claim("the site builds, with every link checked", "no warning", said, exit_code == 0),
        Claim(
            "words written by hand, decisions left out",
            f"at most {WORDS:,}",
            f"{old:,} → {count:,}",
            count <= WORDS,
        ),
    ]
    for name, value in asdict(now).items():
        measured = f"{asdict(then)[name]:g} → {value:g}"
        made.append(
            Claim(f"all prose: {name}", f"at most {aim[name]:g}", measured, value <= aim[name])
        )
    return made


def rows(pages: Mapping[str, str]) -> list[dict[str, object]]:
    """Return the words and the measures of each page."""
    return [
        {"page": name, "words": words(text), **asdict(prose.measure(text))}
        for name, text in pages.items()
    ]


def main() -> int:
    """Measure, print and record."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--zensical", default=str(ROOT / ".venv-docs/bin/zensical"))
    options = parser.parse_args()
    exit_code, said = build(options.zensical)
    before = "\n\n".join(old_pages().values())
    after = "\n\n".join(prose.pages().values())
    return record.finish("site", rows(prose.pages()), claims(exit_code, said, before, after), 0)


if __name__ == "__main__":
    sys.exit(main())
