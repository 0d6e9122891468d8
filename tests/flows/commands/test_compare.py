"""Compare a candidate with a baseline on the same rows, as a gate if asked."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rarefy.pipeline.release import compare as comparing
from tests.flows.console.test_compared import compared
from tests.pipeline.measure import bundles
from tests.project import Project, Said, bundle_digest

QUICK = ("--seconds", "1", "--rows", "20")


@pytest.fixture
def bundle(here: Project, tmp_path: Path) -> Path:
    """A copy of the run's bundle that can be changed."""
    return shutil.copytree(here.home / "runs" / "tiny" / "bundle", tmp_path / "other")


@pytest.fixture
def untimed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Times that are known; both sides really answer."""

    def measure(*_: object, provider: str, **__: object) -> tuple[Any, Any]:
        known = compared()
        return known.change, known.latency.model_copy(update={"provider": provider})

    monkeypatch.setattr(comparing.gate, "measure", measure)


def labelled(folder: Path) -> Path:
    """Write rows for the bundles of ``bundles.make``."""
    rows = folder / "rows.jsonl"
    labels = ("no", "yes") * 10
    pairs = zip(bundles.texts(20), labels, strict=True)
    rows.write_text("".join(json.dumps({"text": t, "label": label}) + "\n" for t, label in pairs))
    return rows


@pytest.mark.slow
def test_a_bundle_equals_itself(here: Project, rarefy: Callable[..., Said]) -> None:
    data = here.folder / "eval.jsonl"
    arguments = ("compare", "tiny", bundle_digest(here), *QUICK)
    said = rarefy(*arguments, "--data", data, "--json")
    assert said.code == 0, said.err
    found = json.loads(said.out)
    scores, times = found["accuracy"], found["latency"]
    assert (found["rows"], scores["flips"], scores["p"]) == (20, 0, 1.0)
    assert scores["candidate"] == scores["baseline"]
    assert scores["difference"]["low"] < 0 < scores["difference"]["high"]
    assert times["ratio"]["low"] <= times["ratio"]["high"]
    assert (times["margin"], found["verdict"]) == (0.05, None)
    assert found["models"]["candidate"]["size"] == found["models"]["baseline"]["size"]


def test_the_table_counts_the_rows_that_differ(
    here: Project, rarefy: Callable[..., Said], tmp_path: Path, untimed: None
) -> None:
    rows = tmp_path / "some.jsonl"
    rows.write_text((here.folder / "eval.jsonl").read_text() + '{"text": "no label"}\n')
    table = rarefy("compare", "tiny", bundle_digest(here), "--data", rows)
    assert "0 of 20 rows differ: 0 better, 0 worse" in table.out
    assert "1 row without" in table.err


def test_the_first_is_the_candidate_and_a_gate_looks_at_its_regression(
    here: Project, rarefy: Callable[..., Said], bundle: Path, untimed: None
) -> None:
    graph = bundle / "model.onnx"
    size = sum(path.stat().st_size for path in bundle.iterdir() if path.is_file())
    (bundle / "extra.bin").write_bytes(b"\0" * size)
    gate = ("--max-regression", "20%", "--json")
    worse = rarefy("compare", bundle, "tiny", "--recipe", here.folder / "tiny.yaml", *gate)
    assert worse.code == 3
    found = json.loads(worse.out)
    assert found["models"]["candidate"]["name"] == str(bundle)
    assert found["models"]["candidate"]["size"] > found["models"]["baseline"]["size"]
    outcomes = {b["metric"]: b["outcome"] for b in found["verdict"]["budgets"]}
    assert (outcomes["size"], set(outcomes)) == ("fail", {"accuracy", "latency_p50", "size"})
    assert found["latency"]["margin"] == 0.2
    better = json.loads(rarefy("compare", "tiny", bundle, *gate).out)
    outcomes = {b["metric"]: b["outcome"] for b in better["verdict"]["budgets"]}
    assert outcomes["size"] == "pass"
    assert graph.is_file()


def test_the_candidate_runs_on_the_provider_that_it_was_exported_for(
    rarefy: Callable[..., Said], tmp_path: Path, untimed: None
) -> None:
    pytest.importorskip("openvino")
    made = bundles.make(tmp_path / "bundle", providers=["OpenVINO"])
    rows = labelled(tmp_path)
    for asked, provider in (((), "openvino"), (("--provider", "cpu"), "cpu")):
        said = rarefy("compare", made, made, "--data", rows, *asked, "--json")
        assert said.code == 0, said.err
        assert json.loads(said.out)["latency"]["provider"] == provider


@pytest.mark.parametrize(("strict", "code"), [((), 0), (("--strict",), 4)])
def test_what_is_undecided_fails_only_a_strict_gate(
    rarefy: Callable[..., Said],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    strict: tuple[str, ...],
    code: int,
) -> None:
    """One row of four hundred is lost: that may be by chance, and more than a thousandth."""
    monkeypatch.setattr(comparing, "compare", lambda *_, **__: compared())
    made = bundles.make(tmp_path / "bundle")
    gate = ("--data", labelled(tmp_path), "--max-regression", "0.1%", *strict)
    said = rarefy("compare", made, made, *gate, "--home", tmp_path / "home", "--json")
    told = json.loads(said.out)
    outcomes = {each["metric"]: each["outcome"] for each in told["verdict"]["budgets"]}
    assert outcomes == {"accuracy": "inconclusive", "latency_p50": "pass", "size": "pass"}
    assert (said.code, told["exit_code"]) == (code, code)


def test_the_comparison_is_a_page_where_one_is_named(
    rarefy: Callable[..., Said], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(comparing, "compare", lambda *_, **__: compared())
    made = bundles.make(tmp_path / "bundle")
    page = tmp_path / "pages" / "side-by-side.html"
    words = ("compare", made, made, "--data", labelled(tmp_path), "--html", page)
    said = rarefy(*words, "--home", tmp_path / "home")
    assert said.code == 0, said.err
    text = page.read_text()
    assert "mine" in text
    assert "against production" in text
    assert "1 of 400 rows differ" in text
    assert rarefy(*words, "--home", tmp_path / "home").code == 0, "its own page is replaced"
    page.write_text("somebody else's")
    refused = rarefy(*words, "--home", tmp_path / "home")
    assert refused.code == 2
    assert refused.err.count("\n") == 1
    assert "rarefy did not write this" in refused.err


def test_compare_refuses_other_labels(
    here: Project, rarefy: Callable[..., Said], bundle: Path
) -> None:
    config = json.loads((bundle / "config.json").read_text())
    config["id2label"] = {"0": "cat", "1": "dog"}
    (bundle / "config.json").write_text(json.dumps(config))
    said = rarefy("compare", "tiny", bundle)
    assert said.code == 2
    assert "predicts the labels cat, dog" in said.err
    (bundle / "config.json").write_text("{}")
    assert "'id2label' must name the labels" in rarefy("compare", "tiny", bundle).err


def test_numbers_of_an_older_run_are_no_baseline(
    here: Project, rarefy: Callable[..., Said]
) -> None:
    record = here.home / "runs" / "tiny" / "run.json"
    said = rarefy("compare", "tiny", record)
    assert said.code == 2
    reason = "a file is not a bundle; name a run or a folder, which is measured again"
    assert said.err == f"rarefy: {record}: {reason}\n"


@pytest.mark.parametrize("value", ["5", "0%", "-1%", "many", "100%"])
def test_a_limit_is_a_share(here: Project, rarefy: Callable[..., Said], value: str) -> None:
    said = rarefy("compare", "tiny", "tiny", "--max-regression", value)
    assert said.code == 2
    assert "--max-regression" in said.err


@pytest.mark.parametrize("side", ["candidate", "baseline"])
def test_a_bundle_whose_bytes_are_not_its_manifest_s_is_not_compared(
    here: Project, rarefy: Callable[..., Said], bundle: Path, side: str
) -> None:
    graph = bundle / "model.onnx"
    data = bytearray(graph.read_bytes())
    data[-1] ^= 1
    graph.write_bytes(data)
    sides = (bundle, "tiny") if side == "candidate" else ("tiny", bundle)
    said = rarefy("compare", *sides, "--data", here.folder / "eval.jsonl", *QUICK)
    assert said.code == 6
    assert "model.onnx does not match the digest in the bundle's manifest.json" in said.err


@pytest.mark.slow
def test_rows_a_second_are_compared_if_asked_for(
    rarefy: Callable[..., Said], tmp_path: Path, untimed: None
) -> None:
    made = bundles.make(tmp_path / "bundle", together="rows")
    rows = labelled(tmp_path)
    gate = ("--throughput", "--max-regression", "90%", "--json")
    said = rarefy("compare", made, made, "--data", rows, *QUICK, *gate)
    found = json.loads(said.out)
    rates = found["throughput"]
    assert rates["candidate"]["value"] > 0
    assert rates["ratio"]["low"] < rates["ratio"]["value"] < rates["ratio"]["high"]
    assert set(rates["batch"]) == {"candidate", "baseline"}
    assert {budget["metric"] for budget in found["verdict"]["budgets"]} >= {"throughput", "size"}
