"""The pages of the documentation: generated ones are current, and the site has all of them."""

from __future__ import annotations

import importlib.util
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

import rarefy
from benchmarks import reference, tables
from rarefy.pipeline.recipe import recipe as recipes

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
DEMO = (ROOT / "examples/demo.yaml").read_text()


def test_the_generated_reference_is_current() -> None:
    for name, text in reference.pages().items():
        assert (DOCS / "reference" / name).read_text() == text, f"make pages ({name})"
    stages = {path.name for path in (DOCS / "reference/stages").iterdir()}
    assert stages == {Path(name).name for name in reference.pages() if "/" in name}


def test_the_page_of_commands_has_options_and_those_of_all_commands_once() -> None:
    text = reference.pages()["commands.md"]
    assert "\n## `rarefy promote`\n" in text
    assert "| `--max-p99 TIME` |" in text
    assert "| `--json" not in text, "said once for all commands"


def test_the_tables_of_benchmarks_are_current() -> None:
    texts = tables.texts()
    for name, text in texts.items():
        assert (DOCS / "benchmarks" / name).read_text() == text, f"make pages ({name})"
    assert {path.name for path in (DOCS / "benchmarks").iterdir()} == set(texts)


def test_every_record_is_on_one_page_with_its_undecided_claims() -> None:
    text = "".join(tables.texts().values())
    for path in tables.RESULTS.glob("*.json"):
        assert text.count(f"\n## {path.stem}\n") == 1, path.stem
    assert "| undecided |" in text
    assert "| no |" in text


@pytest.mark.parametrize("stage", reference.EXAMPLES)
def test_the_example_of_a_stage_is_valid(stage: str, tmp_path: Path) -> None:
    """In a recipe with the stages that it refers to before it."""
    example = reference.EXAMPLES[stage]
    before = "" if "finetune" in re.findall(r"^- (\w+)", example, re.M) else "- finetune\n"
    path = tmp_path / "recipe.yaml"
    path.write_text(f"{DEMO[: DEMO.index('stages:')]}stages:\n{before}{example}\n")
    names = [step.stage.name for step in recipes.load(path).steps]
    assert stage in names


def test_every_stage_has_an_example() -> None:
    installed = {name for name in rarefy.__all__ if name[0].isupper()}
    stages = {_snake(name) for name in installed}.intersection(_installed())
    assert stages == set(reference.EXAMPLES)


def _installed() -> set[str]:
    names = [Path(name) for name in reference.pages() if name.startswith("stages/")]
    return {name.stem for name in names} - {"index"}


def _snake(name: str) -> str:
    return re.sub(r"(?<!^)(?=[A-Z])", "_", name).lower()


def test_the_navigation_has_every_page_once() -> None:
    listed = list(_files(yaml.safe_load((ROOT / "mkdocs.yml").read_text())["nav"]))
    decisions = set((DOCS / "project/decisions").glob("[0-9]*.md"))
    pages = {str(path.relative_to(DOCS)) for path in set(DOCS.rglob("*.md")) - decisions}
    assert sorted(listed) == sorted(pages)


def _files(entries: Any) -> Iterator[str]:
    """Yield the files of a navigation, in order."""
    for entry in entries if isinstance(entries, list) else [entries]:
        if isinstance(entry, dict):
            for below in entry.values():
                yield from _files(below)
        else:
            yield entry


def test_the_table_of_decisions_has_every_decision() -> None:
    folder = DOCS / "project/decisions"
    linked = re.findall(r"\]\((\d{3}-[\w-]+\.md)\)", (folder / "index.md").read_text())
    assert sorted(linked) == sorted(path.name for path in folder.glob("[0-9]*.md"))
    for path in folder.glob("[0-9]*.md"):
        head = path.read_text().split("\n## ")[0]
        assert re.match(rf"# {int(path.name[:3])}\. \S.*\n\n\| date", head), path.name
        assert re.search(r"^\| 20\d\d-\d\d-\d\d \| \w+ \|$", head, re.MULTILINE), path.name


@pytest.mark.parametrize("page", sorted(DOCS.rglob("*.md")), ids=lambda path: path.stem)
def test_no_link_or_picture_leaves_the_site(page: Path) -> None:
    text = re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.DOTALL | re.MULTILINE)
    for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", text):
        if "://" in target:
            continue
        path = (page.parent / target).resolve()
        assert path.is_file(), target
        assert path.is_relative_to(DOCS), target


def test_the_site_builds_without_a_warning(tmp_path: Path) -> None:
    if importlib.util.find_spec("zensical") is None:
        pytest.skip("zensical, which `make docs` installs in an environment of its own")
    shutil.copytree(DOCS, tmp_path / "docs")
    shutil.copy(ROOT / "mkdocs.yml", tmp_path)
    for name in ("rarefy", "pipeline", "stages", "exporters", "flows"):
        (tmp_path / name).symlink_to(ROOT / name)
    command = [sys.executable, "-m", "zensical", "build", "--strict"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "rarefy.run" in (tmp_path / "site/reference/python/index.html").read_text()
