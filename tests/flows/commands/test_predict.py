"""Predict the label of a text on the command line."""

from __future__ import annotations

import csv
import io
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rarefy.flows.commands import predict
from rarefy.pipeline.model.runtime.bundle_model import BundleModel
from rarefy.pipeline.terms.errors import DataError
from tests.pipeline.measure import bundles
from tests.project import Project, Said


def test_a_session_that_fell_back_to_the_cpu_ends_with_5(
    rarefy: Callable[..., Said], bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As if the driver were too old: ONNX Runtime silently falls back to the CPU."""
    import onnxruntime

    real = onnxruntime.InferenceSession
    promised = ["CUDAExecutionProvider", "CPUExecutionProvider"]
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: promised)
    monkeypatch.setattr(onnxruntime, "preload_dlls", lambda: None)
    monkeypatch.setattr(
        onnxruntime,
        "InferenceSession",
        lambda path, options, **_: real(path, options, providers=["CPUExecutionProvider"]),
    )
    said = rarefy("predict", bundle, "w1 w2", "--provider", "cuda", "--json")
    assert said.code == 5
    expected = "provider 'cuda' is not active: the session runs on CPUExecutionProvider"
    assert json.loads(said.out) == {"error": expected, "exit_code": 5}


def pipe(monkeypatch: pytest.MonkeyPatch, given: bytes, errors: str = "strict") -> None:
    stdin = io.TextIOWrapper(io.BytesIO(given), encoding="utf-8", errors=errors)
    monkeypatch.setattr("sys.stdin", stdin)


def test_pairs_are_answered_in_order(
    rarefy: Callable[..., Said], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    there = bundles.make(tmp_path / "bundle", pairs=True)
    pipe(monkeypatch, b"w1 w2\tw5\n\nw1\tw3 w4 w6\n\t \n\tw5\n")
    said = rarefy("predict", there, "--json")
    lines = [json.loads(line) for line in said.out.splitlines()]
    given = [(line["text"], line["pair"]) for line in lines]
    assert given == [("w1 w2", "w5"), ("w1", "w3 w4 w6"), ("", "w5")]
    pair = rarefy("predict", there, "--pair", "w1", "w3 w4 w6", "--json")
    assert json.loads(pair.out) == lines[1]


def test_a_tab_divides_no_line_for_a_bundle_of_single_texts(
    here: Project, rarefy: Callable[..., Said], monkeypatch: pytest.MonkeyPatch
) -> None:
    pipe(monkeypatch, b"a dull story\tand a grey one\n")
    (line,) = rarefy("predict", "tiny", "--json").out.splitlines()
    answer = json.loads(line)
    assert (answer["text"], answer["pair"]) == ("a dull story\tand a grey one", None)
    said = rarefy("predict", "tiny", "--pair", "a dull story", "and a grey one")
    assert (said.code, said.out) == (2, "")
    assert "this bundle reads single texts, not pairs of texts" in said.err


def test_many_lines_share_calls_and_keep_their_order(
    here: Project, rarefy: Callable[..., Said], monkeypatch: pytest.MonkeyPatch
) -> None:
    texts = ["film " * (1 + at % 3) + str(at) for at in range(60)]
    sizes, run = [], BundleModel.run

    def counted(model: BundleModel, feed: Any) -> Any:
        sizes.append(len(feed["input_ids"]))
        return run(model, feed)

    monkeypatch.setattr(BundleModel, "run", counted)
    pipe(monkeypatch, "\r\n".join(texts).encode())
    said = rarefy("predict", "tiny", "--json")
    assert [json.loads(line)["text"] for line in said.out.splitlines()] == texts
    assert max(sizes) > 1
    assert sum(sizes) == 60


def test_lines_are_answered_when_they_arrive(monkeypatch: pytest.MonkeyPatch) -> None:
    reading, writing = os.pipe()
    with os.fdopen(reading, encoding="utf-8") as stdin:
        monkeypatch.setattr("sys.stdin", stdin)
        arriving = predict.arriving_rows(paired=True)
        os.write(writing, "one\n \ntwo\thalf of \u00e9".encode()[:-1])
        assert next(arriving) == [("one", None)]
        os.write(writing, "\u00e9\nthree\nfour".encode()[1:])
        assert next(arriving) == [("two", "half of \u00e9"), ("three", None)]
        os.close(writing)
        assert list(arriving) == [[("four", None)]]


def test_a_byte_order_mark_is_no_part_of_the_first_line(monkeypatch: pytest.MonkeyPatch) -> None:
    pipe(monkeypatch, b"\xef\xbb\xbfone\n\xef\xbb\xbftwo\n")
    assert list(predict.arriving_rows(paired=False)) == [[("one", None), ("\ufefftwo", None)]]
    pipe(monkeypatch, b"\xef\xbb\xbf\n")
    assert list(predict.arriving_rows(paired=False)) == []


def test_a_closed_stdin_has_no_lines(
    rarefy: Callable[..., Said], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", None)
    said = rarefy("predict", "tiny")
    assert said.code == 2
    assert "give a TEXT or --pair FIRST SECOND" in " ".join(said.err.split())


def test_a_damaged_bundle_answers_nothing(
    here: Project, rarefy: Callable[..., Said], tmp_path: Path
) -> None:
    folder = shutil.copytree(here.home / "runs" / "tiny" / "bundle", tmp_path / "bundle")
    labels = folder / "config.json"
    labels.chmod(0o644)
    labels.write_text(labels.read_text() + "\n")
    said = rarefy("predict", folder, "a fine film")
    assert (said.code, said.out) == (6, "")
    assert "config.json does not match the digest" in said.err


@pytest.mark.parametrize("errors", ["strict", "surrogateescape"])
def test_bytes_that_are_not_utf_8_end_with_2(
    here: Project, rarefy: Callable[..., Said], monkeypatch: pytest.MonkeyPatch, errors: str
) -> None:
    """Which handler stdin has depends on the locale."""
    pipe(monkeypatch, b"a dull caf\xe9\n", errors)
    said = rarefy("predict", "tiny")
    assert (said.code, said.out) == (2, "")
    assert "line 1 of stdin is not valid UTF-8" in said.err
    assert len(said.err.splitlines()) == 1
    argument = rarefy("predict", "tiny", "caf\udce9")
    assert argument.code == 2
    assert "'caf\\udce9' is not valid Unicode" in argument.err


@pytest.mark.parametrize("errors", ["strict", "surrogateescape"])
def test_lines_before_one_that_is_not_utf_8_are_answered(
    rarefy: Callable[..., Said], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, errors: str
) -> None:
    there = bundles.make(tmp_path / "bundle")
    pipe(monkeypatch, b"w1 w2\n\nw3\nw4 caf\xe9\nw5\n", errors)
    said = rarefy("predict", there, "--json")
    first, second, error = [json.loads(line) for line in said.out.splitlines()]
    assert (said.code, first["text"], second["text"]) == (2, "w1 w2", "w3")
    assert error == {"error": "line 4 of stdin is not valid UTF-8", "exit_code": 2}


def test_a_line_that_is_not_utf_8_is_counted_over_all_that_arrived(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    reading, writing = os.pipe()
    with os.fdopen(reading, encoding="utf-8") as stdin:
        monkeypatch.setattr("sys.stdin", stdin)
        arriving = predict.arriving_rows(paired=False)
        os.write(writing, b"one\ntwo\nthr")
        assert next(arriving) == [("one", None), ("two", None)]
        os.write(writing, b"ee\nfour, cut off \xc3")
        assert next(arriving) == [("three", None)]
        os.close(writing)
        with pytest.raises(DataError, match="line 4 of stdin is not valid UTF-8"):
            next(arriving)


def test_an_encoding_whose_wrong_bytes_cannot_be_escaped(monkeypatch: pytest.MonkeyPatch) -> None:
    cut = io.TextIOWrapper(io.BytesIO("one\n".encode("utf-16") + b"\x00"), encoding="utf-16")
    monkeypatch.setattr("sys.stdin", cut)
    with pytest.raises(DataError, match="stdin is not valid UTF-16"):
        list(predict.arriving_rows(paired=False))


@pytest.mark.parametrize(
    ("fact", "texts", "said"),
    [
        ("words", ("--pair", "w1", "w2"), "reads single texts in words"),
        ("windows", ("--pair", "w1", "w2"), "reads single texts in windows"),
        ("pairs", ("w1",), "reads pairs of texts; give a second text"),
    ],
)
def test_rows_that_a_bundle_cannot_read_end_with_2(
    rarefy: Callable[..., Said], tmp_path: Path, fact: str, texts: tuple[str, ...], said: str
) -> None:
    there = bundles.make(tmp_path / "bundle")
    signature = json.loads((there / "signature.json").read_text())
    (there / "signature.json").write_text(json.dumps(signature | {fact: True}))
    answer = rarefy("predict", there, *texts)
    assert (answer.code, answer.out) == (2, "")
    assert said in answer.err


def test_the_bundle_s_own_provider_answers(
    rarefy: Callable[..., Said], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As predict.py in the bundle does; another must be asked for."""
    import onnxruntime

    pytest.importorskip("openvino")
    made = bundles.make(tmp_path / "bundle", providers=["OpenVINO"])

    def refuse(*_: object, **__: object) -> None:
        raise RuntimeError("a session of ONNX Runtime's")

    monkeypatch.setattr(onnxruntime, "InferenceSession", refuse)
    said = rarefy("predict", made, "w1 w2", "--json")
    assert said.code == 0, said.err
    assert json.loads(said.out)["label"] in ("no", "yes")
    other = rarefy("predict", made, "w1 w2", "--provider", "cpu")
    assert other.code != 0
    assert "a session of ONNX Runtime's" in other.err


def test_a_missing_provider_ends_with_5(here: Project, rarefy: Callable[..., Said]) -> None:
    import onnxruntime

    if "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        pytest.skip("this machine has the provider")
    said = rarefy("predict", "tiny", "text", "--provider", "cuda")
    assert said.code == 5
    assert "provider 'cuda' is not active" in said.err


TICKETS = [("1", "a lovely great film"), ("2", ""), ("3", "a dull, awful film")]


def write_tickets(folder: Path) -> Path:
    """Write a CSV file whose second row has no text, and whose columns are called like ours."""
    path = folder / "tickets.csv"
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([("score", "body"), *TICKETS])
    return path


@pytest.mark.parametrize("ending", ["csv", "jsonl"])
def test_the_rows_of_a_file_are_predicted(
    here: Project, rarefy: Callable[..., Said], tmp_path: Path, ending: str
) -> None:
    source, out = write_tickets(tmp_path), tmp_path / f"new/predicted.{ending}"
    said = rarefy("predict", "tiny", "--data", source, "--text", "body", "--out", out)
    assert (said.code, said.out) == (0, f"{out}\n"), said.err
    assert "note: 1 row without text: no prediction" in said.err
    with out.open(newline="") as file:
        rows = list(csv.DictReader(file) if ending == "csv" else map(json.loads, file))
    assert [(row["score"], row["body"] or "") for row in rows] == TICKETS
    assert not rows[1]["prediction"]
    assert not list(out.parent.glob("*.part"))
    for row in (rows[0], rows[2]):
        alone = json.loads(rarefy("predict", "tiny", row["body"], "--json").out)
        assert row["prediction"] == alone["label"]
        share = alone["probabilities"][alone["label"]]
        assert float(row["score_"]) == pytest.approx(share, abs=0.02), "its column had the name"


def test_pairs_of_a_parquet_file_are_predicted(rarefy: Callable[..., Said], tmp_path: Path) -> None:
    import pyarrow
    from pyarrow import parquet

    there = bundles.make(tmp_path / "bundle", pairs=True)
    rows = pyarrow.table({"one": ["w1", "w2"], "two": ["w3 w4", "w5"]})
    parquet.write_table(rows, tmp_path / "rows.parquet")
    out = tmp_path / "out.jsonl"
    text = ("--text", "one", "--text", "two")
    said = rarefy("predict", there, "--data", tmp_path / "rows.parquet", *text, "--out", out)
    assert said.code == 0, said.err
    first, second = map(json.loads, out.read_text().splitlines())
    assert (first["one"], first["two"], second["two"]) == ("w1", "w3 w4", "w5")
    (line,) = rarefy("predict", there, "--pair", "w1", "w3 w4", "--json").out.splitlines()
    assert first["prediction"] == json.loads(line)["label"]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (("tickets.csv",), "tickets.csv is a file; its rows are predicted by: rarefy predict"),
        (("--data", "tickets.csv", "--out", "out.csv"), "no column 'text'; it has score, body"),
        (("--data", "none.csv", "--out", "out.csv"), "none.csv: no such file"),
        (("--data", "tickets.csv", "--out", "out.txt"), "give a file that ends with .csv or .j"),
        (("--data", "tickets.csv", "--out", "tickets.csv"), "is the input file"),
        (("--data", "tickets.csv"), "--data and --out must be given together"),
        (("a text", "--data", "tickets.csv", "--out", "out.csv"), "give either --data or texts"),
    ],
)
def test_what_is_no_file_of_rows_is_said(
    rarefy: Callable[..., Said],
    bundle: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    given: tuple[str, ...],
    said: str,
) -> None:
    source = write_tickets(tmp_path)
    before = source.read_bytes()
    monkeypatch.chdir(tmp_path)
    answer = rarefy("predict", bundle, *given)
    assert (answer.code, answer.out) == (2, "")
    assert said in " ".join(answer.err.split())
    assert source.read_bytes() == before
    assert [path.name for path in tmp_path.glob("*.*")] == ["tickets.csv"]
