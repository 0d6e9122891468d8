"""The race times bundles of ours and graphs of others by what measures a run."""

import json
import shutil

import pytest

from benchmarks import race
from tests.pipeline.measure import bundles


@pytest.fixture(scope="module")
def forms(tmp_path_factory):
    """A bundle of ours, and another tool's folder with the same graph."""
    folder = tmp_path_factory.mktemp("forms")
    ours = bundles.make(folder / "ours", providers=["CPUExecutionProvider"])
    theirs = folder / "theirs"
    theirs.mkdir()
    shutil.copy(ours / "model.onnx", theirs)
    return {"ours": ours, "theirs": theirs}


def test_all_forms_are_timed_on_the_rows_and_at_each_length(forms):
    texts = [json.dumps(list(range(1, length))) for length in range(5, 30)]
    request = race.timing(forms, texts, seed=[0, 0], seconds=0.1)
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
