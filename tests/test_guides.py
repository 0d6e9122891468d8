"""The recipes and commands on the pages for users are ones that rarefy accepts."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import click
import pytest
import yaml

from rarefy.flows.cli import cli
from rarefy.pipeline.recipe import recipe as recipes

ROOT = Path(__file__).parents[1]
PAGES = sorted(
    path
    for folder in ("get-started", "how-to", "explanation", "reference/tasks")
    for path in (ROOT / "docs" / folder).rglob("*.md")
)
OTHER_FORMATS = ("on:", "- uses:", "- repo:")
"""Blocks of YAML that are of GitHub or of pre-commit."""
STAGES: tuple[tuple[Any, ...], ...] = (
    ("finetune",),
    ({"finetune": {"epochs": 1}, "as": "few", "from": "model"},),
    ("augment", {"label": {"transfer": "augment"}, "as": "labels"}),
    ({"label": {"file": "predictions.jsonl"}, "as": "label"},),
)
"""Stages that an excerpt may refer to; of each group, all or none."""
END = ("export", "validate")


def blocks(page: Path, language: str) -> list[str]:
    """Return the blocks of a page in one language."""
    found = re.findall(r"^```(\w*)\n(.*?)^```$", page.read_text(), re.DOTALL | re.MULTILINE)
    return [text for name, text in found if name == language]


EXCERPTS = [
    pytest.param(block, id=f"{page.stem}-{number}")
    for page in PAGES
    for number, block in enumerate(blocks(page, "yaml"))
    if not block.startswith(OTHER_FORMATS) and "vary:" not in block
]


def complete(block: str) -> dict[str, Any]:
    """Return an excerpt as a recipe, with what it leaves out."""
    value = yaml.safe_load(block)
    value = {"stages": value} if isinstance(value, list) else dict(value)
    data = {"train": "train.jsonl", "eval": "eval.jsonl"} | value.get("data", {})
    recipe = {"name": "page", "model": "model", **value, "data": data}
    recipe["task"] = task_of(block, data)
    own = value.get("stages", [])
    steps = [*own, *(each for each in END if each not in {_name(step) for step in own})]
    names = {_name(step) for step in steps}
    before = [group for group in STAGES if names.isdisjoint(map(_name, group))]
    recipe["stages"] = [step for group in before for step in group] + steps
    return recipe


def task_of(block: str, data: dict[str, Any]) -> str:
    """Return the task that an excerpt is about."""
    if "corpus" in data or "label: score" in block:
        return "sentence-embeddings"
    if data.get("text") == "tokens" or data.get("label") == "spans" or "entity_f1" in block:
        return "token-classification"
    if "group" in data or data.get("label") == "rating":
        return "regression"
    several = isinstance(data.get("label"), list) or data.get("label") == "labels"
    return "multi-label-classification" if several else "text-classification"


def _name(step: Any) -> str:
    """Return the ID of an entry of ``stages``."""
    if isinstance(step, str):
        return step
    return str(step.get("as") or next(iter(step)))


@pytest.mark.parametrize("block", EXCERPTS)
def test_an_excerpt_is_part_of_a_valid_recipe(block: str, tmp_path: Path) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump(complete(block), sort_keys=False))
    (tmp_path / "costs.py").write_text("def cost(predictions, labels):\n    return 0.0\n")
    assert recipes.load(path).steps


LINES = sorted(
    {
        line.split("  #")[0].strip()
        for page in PAGES
        for language in ("bash", "")
        for block in blocks(page, language)
        for line in block.splitlines()
        if line.startswith("rarefy ")
    }
)


@pytest.mark.parametrize("line", LINES)
def test_a_command_on_a_page_has_its_options(line: str) -> None:
    """Each word that is a command or an option is one."""
    command: click.Command = cli
    words = shlex.split(line)[1:]
    while isinstance(command, click.Group):
        below = command.get_command(click.Context(command), words.pop(0))
        assert below is not None, line
        command = below
    known = {name for parameter in command.params for name in parameter.opts}
    known |= {name for parameter in command.params for name in parameter.secondary_opts}
    assert [word for word in words if word.startswith("--") and word not in known] == []


def test_the_pages_have_excerpts_and_commands() -> None:
    assert len(EXCERPTS) > 25
    assert len(LINES) > 40
