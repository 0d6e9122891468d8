"""A graph too large for one file has its weights beside it, and is otherwise the same."""

from __future__ import annotations

import gc
import json

import numpy as np
import onnx_ir as ir
import onnxruntime
import pytest

from exporters import saving
from exporters.build import build
from exporters.bundle import files
from pipeline.measure import memory
from pipeline.model.runtime import BundleModel
from pipeline.terms.errors import IntegrityError
from tests.exporters.deployments import SPLIT, TASK, TEXTS
from tests.exporters.graphs import exported

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def both(minilm, tmp_path_factory):
    """The same checkpoint in one file, and with a limit that it does not keep."""
    folders = {}
    with pytest.MonkeyPatch.context() as patch:
        for name, limit in (("whole", saving.LIMIT), ("parted", 1_000_000)):
            patch.setattr(saving, "LIMIT", limit)
            folders[name] = tmp_path_factory.mktemp(name)
            info = build(minilm, folders[name], task=TASK, split=SPLIT, form="reference")
            folders[f"{name} info"] = info
    return folders


def test_its_weights_lie_beside_it_and_it_answers_the_same(both):
    whole, parted = both["whole"], both["parted"]
    assert not (whole / saving.WEIGHTS).exists()
    assert (parted / "model.onnx").stat().st_size < 1_000_000
    assert (parted / saving.WEIGHTS).stat().st_size > 20_000_000
    ours, theirs = (BundleModel(folder).units(TEXTS) for folder in (parted, whole))
    np.testing.assert_array_equal(ours, theirs)


def test_all_files_are_counted_promised_and_summed(both):
    whole, parted = both["whole info"], both["parted info"]
    assert saving.WEIGHTS not in whole.roles
    assert parted.roles[saving.WEIGHTS] == "graph"
    assert parted.size == pytest.approx(whole.size, rel=0.01)
    assert memory.size(both["parted"]) == pytest.approx(memory.size(both["whole"]), rel=0.01)
    assert f"  {saving.WEIGHTS}\n" in (both["parted"] / files.SUMS).read_text()


def test_a_bundle_without_its_weights_is_refused(both, tmp_path):
    for path in both["parted"].iterdir():
        if path.is_file() and path.name != saving.WEIGHTS:
            (tmp_path / path.name).write_bytes(path.read_bytes())
    assert json.loads((tmp_path / "signature.json").read_text())
    with pytest.raises(IntegrityError, match=rf"{saving.WEIGHTS}: the graph needs this file"):
        BundleModel(tmp_path)


def test_a_session_reads_the_weights_of_the_graph_and_changes_no_graph(rows):
    graph, expected = exported("Bert", rows)
    before = {name: value.const_value for name, value in graph.graph.initializers.items()}
    session = saving.session(graph, onnxruntime.SessionOptions())
    assert {name: value.const_value for name, value in graph.graph.initializers.items()} == before
    del graph
    gc.collect()
    for case in expected:
        ours = session.run(None, case.feed)[0]
        np.testing.assert_allclose(ours, case.logits, atol=1e-4)


def test_a_written_graph_names_the_domain_of_each_operator(tmp_path):
    import onnx

    value = ir.val("x", dtype=ir.DataType.FLOAT, shape=ir.Shape([1]))
    step = ir.node("Anything", [value], domain="com.microsoft")
    step.outputs[0].dtype, step.outputs[0].shape = ir.DataType.FLOAT, ir.Shape([1])
    graph = ir.Graph([value], [step.outputs[0]], nodes=[step], opset_imports={"": 20}, name="g")
    saving.save(ir.Model(graph, ir_version=10), tmp_path)
    onnx.checker.check_model(tmp_path / "model.onnx")
    imported = {
        each.domain: each.version for each in onnx.load(tmp_path / "model.onnx").opset_import
    }
    assert imported == {"": 20, "com.microsoft": 1}
