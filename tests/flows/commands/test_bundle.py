"""Write a bundle in another form on the command line."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.desk import Desk
from tests.project import Project, Said


def test_the_hub_s_form_is_written_to_a_new_folder(
    here: Project, rarefy: Callable[..., Said], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    said = rarefy("bundle", "tiny", out, "--for", "hub", "--license", "mit", "--json")
    assert said.code == 0
    values = json.loads(said.out)
    assert (values["for"], values["out"]) == ("hub", str(out))
    found = sorted(p.relative_to(out).as_posix() for p in out.rglob("*") if p.is_file())
    assert values["files"] == found
    assert "onnx/model.onnx" in found
    assert values["missing"] == ["base model (--base-model)", "data set (--dataset)"]
    assert "license: mit" in (out / "README.md").read_text()
    assert "model-index" in (out / "README.md").read_text()


def test_what_the_card_lacks_is_noted(
    here: Project, rarefy: Callable[..., Said], tmp_path: Path
) -> None:
    said = rarefy("bundle", "tiny", tmp_path / "out", "--for", "hub")
    assert (said.code, said.out) == (0, f"{tmp_path / 'out'}: 6 files for hub\n")
    assert "note: the card does not name the licence (--license)" in said.err


@pytest.mark.parametrize("form", ["hub", "triton"])
def test_a_bundle_that_missed_its_budgets_is_written_with_a_note(
    desk: Desk, tmp_path: Path, form: str
) -> None:
    """Whoever looks into why it failed needs it elsewhere, too; `rarefy promote` refuses it."""
    assert "verdict" not in desk.rarefy("bundle", "tiny", tmp_path / "a", "--for", form).err
    desk.verdict("fail")
    said = desk.rarefy("bundle", "tiny", tmp_path / "b", "--for", form)
    assert said.code == 0
    assert "note: the verdict on this bundle is fail: " in said.err
    said = desk.rarefy("bundle", desk.digest, tmp_path / "c", "--for", form, "--json")
    assert (said.code, json.loads(said.out)["verdict"]) == (0, "fail")


def test_a_folder_with_something_in_it_is_refused(
    here: Project, rarefy: Callable[..., Said], tmp_path: Path
) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    said = rarefy("bundle", "tiny", tmp_path, "--for", "hub")
    assert said.code == 2
    assert "not empty" in said.err
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_a_name_that_is_no_bundle_is_an_error(
    here: Project, rarefy: Callable[..., Said], tmp_path: Path
) -> None:
    said = rarefy("bundle", "tinny", tmp_path / "out", "--for", "hub", "--json")
    assert said.code == 2
    assert "no such bundle" in json.loads(said.out)["error"]
    assert list(tmp_path.iterdir()) == []


def test_a_damaged_bundle_ends_with_6_and_leaves_nothing(desk: Desk, tmp_path: Path) -> None:
    out = tmp_path / "forms" / "out"
    (desk.run / "bundle" / "tokenizer.json").write_text("{}")
    said = desk.rarefy("bundle", "tiny", out, "--for", "hub")
    assert said.code == 6
    assert "tokenizer.json does not match" in said.err
    assert list(out.parent.iterdir()) == []


@pytest.mark.parametrize("form", ["hubb", ""])
def test_an_unknown_form_is_an_error(
    here: Project, rarefy: Callable[..., Said], tmp_path: Path, form: str
) -> None:
    assert rarefy("bundle", "tiny", tmp_path / "out", "--for", form).code == 2


def test_triton_s_model_has_the_run_s_name_or_the_one_that_is_given(
    here: Project, rarefy: Callable[..., Said], tmp_path: Path
) -> None:
    assert rarefy("bundle", "tiny", tmp_path / "a", "--for", "triton").code == 0
    assert (tmp_path / "a/tiny_text/config.pbtxt").is_file()
    assert rarefy("bundle", "tiny", tmp_path / "b", "--for", "triton", "--name", "x").code == 0
    assert (tmp_path / "b/x_text/config.pbtxt").is_file()
    said = rarefy("bundle", "tiny", tmp_path / "c", "--for", "triton", "--name", "X")
    assert said.code == 2
    assert not (tmp_path / "c").exists()


@pytest.mark.parametrize(
    ("form", "option"),
    [
        ("hub", ("--name", "x")),
        ("triton", ("--license", "mit")),
        ("triton", ("--tracking-uri", "http://127.0.0.1:1")),
        ("mlflow", ("--dataset", "me/data")),
    ],
)
def test_an_option_that_a_form_has_no_place_for_is_refused(
    here: Project, rarefy: Callable[..., Said], tmp_path: Path, form: str, option: tuple[str, str]
) -> None:
    said = rarefy("bundle", "tiny", tmp_path / "out", "--for", form, *option)
    assert said.code == 2
    assert option[0] in said.err
    assert list(tmp_path.iterdir()) == []


def test_mlflow_that_is_not_installed_ends_with_5_and_leaves_nothing(
    here: Project,
    rarefy: Callable[..., Said],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import importlib.util

    real = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *a: None if name == "mlflow" else real(name, *a)
    )
    said = rarefy("bundle", "tiny", tmp_path / "out", "--for", "mlflow")
    assert said.code == 5
    assert "pip install 'mlflow-skinny>=" in said.err
    assert list(tmp_path.iterdir()) == []


def test_the_commands_of_the_page_are_ones_that_there_are(
    here: Project, rarefy: Callable[..., Said], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those without a server are run, on this run instead of the demo."""
    monkeypatch.chdir(tmp_path)
    pages = Path(__file__).parents[3] / "docs/how-to"
    page = "".join((pages / f"{name}.md").read_text() for name in ("hub", "triton", "mlflow"))
    blocks = re.findall(r"^```(\w*)\n(.*?)^```$", page, re.DOTALL | re.MULTILINE)
    shown = "".join(text for language, text in blocks if not language)
    lines = [line.partition("#")[0].split() for line in shown.splitlines()]
    lines = [line for line in lines if line[:1] == ["rarefy"]]
    assert {line[1] for line in lines} == {"bundle", "promote", "rollback"}
    for line in lines:
        words = ["tiny" if word == "demo" else word for word in line[1:]]
        if words[0] == "bundle" and "mlflow" not in words:
            assert rarefy(*words).code == 0, line
            continue
        known = rarefy(words[0], "--help").out
        assert [word for word in words if word.startswith("--") and word not in known] == []


def test_a_folder_inside_the_bundle_would_damage_it(desk: Desk) -> None:
    out = desk.store.directory(desk.digest) / "triton"
    said = desk.rarefy("bundle", desk.digest, out, "--for", "triton")
    assert said.code == 2
    assert "inside the bundle itself" in said.err
    assert desk.rarefy("artifact", "verify", desk.digest).code == 0
