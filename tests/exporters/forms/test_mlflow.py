"""What is refused without MLflow; what it loads is tested with it, in tests/consumers."""

from __future__ import annotations

import importlib.util

import onnx
import pytest

from rarefy.exporters.forms import mlflow
from rarefy.pipeline.model.runtime import providers
from rarefy.pipeline.model.runtime.providers import PROVIDERS
from rarefy.pipeline.terms.errors import ModelError, ProviderError
from tests.exporters.forms import bundles


def test_without_mlflow_the_extra_is_named_and_nothing_is_written(
    classifier, tmp_path, monkeypatch
):
    real = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *a: None if name == "mlflow" else real(name, *a)
    )
    (tmp_path / "out").mkdir()
    with pytest.raises(ProviderError, match=r"pip install .?mlflow-skinny"):
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


@pytest.mark.parametrize(
    ("provider", "runtime"),
    [
        ("cpu", ["onnxruntime=={}"]),
        ("cuda", ["onnxruntime-gpu[cuda,cudnn]=={}"]),
        ("tensorrt", ["onnxruntime-gpu[cuda,cudnn]=={}", "tensorrt=={}"]),
        ("openvino", ["openvino=={}"]),
    ],
)
def test_the_requirements_are_the_card_s_and_what_the_flavor_onnx_needs(
    classifier, monkeypatch, provider, runtime
):
    """A GPU's build brings its libraries along: the environment that MLflow makes has none."""
    change = {"providers": [PROVIDERS[provider]]}
    bundles.change(classifier, "session_options.json", lambda values: values.update(change))
    monkeypatch.setattr(mlflow, "distribution_version", lambda name: f"1.0.{len(name)}")
    found = mlflow._requirements(bundles.read(classifier))
    names = [each.partition("==")[0].partition("[")[0] for each in found]
    wanted = [*runtime, "tokenizers=={}", "numpy=={}", "onnx=={}"]
    pinned = zip(wanted, names, strict=True)
    assert found == [each.format(f"1.0.{len(name)}") for each, name in pinned]


def test_what_is_not_installed_here_is_required_as_on_the_card(classifier, monkeypatch):
    """A machine that releases need not have what the bundle was measured with."""
    change = {"providers": [PROVIDERS["openvino"]]}
    bundles.change(classifier, "session_options.json", lambda values: values.update(change))
    monkeypatch.setattr(mlflow, "distribution_version", lambda name: None)
    card = providers.packages("openvino")
    assert card[0].startswith("openvino>=")
    assert mlflow._requirements(bundles.read(classifier)) == [*card, "onnx"]


def test_a_runtime_that_is_installed_has_its_version(classifier):
    import onnxruntime

    found = mlflow._requirements(bundles.read(classifier))
    assert found[0] == f"onnxruntime=={onnxruntime.__version__}"


def test_a_graph_that_onnx_s_checker_refuses_has_no_flavor_of_its_own(classifier):
    """RMSNorm is ONNX Runtime's own, in ONNX's domain; ``mlflow.onnx`` checks what it loads."""
    import onnx
    from onnx import TensorProto, helper

    for name, standard in (("LayerNormalization", True), ("SimplifiedLayerNormalization", False)):
        given, made = (
            helper.make_tensor_value_info(each, TensorProto.FLOAT, [1, 4]) for each in "xy"
        )
        scale = helper.make_tensor("s", TensorProto.FLOAT, [4], [1.0] * 4)
        node = helper.make_node(name, ["x", "s"], ["y"])
        graph = helper.make_graph([node], "norm", [given], [made], [scale])
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)])
        onnx.save(model, classifier / "model.onnx")
        assert mlflow._has_flavor(bundles.read(classifier)) is standard


def test_a_bundle_for_openvino_is_not_given_to_onnx_runtime(classifier):
    """The graph has no operators that ONNX Runtime lacks, but other answers and times there."""
    known = onnx.defs.onnx_opset_version() >= 23  # onnx 1.17 does not know the graph's operators
    assert mlflow._has_flavor(bundles.read(classifier)) is known
    change = {"providers": [PROVIDERS["openvino"]]}
    bundles.change(classifier, "session_options.json", lambda values: values.update(change))
    assert not mlflow._has_flavor(bundles.read(classifier))
