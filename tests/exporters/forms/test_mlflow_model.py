"""The model that MLflow runs, here with a stand-in for the two names that it imports of MLflow.

With MLflow itself it is run in tests/consumers.
"""

from __future__ import annotations

import json
import runpy
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from rarefy.exporters import forms
from tests.exporters.forms import bundles

FILE = Path(forms.__file__).with_name("mlflow_model.py")


@pytest.fixture
def load(monkeypatch):
    """Run the file as MLflow does, and load a bundle's folder."""
    found = []
    parts = {
        "mlflow": {},
        "mlflow.models": {"set_model": found.append},
        "mlflow.pyfunc": {"PythonModel": object},
    }
    for name, values in parts.items():
        module = ModuleType(name)
        vars(module).update(values)
        monkeypatch.setitem(sys.modules, name, module)

    def run(folder):
        runpy.run_path(str(FILE))
        model = found.pop()
        model.load_context(SimpleNamespace(artifacts={"bundle": str(folder)}))
        return model

    return run


def test_a_table_of_texts_gets_the_answers_of_the_sample(load, classifier):
    request, response = (
        json.loads((classifier / f"samples/{name}.json").read_text())
        for name in ("request", "response")
    )
    model = load(classifier)
    for _ in range(2):
        table = pd.DataFrame({"text": request["texts"]})
        assert model.predict(None, table) == response["predictions"]


def test_the_session_is_opened_once(load, classifier):
    model = load(classifier)
    (classifier / "model.onnx").unlink()
    assert len(model.predict(None, pd.DataFrame({"text": ["a fine film", "dull"]}))) == 2


def test_a_request_opens_no_file_and_leaves_the_tokenizer_that_threads_share(load, classifier):
    bundles.change(classifier, "signature.json", lambda values: values.update(windows=True))
    model, table = load(classifier), pd.DataFrame({"text": ["a fine film " * 40]})
    tokenizer = model.model.tokenizer
    cut = tokenizer.truncation
    assert cut["stride"] > 0
    expected = model.predict(None, table)
    for path in classifier.glob("*.json"):
        path.unlink()
    assert model.predict(None, table) == expected
    tokenizer.enable_truncation(cut["max_length"])
    model.predict(None, table)
    assert tokenizer.truncation["stride"] == 0, "a request does not set it"


def test_a_row_that_the_bundle_cannot_read_is_an_error_of_the_request(load, classifier):
    bundles.change(classifier, "signature.json", lambda values: values.update(pairs=True))
    model = load(classifier)
    with pytest.raises(ValueError, match="reads pairs of texts"):
        model.predict(None, pd.DataFrame({"text": ["a fine film"]}))
    paired = model.predict(None, pd.DataFrame({"text": ["fine"], "pair": ["dull"]}))
    assert set(paired[0]) == {"label", "probabilities"}


def test_a_machine_that_cannot_run_the_bundle_is_an_error_at_loading(load, classifier):
    changes = {"providers": ["CUDAExecutionProvider"]}
    bundles.change(classifier, "session_options.json", lambda values: values.update(changes))
    with pytest.raises(RuntimeError, match="not active"):
        load(classifier)


@pytest.mark.parametrize("form", [list, tuple, np.array])
def test_lists_of_words_are_for_a_bundle_that_answers_words(load, classifier, form):
    model, table = load(classifier), pd.DataFrame({"text": [form(["a", "film"]), "a film"]})
    with pytest.raises(ValueError, match=r"a text is a string, not \['a', 'film'\]$"):
        model.predict(None, table)
    with pytest.raises(ValueError, match=r"a text is a string, not 3$"):
        model.predict(None, pd.DataFrame({"text": [3]}))
    bundles.change(classifier, "signature.json", lambda values: values.update(words=True))
    model, asked = load(classifier), []
    model.model = lambda *given: asked.append(given) or []
    model.predict(None, table)
    assert asked == [([["a", "film"], "a film"], None)]


@pytest.mark.parametrize("missing", [None, float("nan")])
def test_a_row_without_text_has_no_answer(load, classifier, missing):
    model = load(classifier)
    with pytest.raises(ValueError, match="row 1 has no 'text'"):
        model.predict(None, pd.DataFrame({"text": ["a fine film", missing]}))
