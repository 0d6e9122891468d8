"""What is refused without MLflow; what it loads is tested with it, in tests/consumers."""

from __future__ import annotations

import importlib.util

import pytest

from exporters.forms import mlflow
from pipeline.model.runtime import PROVIDERS
from pipeline.terms.errors import ModelError, ProviderError
from tests.exporters.forms import bundles


def test_without_mlflow_the_extra_is_named_and_nothing_is_written(
    classifier, tmp_path, monkeypatch
):
    real = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *a: None if name == "mlflow" else real(name, *a)
    )
    (tmp_path / "out").mkdir()
    with pytest.raises(ProviderError, match=r"rarefy\[mlflow\]"):
        mlflow.write(bundles.read(classifier), tmp_path / "out")
    assert list((tmp_path / "out").iterdir()) == []


def test_a_bundle_for_cpus_with_vnni_is_refused(classifier, tmp_path, monkeypatch):
    """The graph of the flavor onnx would give wrong answers on other CPUs without a word."""
    monkeypatch.setattr(mlflow, "check_installed", lambda: None)
    bundles.change(classifier, "signature.json", lambda values: values.update(isa="vnni"))
    (tmp_path / "out").mkdir()
    with pytest.raises(ModelError, match=r"'mlflow'.*without isa"):
        mlflow.write(bundles.read(classifier), tmp_path / "out")
    assert list((tmp_path / "out").iterdir()) == []


def test_a_bundle_for_openvino_asks_for_openvino(classifier):
    pytest.importorskip("openvino")
    change = {"providers": [PROVIDERS["openvino"]]}
    bundles.change(classifier, "session_options.json", lambda values: values.update(change))
    found = mlflow._requirements(bundles.read(classifier))
    assert [each.partition("==")[0] for each in found] == [
        "openvino",
        "onnx",
        "numpy",
        "tokenizers",
    ]


def test_the_requirements_are_what_the_bundle_s_runner_imports(classifier):
    found = mlflow._requirements(bundles.read(classifier))
    names = [each.partition("==")[0] for each in found]
    assert names == ["onnxruntime", "onnx", "numpy", "tokenizers"]
    import onnxruntime

    assert found[0] == f"onnxruntime=={onnxruntime.__version__}"
