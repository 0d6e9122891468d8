"""A candidate against a baseline, measured here or recorded on this very machine."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.measure.measurements import Latency, Measurements, ModelMeasurement
from pipeline.release import comparison, recorded
from pipeline.release.compare import judge
from pipeline.release.comparison import Compared
from pipeline.terms.interval import Interval
from pipeline.terms.vocabulary import Target
from tests.project import Project, Said, bundle_digest

pytestmark = pytest.mark.usefixtures("quiet_machine")

QUICK = ("--seconds", "1", "--rows", "20")


@pytest.fixture
def bundle(here: Project, tmp_path: Path) -> Path:
    """A copy of the run's bundle, to be changed."""
    return shutil.copytree(here.home / "runs" / "tiny" / "bundle", tmp_path / "other")


@pytest.fixture
def file(here: Project, tmp_path: Path) -> Path:
    """A copy of the run's record, to be changed."""
    return Path(shutil.copyfile(here.home / "runs" / "tiny" / "run.json", tmp_path / "run.json"))


def change(file: Path, *at: str, value: Any) -> None:
    values = json.loads(file.read_text())
    node = values
    for key in at[:-1]:
        node = node[key]
    node[at[-1]] = value
    file.write_text(json.dumps(values))


def test_a_bundle_equals_itself(here: Project, rarefy: Callable[..., Said]) -> None:
    data = here.folder / "eval.jsonl"
    arguments = ("compare", "tiny", bundle_digest(here), *QUICK)
    said = rarefy(*arguments, "--data", data, "--json")
    assert said.code == 0, said.err
    found = json.loads(said.out)
    scores, times = found["accuracy"], found["latency"]
    assert (found["rows"], scores["flips"], scores["mcnemar_p"]) == (20, 0, 1.0)
    assert scores["candidate"] == scores["baseline"]
    assert scores["difference"]["low"] < 0 < scores["difference"]["high"]
    assert times["ratio"]["low"] <= times["ratio"]["high"]
    assert (times["margin"], times["recorded"], found["verdict"]) == (0.05, None, None)
    assert found["models"]["candidate"]["size"] == found["models"]["baseline"]["size"]
    table = rarefy(*arguments)
    assert "0 of 20 rows differ: 0 better, 0 worse" in table.out


def test_the_first_is_the_candidate_and_a_gate_looks_at_its_regression(
    here: Project, rarefy: Callable[..., Said], bundle: Path
) -> None:
    graph = bundle / "model.onnx"
    size = sum(path.stat().st_size for path in bundle.iterdir() if path.is_file())
    (bundle / "extra.bin").write_bytes(b"\0" * size)
    gate = (*QUICK, "--max-regression", "20%", "--json")
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


def test_gains_are_rows_that_only_the_candidate_has_right() -> None:
    right, wrong = [0.9, 0.1], [0.1, 0.9]
    candidate = np.array([right, right, right, wrong])
    baseline = np.array([wrong, wrong, right, right])
    found = comparison.agreement(candidate, baseline, np.array([0, 0, 0, 0]))
    assert (found["gains"], found["losses"], found["flips"]) == (2, 1, 3)
    assert found["difference"]["value"] == pytest.approx(0.25)
    assert found["candidate"]["value"] == 0.75
    assert found["baseline"]["value"] == 0.5


def test_compare_refuses_other_labels(
    here: Project, rarefy: Callable[..., Said], bundle: Path
) -> None:
    config = json.loads((bundle / "config.json").read_text())
    config["id2label"] = {"0": "cat", "1": "dog"}
    (bundle / "config.json").write_text(json.dumps(config))
    said = rarefy("compare", "tiny", bundle)
    assert said.code == 2
    assert "answers with the labels cat, dog" in said.err
    (bundle / "config.json").write_text("{}")
    assert "names no labels" in rarefy("compare", "tiny", bundle).err


@pytest.mark.parametrize("value", ["5", "0%", "-1%", "many", "100%"])
def test_a_limit_is_a_share(here: Project, rarefy: Callable[..., Said], value: str) -> None:
    for option in ("--max-regression", "--margin"):
        said = rarefy("compare", "tiny", "tiny", option, value)
        assert said.code == 2
        assert option in said.err


def test_numbers_of_an_older_run_on_this_machine(
    here: Project, rarefy: Callable[..., Said], file: Path
) -> None:
    arguments = ("compare", "tiny", file, "--seconds", "1")
    found = json.loads(rarefy(*arguments, "--max-regression", "5%", "--json").out)
    assert found["latency"]["recorded"] == str(file)
    assert found["accuracy"]["flips"] == 0
    reasons = [b["reason"] for b in found["verdict"]["budgets"] if b["metric"] == "latency_p50"]
    assert "an absolute number of another session" in reasons[0]
    table = rarefy(*arguments)
    assert "are absolute numbers from" in " ".join(table.err.split())


