"""The files, folders, links, make targets and import contracts named in the docs exist."""

from __future__ import annotations

import ast
import json
import re
import tomllib
from pathlib import Path

import pytest

from rarefy.pipeline.recipe import recipe as recipes

ROOT = Path(__file__).parents[1]
PAGES = sorted(
    [
        ROOT / "README.md",
        ROOT / "CONTRIBUTING.md",
        ROOT / "SECURITY.md",
        *(ROOT / "docs").rglob("*.md"),
        *(ROOT / "examples").rglob("README.md"),
    ]
)
FOLDERS = (
    "pipeline",
    "exporters",
    "stages",
    "flows",
    "tests",
    "docs",
    "examples",
    "benchmarks",
    "schema",
)
BUNDLED = {"predict.py", "predict_adapter.py", "predict_session.py", "predict_task.py"}
"""Files of a bundle, which is made elsewhere."""
SOURCE = (".py", ".j2", ".css", ".toml")


def prose(page: Path) -> str:
    """Return a page without its fenced blocks."""
    return re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.DOTALL | re.MULTILINE)


def spans(page: Path) -> list[str]:
    return re.findall(r"`([^`\n]+)`", prose(page))


def made_by(page: Path) -> set[str]:
    """Return the files that a worked page writes, named in the first line of each block."""
    return set(re.findall(r"^```\w+\n# (\S+)$", page.read_text(), flags=re.MULTILINE))


def is_path(span: str) -> bool:
    """Return True if a span names a file or folder here, not a pattern such as ``<name>``."""
    if not re.fullmatch(r"[\w./-]+", span):
        return False
    if span in BUNDLED:
        return False
    return span.endswith(SOURCE) or (span.split("/")[0] in FOLDERS and "/" in span)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_path_in_backticks_exists(page: Path) -> None:
    own = made_by(page)
    missing = [
        span
        for span in spans(page)
        if is_path(span)
        and span not in own
        and not any((base / span).exists() for base in (ROOT, page.parent))
    ]
    assert not missing


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_to_a_file_leads_somewhere(page: Path) -> None:
    targets = re.findall(r"\]\(([^)#\s]+)[^)]*\)", prose(page))
    missing = [to for to in targets if "://" not in to and not (page.parent / to).exists()]
    assert not missing


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_make_target_exists(page: Path) -> None:
    known = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE)
    named = re.findall(r"`make ([a-z-]+)|^make ([a-z-]+)", page.read_text(), flags=re.MULTILINE)
    assert {one or other for one, other in named} <= set(known)


def test_the_table_of_rooms_is_the_import_contract() -> None:
    """Rooms and their order; rooms on the same level may be in any order."""
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]
    (rooms,) = (c for c in contracts["contracts"] if c.get("containers") == ["rarefy.pipeline"])
    levels = [set(re.split(r"\s*[:|]\s*", layer)) for layer in rooms["layers"]]
    text = (ROOT / "docs/project/architecture.md").read_text()
    table = re.findall(r"^\| `pipeline/(\w+)/` \|", text.split("## Rooms")[1], flags=re.MULTILINE)
    assert set(table) == set().union(*levels)
    for level in levels:
        assert set(table[: len(level)]) == level
        table = table[len(level) :]


def test_the_recipe_in_the_readme_is_valid(tmp_path: Path) -> None:
    """Its stages and budgets, with the model and the data of the demo."""
    shown = re.search(r"^```yaml\n(.*?)^```$", (ROOT / "README.md").read_text(), re.DOTALL | re.M)
    assert shown is not None
    demo = (ROOT / "examples/demo.yaml").read_text()
    path = tmp_path / "recipe.yaml"
    path.write_text(demo[: demo.index("stages:")] + shown[1])
    recipe = recipes.load(path)
    assert recipe.steps[0].stage.name == "finetune"
    assert recipe.steps[-1].stage.name == "validate"
    assert len(recipe.recipe.budgets) == 2


def test_the_readme_gives_the_seeds_of_the_demo_s_record() -> None:
    claims = json.loads((ROOT / "benchmarks/results/demo.json").read_text())["must_show"]

    def range_of(title: str) -> str:
        [measured] = [each["measured"] for each in claims if each["claim"].startswith(title)]
        seeds = [float(value) for value in re.findall(r"([\d.]+)%? \[", measured)]
        return f"{min(seeds):.1f} to {max(seeds):.1f}"

    text = " ".join((ROOT / "README.md").read_text().split())
    faster, retained = range_of("faster than the teacher"), range_of("share of the teacher's")
    assert f"gave {faster}× and {retained}%" in text


def test_a_conll_file_becomes_rows_as_the_page_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = (ROOT / "docs/reference/tasks/token-classification.md").read_text()
    (code,) = (each for each in re.findall(r"```python\n(.*?)```", page, re.S) if "conll" in each)
    lines = ["-DOCSTART- -X- O O", "", "EU NNP B-NP B-ORG", "acts VBZ B-VP O", "", "", "So RB O O"]
    (tmp_path / "train.conll").write_text("\n".join(lines))
    monkeypatch.chdir(tmp_path)
    exec(code, {})
    rows = [json.loads(line) for line in (tmp_path / "train.jsonl").read_text().splitlines()]
    assert rows == [
        {"tokens": ["EU", "acts"], "tags": ["B-ORG", "O"]},
        {"tokens": ["So"], "tags": ["O"]},
    ]


WALK = re.compile(r"^\d+\. `([\w/.]+)`: `(\w+)`", flags=re.MULTILINE)
LIMITS = {
    "Change how heads are ranked": 3,
    "Add a LoRA variant": 3,
    "See where a budget is judged": 3,
    "See where a latency is timed": 2,
    "See where a row is tokenized": 4,
}
"""The most files that somebody should have to open."""


@pytest.mark.parametrize("title", LIMITS)
def test_the_walk_through_the_house_leads_there(title: str) -> None:
    page = (ROOT / "docs/project/where-to-look.md").read_text()
    walk = WALK.findall(page.split(f"## {title}\n")[1].split("\n## ")[0])
    assert 0 < len(walk) <= LIMITS[title]
    modules = [f"rarefy.{path.removesuffix('.py').replace('/', '.')}" for path, _ in walk]
    imported = [imports(ROOT / path) for path, _ in walk]
    for place, (path, name) in enumerate(walk):
        assert name in defined(ROOT / path), f"{path} has no {name}"
        earlier = set().union(*imported[:place])
        known = imported[place].intersection(modules[:place])
        assert not place or modules[place] in earlier or known, f"nothing leads to {path}"


def defined(path: Path) -> set[str]:
    """Return the names that a module defines at its top."""
    names = set[str]()
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            names.add(node.name)
        for target in getattr(node, "targets", [getattr(node, "target", None)]):
            if isinstance(target, ast.Name):
                names.add(target.id)
    return names


def imports(path: Path) -> set[str]:
    """Return the modules that a module imports, anywhere in it."""
    names = set[str]()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom):
            names.add(str(node.module))
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names
