"""What is refused before a server is asked; a real server is asked in tests/consumers."""

from __future__ import annotations

import pytest

from exporters.forms import mlflow, mlflow_registry
from exporters.forms.mlflow_registry import Alias
from pipeline.terms.errors import RecipeError
from pipeline.verdict.provenance import Provenance
from tests.exporters.forms import bundles
from tests.pipeline.report.factory import report_data


@pytest.fixture(autouse=True)
def _installed(monkeypatch):
    monkeypatch.setattr(mlflow, "check_installed", lambda: None)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)


def test_the_address_is_given_or_in_the_environment(monkeypatch):
    assert mlflow_registry.address(None) is None
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:5000")
    assert mlflow_registry.address(None) == "http://127.0.0.1:5000"
    assert mlflow_registry.address("http://127.0.0.1:5001") == "http://127.0.0.1:5001"


def test_an_address_with_credentials_is_refused(monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://me:secret@127.0.0.1:5000")
    with pytest.raises(RecipeError, match="contains credentials"):
        mlflow_registry.address(None)


@pytest.mark.parametrize("alias", ["latest", "Latest", "v1", "V12", "a.b", ""])
def test_an_alias_that_mlflow_does_not_allow_is_refused(alias):
    with pytest.raises(RecipeError, match="cannot be an alias"):
        Alias("http://127.0.0.1:1", "reviews", alias).check()


@pytest.mark.parametrize("name", ["a/b", "a'b", "", "a:1"])
def test_a_name_that_mlflow_does_not_allow_is_refused(classifier, name):
    with pytest.raises(RecipeError, match="registered model's name"):
        Alias("http://127.0.0.1:1", name, "production").check()
    with pytest.raises(RecipeError, match="registered model's name"):
        mlflow_registry.register(
            bundles.read(classifier), Provenance(), [], "http://127.0.0.1:1", name
        )


def test_an_alias_without_a_server_names_the_variable():
    with pytest.raises(RecipeError, match="set MLFLOW_TRACKING_URI"):
        Alias(None, "reviews", "production").check()


def test_the_numbers_are_the_ledger_s_and_the_candidate_s():
    record = report_data()
    found = mlflow_registry.numbers_of(record, judged=True)
    for row in record.ledger:
        assert found[f"{row.id}.size"] == row.size
        if row.accuracy:
            assert found[f"{row.id}.{row.metric}"] == row.accuracy[0]
    assert any(name.startswith("latency_p50.") for name in found)
    # Another bundle of the run has no numbers but those of the ledger.
    others = mlflow_registry.numbers_of(record, judged=False)
    assert others.keys() < found.keys()
    assert not any(name.startswith(("latency", "speedup", "memory")) for name in others)
