"""Write the pages of docs/benchmarks from the records in benchmarks/results.

python -m benchmarks.tables
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks import record

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks/results"
FOLDER = ROOT / "docs/benchmarks"
OUTCOMES = {True: "yes", False: "no", None: "undecided"}
INTRODUCTION = """# Benchmarks

These pages are generated from the records in `benchmarks/results`. Each claim names its target,
the measured value, and whether it holds. A claim is *undecided* if its interval contains the
target. Claims that do not hold are listed as well.

A record states its script, its date, and the CPU and commit at which its rows were measured: not
always the same ones. `python -m benchmarks.NAME` repeats the measurement on your machine. Some
older records have no script any more.

"""


@dataclass(frozen=True)
class Page:
    """A page: its file name, its title, an introduction, and the records on it."""

    name: str
    title: str
    about: str
    records: tuple[str, ...]


PAGES = (
    Page(
        "demo-and-tasks",
        "Demo and tasks",
        "The demo, the examples of the five tasks, and the architectures that were tried.",
        (
            "demo",
            "demo_best",
            "tasks",
            "reach",
            "large",
            "knowledge",
            "lexicon",
            "knowledge_recipe",
        ),
    ),
    Page(
        "other-tools",
        "Other tools",
        "int8 models by rarefy, Olive, Optimum, and OpenVINO with NNCF, without retraining.",
        (
            "race",
            "peers",
            "serving_calls",
        ),
    ),
    Page(
        "students",
        "Students",
        "What students learn from, how small they get, pruning, low ranks, adapters and merging.",
        (
            "students",
            "ablation",
            "pruning",
            "repair",
            "low_rank",
            "recovery",
            "adapters",
            "adapter_bundles",
            "merging",
            "masked_words",
            "vocabulary",
            "qat",
        ),
    ),
    Page(
        "int8",
        "int8 bundles",
        "Graph passes, quantization, and the remaining overhead.",
        (
            "passes",
            "floor",
            "tried",
            "threads",
            "attention",
            "four_bits",
            "ranges",
            "chains",
            "plan_search",
            "saturation",
            "portable",
            "batches",
            "blocks",
            "long_texts",
            "opset",
        ),
    ),
    Page(
        "verdicts",
        "Verdicts",
        "How often verdicts and intervals are wrong, by simulation and by trials.",
        (
            "false_alarms",
            "power",
            "coverage",
            "coverage_tasks",
            "gates",
            "wrong_verdicts",
            "wrong_times",
            "wrong_rows",
            "queues",
        ),
    ),
    Page(
        "operations",
        "Operations",
        "Attacks on promises, remote sources, deployed runs, sweeps and large files.",
        (
            "promises",
            "hostile",
            "kills",
            "sources",
            "deployed",
            "operations",
            "sweep",
            "million",
            "beside",
            "house",
            "newcomer",
            "throughput",
            "pages",
            "site",
        ),
    ),
)
"""A record that no page lists is added to the last page."""


def texts() -> dict[str, str]:
    """Return the text of each page by its file name."""
    records = {}
    for path in sorted(RESULTS.glob("*.json")):
        text = path.read_text()
        records[path.stem] = json.loads(text)
    listed: set[str] = set()
    for page in PAGES:
        listed.update(page.records)
    others = tuple(name for name in records if name not in listed)
    written = {}
    rows = []
    for page in PAGES:
        names = page.records
        if page is PAGES[-1]:
            names += others
        shown = [records[name] for name in names if name in records]
        sections = "\n\n".join(map(_section, shown))
        file = f"{page.name}.md"
        written[file] = f"# {page.title}\n\n{page.about}\n\n{sections}\n"
        link = f"[{page.title}]({file})"
        rows.append((link, page.about, *_counts(shown)))
    head = ("page", "contents", "hold", "undecided", "do not hold")
    written["index.md"] = f"{INTRODUCTION}{_table(head, rows)}\n"
    return written


def _section(result: dict[str, Any]) -> str:
    """Return the section of one record: where it comes from, and its claims."""
    name = result["name"]
    script = f"benchmarks/{name}.py"
    shown = "a script that is gone"
    if (ROOT / script).is_file():
        shown = f"`{script}`"
    origins = []
    for (cpu, commit), count in record.origins(result).items():
        origins.append((cpu, f"`{commit[:8]}`", str(count)))
    origin = _table(("CPU", "commit", "rows"), origins)
    rows = []
    for claim in result["must_show"]:
        outcome = OUTCOMES[claim["holds"]]
        rows.append((claim["claim"], claim["target"], claim["measured"], outcome))
    claims = _table(("claim", "target", "measured", "holds"), rows)
    date = result["time"][:10]
    return f"## {name}\n\nBy {shown}, {date}.\n\n{origin}\n\n{claims}"


def _counts(results: list[dict[str, Any]]) -> Iterator[str]:
    """Yield how many claims hold, are undecided, and do not hold."""
    outcomes = []
    for result in results:
        outcomes.extend(claim["holds"] for claim in result["must_show"])
    for outcome in (True, None, False):
        count = outcomes.count(outcome)
        yield str(count)


def _table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    lines = []
    rule = ("---",) * len(head)
    for row in (head, rule, *rows):
        cells = " | ".join(map(_cell, row))
        lines.append(f"| {cells} |")
    return "\n".join(lines)


def _cell(text: str) -> str:
    """Return a text as the cell of a table in Markdown."""
    text = text.replace("|", r"\|")
    text = text.replace("\n", " ")
    return text.replace("<", "&lt;")


def main() -> None:
    """Write the pages."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    for name, text in texts().items():
        (FOLDER / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
