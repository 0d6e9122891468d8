"""Check on the command line that a verdict is about the bytes of a bundle."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.desk import Desk
from tests.project import Said

Check = Callable[..., Said]


@pytest.fixture
def delivery(desk: Desk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A verdict and its bundle on a machine without a store."""
    folder = tmp_path / "delivery"
    shutil.copytree(desk.run / "bundle", folder / "bundle")
    shutil.copy(desk.run / "verdict.json", folder)
    shutil.rmtree(desk.home)
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture
def check(delivery: Path, rarefy: Callable[..., Said]) -> Check:
    def run(*options: str) -> Said:
        return rarefy("verdict", "check", "verdict.json", "--bundle", "bundle", *options)

    return run


def edit(folder: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    path = folder / "verdict.json"
    values = json.loads(path.read_text())
    change(values)
    path.write_text(json.dumps(values))


def outcome(values: dict[str, Any], of: str) -> None:
    values["outcome"] = of
    values["budgets"][0]["outcome"] = of


def test_a_pass_on_these_bytes_ends_with_0(delivery: Path, check: Check) -> None:
    said = check("--json")
    assert said.code == 0
    digest = json.loads((delivery / "verdict.json").read_text())["bundle"]
    values = json.loads(said.out)
    assert (values["outcome"], values["digest"], values["reasons"]) == ("pass", digest, [])
    assert check().out == f"pass: the verdict is about these bytes, {digest}\n"


@pytest.mark.parametrize(("result", "code"), [("fail", 3), ("inconclusive", 4)])
def test_another_outcome_says_why(delivery: Path, check: Check, result: str, code: int) -> None:
    edit(delivery, lambda values: outcome(values, result))
    reason = json.loads((delivery / "verdict.json").read_text())["budgets"][0]["reason"]
    said = check()
    assert (said.code, said.err) == (code, f"{reason}\n")
    assert json.loads(check("--json").out)["exit_code"] == code


def test_evidence_against_the_measurement_is_no_pass(delivery: Path, check: Check) -> None:
    changes = {"outcome": "inconclusive", "evidence": ["cpu: throttled"]}
    edit(delivery, lambda values: values.update(changes))
    assert check().code == 4


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda values: values.update(outcome="fail"), "the verdict was changed"),
        (lambda values: values.update(bundle="0" * 64), "this verdict is on bundle 000000000000"),
        (lambda values: values.update(bundle=None), "this verdict is on no bundle"),
        (lambda values: values.update(schema="rarefy.verdict/99"), "schema 'rarefy.verdict/99'"),
        (lambda values: values.update(budgets="none"), "the verdict is damaged: budgets"),
    ],
)
def test_a_verdict_that_is_damaged_or_of_other_bytes_ends_with_6(
    delivery: Path, check: Check, change: Callable[[dict[str, Any]], Any], message: str
) -> None:
    edit(delivery, change)
    said = check("--json")
    assert said.code == 6
    assert message in json.loads(said.out)["error"]


@pytest.mark.parametrize("text", ["{", "[]", "[" * 100_000, "null"])
def test_a_file_that_is_no_json_object_ends_with_6(delivery: Path, check: Check, text: str) -> None:
    (delivery / "verdict.json").write_text(text)
    said = check()
    assert said.code == 6
    assert said.err.count("\n") == 1


def test_a_bundle_with_other_bytes_ends_with_6(delivery: Path, check: Check) -> None:
    bundle = delivery / "bundle"
    (bundle / "sitecustomize.py").write_text("import os")
    assert "sitecustomize.py is not in the bundle's manifest" in check().err
    (bundle / "sitecustomize.py").unlink()
    tokenizer = (bundle / "tokenizer.json").read_bytes()
    (bundle / "tokenizer.json").write_bytes(tokenizer + b" ")
    assert "tokenizer.json does not match" in check().err
    (bundle / "tokenizer.json").unlink()
    said = check()
    assert "tokenizer.json is missing" in said.err
    assert said.code == 6
    manifest = bundle / "manifest.json"
    for other in (json.dumps(json.loads(manifest.read_text())), "{}"):
        manifest.write_text(other)
        assert "the bundle's manifest is damaged" in check().err


def test_files_that_do_not_exist_end_with_2(delivery: Path, check: Check) -> None:
    (delivery / "bundle" / "manifest.json").unlink()
    assert check().code == 2
    (delivery / "verdict.json").unlink()
    assert check().code == 2
