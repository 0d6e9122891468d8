"""The graph in other forms gives what the bundle's gives, and its token embeddings."""

from __future__ import annotations

import filecmp

import numpy as np
import onnx
import onnxruntime
import pytest

from rarefy.exporters import saving
from rarefy.exporters.forms import graph
from rarefy.pipeline.model.pooling import Pooling
from rarefy.pipeline.model.runtime.bundle_model import BundleModel
from rarefy.pipeline.terms.errors import ModelError
from tests.breadth import broad
from tests.exporters.forms import bundles

IDS = np.array([[2, 6, 7, 8, 3], [2, 9, 3, 0, 0]], np.int64)
MASK = np.array([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0]], np.int64)


def run(path, names):
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    feed = {"input_ids": IDS, "attention_mask": MASK, "token_type_ids": np.zeros_like(IDS)}
    wanted = [value.name for value in session.get_inputs()]
    return session.run(names, {name: feed[name] for name in wanted})


def pooled(hidden, how):
    """Pool as sentence-transformers does, by hand."""
    if how.mode == "cls":
        found = hidden[:, 0]
    elif how.mode == "last":
        found = hidden[[0, 1], [4, 2]]
    else:
        found = (hidden * MASK[..., None]).sum(axis=1) / MASK.sum(axis=1, keepdims=True)
    if how.normalize:
        found = found / np.linalg.norm(found, axis=1, keepdims=True)
    return found


@pytest.mark.slow
@pytest.mark.parametrize(
    ("mode", "normalize"),
    [
        ("mean", True),
        pytest.param("mean", False, marks=pytest.mark.long),
        ("cls", False),
        ("last", True),
    ],
)
def test_the_token_embeddings_are_those_that_the_graph_pools(tmp_path, mode, normalize):
    how = Pooling(mode, normalize)
    found = bundles.read(bundles.embedder(tmp_path / "made", how))
    graph.copy(found, tmp_path / "copy.onnx", hidden=True)
    hidden, vectors = run(tmp_path / "copy.onnx", None)
    assert vectors == pytest.approx(run(found.folder / "model.onnx", None)[0], abs=1e-6)
    assert hidden.shape[1] == (1 if mode == "cls" else 5)
    assert pooled(hidden, how) == pytest.approx(vectors, abs=1e-5)
    onnx.checker.check_model(onnx.load(tmp_path / "copy.onnx"))


@pytest.mark.slow
@pytest.mark.parametrize("kind", broad(("mpnet", "distilbert"), "mpnet"))
def test_other_families_give_their_token_embeddings(tmp_path, kind):
    found = bundles.read(bundles.embedder(tmp_path / "made", Pooling(), kind))
    graph.copy(found, tmp_path / "copy.onnx", hidden=True)
    hidden, vectors = run(tmp_path / "copy.onnx", None)
    assert pooled(hidden, Pooling()) == pytest.approx(vectors, abs=1e-5)


def test_a_graph_without_token_embeddings_says_so(classifier, tmp_path):
    with pytest.raises(ModelError, match="embeddings of single tokens"):
        graph.copy(bundles.read(classifier), tmp_path / "copy.onnx", hidden=True)


def test_a_graph_that_stays_as_it_is_is_copied_byte_for_byte(classifier, tmp_path):
    graph.copy(bundles.read(classifier), tmp_path / "copy.onnx")
    assert filecmp.cmp(classifier / "model.onnx", tmp_path / "copy.onnx", shallow=False)


def test_weights_in_a_file_of_their_own_go_with_the_graph(tmp_path, monkeypatch):
    monkeypatch.setattr(saving, "LIMIT", 1000)
    made = bundles.classifier(tmp_path / "made")
    assert (made / saving.WEIGHTS).is_file()
    there = tmp_path / "there"
    there.mkdir()
    graph.copy(bundles.read(made), there / "other.onnx", weights="other.onnx_data")
    before = run(made / "model.onnx", None)[0]
    (made / saving.WEIGHTS).unlink()
    assert {path.name for path in there.iterdir()} == {"other.onnx", "other.onnx_data"}
    assert (run(there / "other.onnx", None)[0] == before).all()


def test_the_bundle_itself_is_not_changed(embedder, tmp_path):
    found = bundles.read(embedder)
    graph.copy(found, tmp_path / "copy.onnx", hidden=True)
    assert [value.name for value in found.graph.graph.output] == ["sentence_embedding"]
    assert BundleModel(embedder).units(["a fine film"], None).shape == (1, 32)
