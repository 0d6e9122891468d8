"""OpenVINO answers as ONNX Runtime does, or says in one line why it cannot."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import onnx
import pytest

from rarefy.pipeline.model.runtime import openvino
from rarefy.pipeline.model.runtime.bundle_model import BundleModel
from rarefy.pipeline.terms.errors import ModelError, ProviderError
from tests.pipeline.measure import bundles

pytest.importorskip("openvino")


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    return bundles.make(tmp_path_factory.mktemp("bundles") / "made")


def tolerance(model):
    """Of logits that are below one."""
    return 1e-5 if model.precision == "fp32" else 2e-2


def test_it_gives_onnx_runtimes_answers(directory):
    ours, theirs = BundleModel(directory), BundleModel(directory, provider="openvino")
    assert (ours.precision, theirs.precision) == (None, openvino.default_precision())
    for feed in ours.encode(bundles.texts()):
        np.testing.assert_allclose(theirs.run(feed), ours.run(feed), atol=tolerance(theirs))


def test_threads_that_share_a_model_get_their_own_answers(directory):
    model = BundleModel(directory, provider="openvino", threads=1)
    feeds = model.encode(bundles.texts(40))
    alone = [model.run(feed) for feed in feeds]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(model.run, feeds * 5))
    for found, expected in zip(together, alone * 5, strict=True):
        np.testing.assert_array_equal(found, expected)


def test_an_answer_stays_when_the_next_row_is_asked(directory):
    model = BundleModel(directory, provider="openvino")
    first, second = model.encode(["w1 w2", "w3 w4"])
    kept = model.run(first)
    copied = kept.copy()
    model.run(second)
    np.testing.assert_array_equal(kept, copied)


def test_operators_of_onnx_runtimes_own_are_named_with_the_remedy(directory, tmp_path):
    graph = onnx.load(directory / "model.onnx")
    tanh = next(node for node in graph.graph.node if node.op_type == "Tanh")
    tanh.op_type, tanh.domain = "FastGelu", "com.microsoft"
    onnx.save(graph, tmp_path / "model.onnx")
    with pytest.raises(ModelError, match=r"no FastGelu .*write export: \{products: qdq\}") as error:
        openvino.Session(tmp_path / "model.onnx", 1)
    assert len(str(error.value).splitlines()) == 1


def test_a_file_that_is_no_graph_is_said_in_one_line(directory, tmp_path):
    graph = onnx.load(directory / "model.onnx")
    graph.graph.node[0].op_type = "Unheard"
    onnx.save(graph, tmp_path / "model.onnx")
    with pytest.raises(ModelError, match="OpenVINO cannot load this file") as error:
        openvino.Session(tmp_path / "model.onnx", 1)
    assert len(str(error.value).splitlines()) == 1


def test_a_feed_that_does_not_fit_is_said_in_one_line(directory):
    model = BundleModel(directory, provider="openvino")
    with pytest.raises(ProviderError, match="provider 'openvino' failed") as error:
        model.run({"input_ids": np.zeros((1, 2, 3), np.int64)})
    assert len(str(error.value).splitlines()) == 1


def test_without_openvino_the_remedy_is_said(directory, monkeypatch):
    monkeypatch.setattr(openvino, "find_spec", lambda _: None)
    with pytest.raises(ProviderError, match=r"pip install .?openvino"):
        BundleModel(directory, provider="openvino")
