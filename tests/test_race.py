"""The race times bundles of ours and graphs of others by what measures a run."""

import itertools
import json
import shutil
from dataclasses import asdict

import pytest

from benchmarks import race
from tests.pipeline.measure import bundles


@pytest.fixture(scope="module")
def forms(tmp_path_factory):
    """A bundle of ours, and another tool's folder with the same graph."""
    folder = tmp_path_factory.mktemp("forms")
    ours = bundles.make(folder / "ours", together="rows", providers=["CPUExecutionProvider"])
    theirs = folder / "theirs"
    theirs.mkdir()
    shutil.copy(ours / "model.onnx", theirs)
    return {"ours": ours, "theirs": theirs}


def test_all_forms_are_timed_on_the_rows_and_at_each_length(forms):
    texts = [json.dumps(list(range(1, length))) for length in range(5, 30)]
    request = race.timing_request(forms, texts, seed=[0, 0], seconds=0.1)
    times = race.by_length([race.call(request, "two forms")])
    assert list(times) == [race.REAL, *map(str, race.LENGTHS)]
    for of_length in times.values():
        assert of_length.keys() == forms.keys()
        assert all(min(calls) > 0 for [calls] in of_length.values())


def test_a_form_says_at_which_length_it_fails(forms, tmp_path):
    def failure(form):
        request = {"job": "fails", "form": str(form), "lengths": [8, 200]}
        return race.call(request, "a form")["fails"]

    assert failure(forms["theirs"]) is None
    of_two_rows = bundles.make(tmp_path / "two", together=2, providers=["CPUExecutionProvider"])
    assert failure(of_two_rows).startswith("8 tokens: ")


@pytest.mark.parametrize("form", ["ours", "theirs"])
def test_forms_answer_and_are_counted(forms, form):
    texts = [json.dumps(list(range(1, length))) for length in range(5, 30)]
    request = {"job": "answers", "form": str(forms[form]), "texts": texts}
    logits = race.call(request, "answers")["logits"]
    assert len(logits) == len(texts)
    assert {len(of_row) for of_row in logits} == {2}
    core = race.machine.cores()[0]
    request |= {"job": "rate", "cores": [[core], [core]], "batch": 4, "seconds": 0.1, "seed": 1}
    assert race.call(request, "rate")["rate"] > 0


def test_other_models_and_cpus_stay_in_the_record(monkeypatch, tmp_path):
    record = {"rows": [], "must_show": []}
    for model, cpu in itertools.product(("6x384", "bert"), ("this", "this (amx_int8)")):
        record["rows"].append({"model": model, "cpu": cpu})
        claim = {"claim": f"{model} on {cpu}, rows: ours", "target": "", "measured": ""}
        record["must_show"].append(claim | {"holds": None})
    monkeypatch.setattr(race, "RESULTS", tmp_path / "race.json")
    monkeypatch.setattr(race, "cpu", lambda: "this")
    assert race.rest_of_record(["bert"]) == ([], [])
    race.RESULTS.write_text(json.dumps(record))
    rows, claims = race.rest_of_record(["6x384"])
    assert rows == record["rows"][1:]
    assert [asdict(claim) for claim in claims] == record["must_show"][1:]
