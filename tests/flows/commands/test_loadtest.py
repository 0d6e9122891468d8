"""A bundle under load on the command line: a table, a gate, and requests that cannot be sent."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from rarefy.flows.commands.loadtest import rows as rows_to_send
from rarefy.pipeline.measure.load import session as load
from rarefy.pipeline.measure.load.queueing import arrivals
from rarefy.pipeline.store.home import Home
from rarefy.pipeline.tasks.embeddings.task import SENTENCE_EMBEDDINGS
from rarefy.pipeline.tasks.task import timed_requests
from tests.pipeline.measure import bundles
from tests.pipeline.measure.queues import served
from tests.project import Said

QUICK = ("--rate", "100", "--seconds", "1")


@pytest.fixture
def text(tmp_path: Path) -> Path:
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps({"text": row}) + "\n" for row in bundles.texts(10)))
    return path


@pytest.mark.slow
def test_a_row_for_each_rate(rarefy: Callable[..., Said], bundle: Path, text: Path) -> None:
    said = rarefy("loadtest", bundle, "--data", text, *QUICK, "--rate", "50", "--workers", "2")
    assert said.code == 0, said.err
    lines = [line for line in said.out.splitlines() if line.strip()]
    assert len(lines) == 3  # a heading and two rates
    assert "p99" in lines[0]
    assert "–" in lines[1]  # a hundred requests are too few for a p99


def test_json_has_every_number(rarefy: Callable[..., Said], bundle: Path, text: Path) -> None:
    said = rarefy("loadtest", bundle, "--data", text, *QUICK, "--json", "--arrivals", "constant")
    found = json.loads(said.out)
    (run,) = found["runs"]
    assert (found["rows"], found["exit_code"], said.code) == (10, 0, 0)
    assert (run["requests"], run["offered"], run["not_a_number"]) == (100, 100, 0)
    assert run["response_ms"]["p50"]["low"] <= run["response_ms"]["p50"]["value"]
    assert run["response_ms"]["max"] >= run["response_ms"]["p50"]["value"]
    assert run["response_ms"]["p99"] is None
    assert run["service_ms"]["p50"]["value"] > 0


def test_a_bundle_runs_on_the_provider_that_it_was_exported_for(
    rarefy: Callable[..., Said], text: Path, tmp_path: Path
) -> None:
    pytest.importorskip("openvino")
    made = bundles.make(tmp_path / "bundle", providers=["OpenVINO"])
    said = rarefy("loadtest", made, "--data", text, *QUICK, "--json")
    assert [run["provider"] for run in json.loads(said.out)["runs"]] == ["openvino"]


def test_a_runs_own_eval_split_is_sent(
    rarefy: Callable[..., Said], bundle: Path, text: Path, tmp_path: Path
) -> None:
    recipe = tmp_path / "tiny.yaml"
    recipe.write_text(
        "name: tiny\nmodel: encoder\nstages: [export]\n"
        f"data: {{train: none.jsonl, eval: {text.name}}}\n"
    )
    run = tmp_path / "home" / "runs" / "tiny"
    run.mkdir(parents=True)
    (run / "bundle").symlink_to(bundle)
    made = {"name": "tiny", "command": f"rarefy run {recipe}"}
    (run / "run.json").write_text(json.dumps(made))
    said = rarefy("loadtest", "tiny", *QUICK, "--json", "--home", tmp_path / "home")
    assert json.loads(said.out)["rows"] == 10


def test_a_search_sends_its_queries_whatever_ids_its_documents_have(tmp_path: Path) -> None:
    rows = [{"query": f"film {at}", "positive": at} for at in range(3)]
    (tmp_path / "eval.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    recipe = tmp_path / "tiny.yaml"
    recipe.write_text(
        "name: tiny\nmodel: encoder\nstages: [export]\ntask: sentence-embeddings\n"
        "data: {train: none.jsonl, eval: eval.jsonl, corpus: none.jsonl, text: [query, positive], "
        "label: null}\n"
    )
    sent = rows_to_send("tiny", None, (), recipe, Home(tmp_path / "home"))
    assert (list(sent.texts), sent.pairs) == (["film 0", "film 1", "film 2"], None)
    assert timed_requests(SENTENCE_EMBEDDINGS, sent) == (sent.texts, None)


@pytest.mark.parametrize(
    ("requests", "limit", "code", "words"),
    [
        (1000, "20 ms", 0, "pass: "),
        (1000, "500us", 3, "fail: "),
        (20, "60 s", 4, "inconclusive: "),
    ],
)
def test_the_gate(
    rarefy: Callable[..., Said],
    bundle: Path,
    text: Path,
    monkeypatch: pytest.MonkeyPatch,
    requests: int,
    limit: str,
    code: int,
    words: str,
) -> None:
    """A simulated worker, which takes a millisecond for each answer."""
    sent = arrivals(requests / 10, 10, seed=0)
    found = served(sent, [0.001] * len(sent))
    monkeypatch.setattr(load, "measure", lambda *_, **__: found)
    gate = ("loadtest", bundle, "--data", text, *QUICK, f"--max-p99={limit}")
    said = rarefy(*gate)
    assert said.code == code
    assert words in said.out.splitlines()[-1]
    told = json.loads(rarefy(*gate, "--json").out)
    assert told["exit_code"] == code
    assert words.startswith(told["runs"][0]["p99"]["outcome"])


def test_unanswered_requests_are_told(
    rarefy: Callable[..., Said], bundle: Path, text: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent = arrivals(100, 10, seed=0, kind="constant")
    found = served(sent, [0.1] * len(sent), until=20)
    monkeypatch.setattr(load, "measure", lambda *_, **__: found)
    gate = ("loadtest", bundle, "--data", text, *QUICK, "--max-p99", "20ms")
    said = rarefy(*gate)
    assert said.code == 3
    assert "800 of 1,000 requests were not answered" in said.err
    assert "requests a second need 1000% of the workers' time" in said.err
    assert "fail: p99 is at least" in said.out
    assert "≥ " in said.out.splitlines()[1]
    (run,) = json.loads(rarefy(*gate, "--json").out)["runs"]
    assert (run["requests"], run["unanswered"], run["offered"]) == (1000, 800, 100)
    assert run["achieved"] == pytest.approx(10)


@pytest.mark.slow
def test_a_gate_on_a_real_measurement(
    rarefy: Callable[..., Said], bundle: Path, text: Path
) -> None:
    """No model answers within a microsecond."""
    many = ("--data", text, "--arrivals", "constant", "--rate", "400", "--seconds", "1")
    missed = rarefy("loadtest", bundle, *many, "--max-p99", "1us", "--json")
    assert missed.code == 3
    assert json.loads(missed.out)["runs"][0]["p99"]["outcome"] == "fail"
    few = rarefy("loadtest", bundle, "--data", text, *QUICK, "--max-p99", "60 s")
    assert few.code == 4
    assert "requests are too few to estimate p99" in few.out


def test_answers_that_are_no_numbers_fail_the_gate(
    rarefy: Callable[..., Said], tmp_path: Path, text: Path
) -> None:
    broken = bundles.make(tmp_path / "broken", head=float("nan"))
    said = rarefy("loadtest", broken, "--data", text, *QUICK, "--max-p99", "60 s")
    assert said.code == 3
    assert "predictions are NaN or infinite" in said.out
    assert "predictions are NaN or infinite" in said.err


def test_what_cannot_be_sent_is_said(
    rarefy: Callable[..., Said], bundle: Path, text: Path, tmp_path: Path
) -> None:
    assert rarefy("loadtest", bundle, "--data", text).code == 2
    assert rarefy("loadtest", bundle, "--data", text, "--rate", "0").code == 2
    empty = tmp_path / "empty.jsonl"
    empty.write_text("")
    said = rarefy("loadtest", bundle, "--data", empty, *QUICK)
    assert (said.code, said.out) == (2, "")
    assert "empty" in said.err
    column = rarefy("loadtest", bundle, "--data", text, *QUICK, "--text", "review")
    assert column.code == 2
    assert "no column 'review'; the file has text" in column.err
    nameless = rarefy("loadtest", bundle, *QUICK)
    assert nameless.code == 2
    assert "name the recipe with --recipe" in nameless.err


@pytest.mark.parametrize("limit", ["20 MB", "0", "-5ms", "fast", "5 %"])
def test_a_limit_that_is_no_time(
    rarefy: Callable[..., Said], bundle: Path, text: Path, limit: str
) -> None:
    said = rarefy("loadtest", bundle, "--data", text, *QUICK, f"--max-p99={limit}")
    assert said.code == 2
    assert "--max-p99" in said.err


def test_a_missing_provider_ends_with_5(
    rarefy: Callable[..., Said], bundle: Path, text: Path
) -> None:
    import onnxruntime

    if "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        pytest.skip("this machine has the provider")
    said = rarefy("loadtest", bundle, "--data", text, *QUICK, "--provider", "cuda")
    assert (said.code, said.out) == (5, "")
    assert "provider 'cuda' is not active" in said.err
