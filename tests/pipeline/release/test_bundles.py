"""A bundle by any of its names: asked, measured again, compared, reported on."""

from __future__ import annotations

import io
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline.store.store import Store
from tests.project import Project, Said, bundle_digest

pytestmark = pytest.mark.usefixtures("quiet_machine")


def test_every_name_of_a_bundle_gives_the_same_answer(
    here: Project, rarefy: Callable[..., Said]
) -> None:
    digest = bundle_digest(here)
    rarefy("artifact", "tag", "shelf", digest)
    folder = here.home / "runs" / "tiny"
    names = ("tiny", folder, folder / "bundle", "shelf", digest, digest[:10])
    answers = {rarefy("predict", name, "a fine film", "--json").out for name in names}
    Store(here.home / "store").untag("shelf")  # others use this project too
    assert len(answers) == 1
    answer = json.loads(answers.pop())
    assert answer["text"] == "a fine film"
    assert sum(answer["probabilities"].values()) == pytest.approx(1)
    assert answer["label"] == max(answer["probabilities"], key=answer["probabilities"].get)


def test_lines_of_stdin_are_answered_one_by_one(
    here: Project, rarefy: Callable[..., Said], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("a fine film\n\na dull story\tand a grey one\n"))
    said = rarefy("predict", "tiny", "--json")
    lines = [json.loads(line) for line in said.out.splitlines()]
    assert [(line["text"], line["pair"]) for line in lines] == [
        ("a fine film", None),
        ("a dull story", "and a grey one"),
    ]
    pair = rarefy("predict", "tiny", "--pair", "a dull story", "and a grey one", "--json")
    assert json.loads(pair.out) == lines[1]


def test_what_is_no_bundle_is_said(here: Project, rarefy: Callable[..., Said]) -> None:
    rows = json.loads(rarefy("artifact", "ls", "--kind", "checkpoint", "--json").out)
    said = rarefy("predict", rows[0]["digest"], "text")
    assert (said.code, said.out) == (2, "")
    assert "is the checkpoint that 'head' made, not a bundle" in said.err
    empty = rarefy("predict", here.folder / "encoder", "text")
    assert empty.code == 2
    assert "there is no model.onnx" in empty.err


def test_a_missing_provider_ends_with_5(here: Project, rarefy: Callable[..., Said]) -> None:
    import onnxruntime

    if "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        pytest.skip("this machine has the provider")
    said = rarefy("predict", "tiny", "text", "--provider", "cuda")
    assert said.code == 5
    assert "provider 'cuda' is not active" in said.err


def test_validate_measures_again_and_judges(here: Project, rarefy: Callable[..., Said]) -> None:
    said = rarefy("validate", "tiny")
    assert (said.code, said.out) == (0, "verdict: pass\n")
    assert "max_drop" in said.err
    hard = here.folder / "hard.yaml"
    text = (here.folder / "tiny.yaml").read_text().replace("max: 1000000", "max: 10")
    hard.write_text(text)
    missed = rarefy("validate", bundle_digest(here), "--recipe", hard, "--json")
    assert missed.code == 3
    outcomes = [budget["outcome"] for budget in json.loads(missed.out)["budgets"]]
    assert outcomes == ["pass", "fail"]


def test_validate_needs_the_references(
    here: Project, rarefy: Callable[..., Said], tmp_path: Path
) -> None:
    bundle = shutil.copytree(here.home / "runs" / "tiny" / "bundle", tmp_path / "elsewhere")
    arguments = ("validate", bundle, "--recipe", here.folder / "tiny.yaml")
    said = rarefy(*arguments, "--home", tmp_path / "empty")
    assert said.code == 4
    assert "'head', which is no checkpoint in this store" in said.err


def test_validate_of_a_folder_asks_for_the_recipe(
    here: Project, rarefy: Callable[..., Said]
) -> None:
    said = rarefy("validate", bundle_digest(here))
    assert said.code == 2
    assert "--recipe" in said.err


def test_report_is_drawn_again_from_the_run(here: Project, rarefy: Callable[..., Said]) -> None:
    path = here.home / "runs" / "tiny" / "report.html"
    path.unlink()
    said = rarefy("report")
    assert (said.code, said.out) == (0, f"{path}\n")
    assert path.is_file()
    assert rarefy("report", "tiny", "--format", "html").out.startswith("<!doctype html>")
    assert "tiny" in rarefy("report", "tiny", "--format", "markdown").out
    assert json.loads(rarefy("report", "tiny", "--format", "json").out)["name"] == "tiny"
    assert json.loads(rarefy("report", "tiny", "--json").out)["verdict"] == "pass"


def test_a_damaged_run_record_is_said(here: Project, rarefy: Callable[..., Said]) -> None:
    broken = here.home / "runs" / "broken"
    broken.mkdir()
    (broken / "run.json").write_text("{")
    said = rarefy("report", "broken")
    shutil.rmtree(broken)
    assert said.code == 2
    assert "not a run's record" in said.err
