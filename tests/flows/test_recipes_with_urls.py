"""Recipes whose model and data are on a server: what runs, and what each fault says."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests import web as webs
from tests.project import Project, Said
from tests.web import Web


@pytest.fixture
def web(project: Project) -> Iterator[Web]:
    """A server with the project's model and data, which are not on this machine any more."""
    with webs.served() as web:
        for folder in ("encoder", "."):
            for path in (project.folder / folder).glob("*.*"):
                web.files[path.relative_to(project.folder).as_posix()] = path.read_bytes()
        for name in ("train.jsonl", "eval.jsonl"):
            (project.folder / name).unlink()
        yield web


def write_recipe(project: Project, web: Web, model: str = "encoder", train: str = "") -> Path:
    recipe = project.recipe("quickstages:Head", "quickstages:Judge")
    text = recipe.read_text().replace("model: encoder", f"model: {web.url}/{model}")
    for name in ("train", "eval"):
        text = text.replace(f"{name}.jsonl", f"'{web.url}/{name}.jsonl{train}'")
        train = ""
    recipe.write_text(text)
    return recipe


def published(home: Path) -> list[Path]:
    """Return the artifacts of the store, and the training rows that would be taken for whole."""
    rows = [path for path in home.glob("downloads/*/train.jsonl") if path.parent.suffix != ".part"]
    return [*home.glob("store/artifacts/sha256/*"), *rows]


def test_a_run_reads_model_and_data_from_the_server_once(
    project: Project, web: Web, rarefy: Callable[..., Said]
) -> None:
    recipe = write_recipe(project, web)
    ran = rarefy("run", recipe, "--engine", "inline")
    assert ran.code == 0
    assert web.sent.count("train.jsonl") == web.sent.count("encoder/model.safetensors") == 1
    planned = rarefy("plan", recipe, "--json").json
    assert all(step["cached"] for step in planned["steps"])
    record = json.loads((project.home / "runs" / "tiny" / "run.json").read_text())
    imported = record["lineage"][0]["parameters"]
    assert imported["reference"] == f"{web.url}/encoder"
    weights = hashlib.sha256(web.files["encoder/model.safetensors"]).hexdigest()
    assert imported["files_sha256"]["model.safetensors"] == weights


def test_other_bytes_on_the_server_are_one_error_and_then_another_run(
    project: Project, web: Web, rarefy: Callable[..., Said]
) -> None:
    recipe = write_recipe(project, web)
    assert rarefy("plan", recipe).code == 0
    web.files["train.jsonl"] = web.files["train.jsonl"] * 2
    ran = rarefy("run", recipe, "--engine", "inline")
    assert (ran.code, ran.err.count("\n")) == (2, 1)
    assert "it changed after it was planned (another ETag); run again" in ran.err
    assert not [*project.home.glob("store/artifacts/sha256/*")]
    assert rarefy("run", recipe, "--engine", "inline").code == 0


@pytest.mark.parametrize(
    ("fault", "code", "message"),
    [
        ("missing", 2, "the server has no file train.jsonl (404)"),
        ("digest", 6, "these are other bytes: their sha256 is"),
        ("changed", 2, "train.jsonl changed while it was downloaded; run again"),
        ("cut", 5, "check the address, the network"),
        ("denied", 5, "no permission"),
    ],
)
def test_every_fault_is_one_line_and_nothing_is_stored(
    project: Project,
    web: Web,
    rarefy: Callable[..., Said],
    fault: str,
    code: int,
    message: str,
) -> None:
    recipe = write_recipe(project, web, train=f"#sha256={'0' * 64}" if fault == "digest" else "")
    if fault in ("missing", "denied"):
        del web.files["train.jsonl"]
    if fault == "denied":
        web.denied.add("train.jsonl")
    if fault == "changed":
        web.changes["train.jsonl"] = b"{}"
    if fault == "cut":
        web.cut, web.cuts = 100, 3
    ran = rarefy("run", recipe, "--engine", "inline")
    assert (ran.code, ran.out) == (code, "")
    assert message in ran.err
    assert ran.err.count("\n") == 1
    assert published(project.home) == []