@pytest.mark.parametrize(
    ("at", "value", "code", "words"),
    [
        (("machine", "cpu"), "Z80", 4, "cpu (Z80 there, "),
        (("machine", "cores", "logical"), 512, 4, "cores.logical (512 there, "),
        (("machine", "libraries", "onnxruntime"), "1.0", 4, "libraries.onnxruntime (1.0 there, "),
        (("truth",), [0] * 20, 4, "was measured on other eval rows (20 there, 20 here"),
        (("data",), "0" * 64, 4, "the file's bytes differ), so no row can be compared"),
        (("labels",), ["cat", "dog"], 2, "answers with the labels cat, dog"),
        (("latency",), {}, 4, "has no times on cpu with 1 threads; it has none"),
        (("latency", "cpu", "threads"), 8, 4, "it has cpu with 8 threads"),
        (("latency", "cpu", "tokens"), [60, 60], 4, "have 60.0 tokens on average, ours"),
        (("schema",), "rarefy.measurements/1", 4, "this rarefy reads rarefy.measurements/2"),
        (("models",), 3, 2, "validation error"),
    ],
    ids=lambda value: ".".join(value) if isinstance(value, tuple) else "",
)
def test_numbers_that_say_nothing_here(
    here: Project, rarefy: Callable[..., Said], file: Path, at, value, code: int, words: str
) -> None:
    change(file, "measurements", *at, value=value)
    said = rarefy("compare", "tiny", file, "--seconds", "1")
    assert said.code == code
    assert words in said.err
    assert said.err.count("\n") == 1


@pytest.mark.parametrize(
    ("margin", "limit", "outcome"), [(0.2, 0.05, "fail"), (0.05, 0.2, "pass"), (0.05, 0.1, None)]
)
@pytest.mark.parametrize("throttled", [None, "calls became 40 % longer half way"])
def test_recorded_times_are_judged_by_the_limit_not_by_the_word_that_was_asked_for(
    margin: float, limit: float, outcome: str | None, throttled: str | None
) -> None:
    generator = np.random.default_rng(0)
    rows = generator.lognormal(0, 0.3, 60) * generator.lognormal(0, 0.005, (9, 60))
    then = Latency(samples={"baseline": rows.tolist()})
    now = Latency(samples={"candidate": (rows * 1.1).tolist()}, throttled=throttled)
    answers = ModelMeasurement(digest="d", size=1, probabilities=[[1.0, 0.0]] * 400)
    measured = Measurements(
        machine={}, task="text-classification", labels=["a", "b"], truth=[0] * 400,
        models={"candidate": answers, "baseline": answers}, latency={},
    )  # fmt: skip
    compared = Compared(
        names={}, measurements=measured, latency={"candidate": now, "baseline": then},
        times=recorded.change(now, then, margin), margin=margin, recorded="run.json",
    )  # fmt: skip
    judged = judge(compared, limit, Target())
    time = next(b for b in judged.budgets if b.metric == "latency_p50")
    if throttled:
        assert time.outcome == judged.outcome == "inconclusive"
        assert judged.exit_code(strict=False) == 4
    else:
        assert time.outcome == (outcome or "inconclusive")
        assert judged.exit_code(strict=False) == (3 if outcome == "fail" else 0)


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
    assert "model.onnx is not the file that the bundle's manifest.json names" in said.err


def test_a_file_without_measurements(
    here: Project, rarefy: Callable[..., Said], tmp_path: Path
) -> None:
    (tmp_path / "broken.json").write_text("{")
    (tmp_path / "list.json").write_text("[]")
    for file, words in {
        here.home / "runs" / "tiny" / "verdict.json": "holds no measurements",
        tmp_path / "list.json": "holds no measurements",
        tmp_path / "broken.json": "cannot be read as JSON",
        tmp_path / "nosuch.json": "cannot be read as JSON",
    }.items():
        said = rarefy("compare", "tiny", file)
        assert said.code == 2
        assert words in said.err


def test_the_interval_of_an_unpaired_ratio() -> None:
    exact, rough = Interval(2, 2, 2), Interval(3, 3 / 1.1, 3 * 1.1)
    assert recorded.unpaired_ratio(rough, exact) == pytest.approx((1.5, 1.5 / 1.1, 1.5 * 1.1))
    assert recorded.unpaired_ratio(exact, rough) == pytest.approx((2 / 3, 2 / 3.3, 2 / 3 * 1.1))
    both = recorded.unpaired_ratio(rough, rough)
    reach = math.exp(math.sqrt(2) * math.log(1.1))
    assert both == pytest.approx((1, 1 / reach, reach))


@pytest.mark.parametrize(
    ("factor", "word"),
    [(1.0, "equal"), (1.2, "regression"), (1 / 1.2, "improvement"), (1.05, "inconclusive")],
)
def test_a_change_between_two_sessions(factor: float, word: str) -> None:
    draw = np.random.default_rng(5)

    def session(name: str, scale: float) -> Latency:
        pace = 1 + 0.005 * draw.standard_normal((8, 1))
        return Latency(samples={name: (scale * pace * draw.gamma(100, 0.1, (8, 60))).tolist()})

    now, then = session("candidate", factor), session("baseline", 1.0)
    assert recorded.change(now, then, 0.05).change == word
    throttled = now.model_copy(update={"throttled": "the clock fell"})
    assert recorded.change(throttled, then, 0.05).change == "inconclusive"
