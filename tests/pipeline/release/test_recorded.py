"""Recorded numbers of an older run: when they are comparable here and when not."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from pipeline.measure.measurements import Latency, Measurements
from pipeline.release import recorded
from pipeline.terms.interval import Interval
from tests.pipeline.release.recordings import change
from tests.project import Project, Said


@pytest.mark.slow
def test_numbers_of_an_older_run_on_this_machine(
    here: Project, rarefy: Callable[..., Said], file: Path
) -> None:
    arguments = ("compare", "tiny", file, "--seconds", "1")
    found = json.loads(rarefy(*arguments, "--max-regression", "5%", "--json").out)
    assert found["latency"]["recorded"] == str(file)
    assert found["accuracy"]["flips"] == 0
    reasons = [b["reason"] for b in found["verdict"]["budgets"] if b["metric"] == "latency_p50"]
    assert "which was measured in another session" in reasons[0]
    table = rarefy(*arguments)
    assert "baseline's times were read from" in " ".join(table.err.split())


@pytest.mark.parametrize(
    ("at", "value", "code", "words"),
    [
        (("machine", "cpu"), "Z80", 4, "cpu (Z80 there, "),
        (("machine", "cores", "logical"), 512, 4, "cores.logical (512 there, "),
        (("machine", "libraries", "onnxruntime"), "1.0", 4, "libraries.onnxruntime (1.0 there, "),
        (("truth",), [0] * 20, 4, "was measured on other eval rows (20 there, 20 here"),
        (("data",), "0" * 64, 4, "the digests of the files differ), so the rows cannot"),
        (("labels",), ["cat", "dog"], 2, "predicts the labels cat, dog"),
        (("latency",), {}, 4, "has no latencies on cpu with 1 threads; it has none"),
        (("latency", "cpu", "threads"), 8, 4, "it has cpu with 8 threads"),
        (("latency", "cpu", "sample"), "0" * 16, 4, "other rows than ours; time the same (--rows"),
        (("latency", "cpu", "seed"), 3, 4, "other rows than ours"),  # ours are drawn by the file's
        (("latency", "cpu", "block"), 1, 4, "was timed in blocks of 1 call, ours in blocks of 20"),
        (("schema",), "rarefy.measurements/3", 4, "this rarefy reads rarefy.measurements/4"),
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


def test_the_answers_are_those_of_the_target_whose_times_are_taken(
    here: Project, rarefy: Callable[..., Said], file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = recorded.read

    def of_two_targets(path: Path) -> Measurements:
        old = read(path)
        timed = old.latency["cpu"]
        first = timed.model_copy(update={"provider": "openvino"})
        others = [row[::-1] for row in old.models["candidate"].answers]
        changes = {"latency": {"first": first, "cpu": timed}, "elsewhere": {"cpu": others}}
        return old.model_copy(update=changes)

    monkeypatch.setattr(recorded, "read", of_two_targets)
    said = rarefy("compare", "tiny", file, "--seconds", "1", "--json")
    assert json.loads(said.out)["accuracy"]["flips"] == 20, said.err


def test_a_file_without_measurements(
    here: Project, rarefy: Callable[..., Said], tmp_path: Path
) -> None:
    (tmp_path / "broken.json").write_text("{")
    (tmp_path / "list.json").write_text("[]")
    for file, words in {
        here.home / "runs" / "tiny" / "verdict.json": "holds no measurements",
        tmp_path / "list.json": "holds no measurements",
        tmp_path / "broken.json": "cannot read it as JSON",
        tmp_path / "nosuch.json": "cannot read it as JSON",
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
