"""What is read of a bundle, and which bundles are refused."""

from __future__ import annotations

import pytest

from rarefy.exporters.forms import source
from rarefy.pipeline.terms.errors import IntegrityError, ModelError
from tests.exporters.forms import bundles
from tests.models import LABELS


def test_a_bundle_s_facts_are_those_of_its_files(classifier, embedder):
    found = bundles.read(classifier)
    assert (found.task, found.labels, found.max_length) == ("text-classification", [*LABELS], 32)
    assert found.inputs == ["input_ids", "attention_mask"]
    assert found.output["shape"] == ["batch", 2]
    assert found.precision == "fp32"
    assert bundles.read(embedder).labels == []


def test_ranges_at_run_time_are_found_also_in_a_branch(classifier):
    import onnx

    assert not bundles.read(classifier).rows_interact
    outputs = ["q", "scale", "zero"]
    quantizes = onnx.helper.make_node("DynamicQuantizeLinear", ["x"], outputs)
    branch = onnx.helper.make_graph([quantizes], "branch", [], [])
    chooses = onnx.helper.make_node("If", ["whole"], ["y"], then_branch=branch, else_branch=branch)
    for node in (quantizes, chooses):
        found = bundles.read(classifier)
        found.graph.graph.node.append(node)
        assert found.rows_interact


def test_4_bit_embeddings_name_the_runtime_that_they_need(classifier):
    import onnx

    assert bundles.read(classifier).least_runtime == "1.23"
    domain = {"domain": "com.microsoft"}
    looks_up = onnx.helper.make_node("GatherBlockQuantized", ["w", "x", "s"], ["y"], **domain)
    found = bundles.read(classifier)
    found.graph.graph.node.append(looks_up)
    assert found.least_runtime == "1.28"


def test_the_samples_belong_together(classifier):
    request, response = source.samples(bundles.read(classifier))
    assert len(request["texts"]) == len(response["predictions"]) == 3
    (classifier / "samples/response.json").write_text("{")
    with pytest.raises(IntegrityError, match="not what it must be"):
        source.samples(bundles.read(classifier))
    (classifier / "samples/response.json").unlink()
    assert source.samples(bundles.read(classifier)) is None


def test_a_graph_that_reads_files_elsewhere_is_refused(classifier):
    import onnx
    from onnx.external_data_helper import set_external_data

    graph = onnx.load(classifier / "model.onnx")
    tensor = graph.graph.initializer[0]
    set_external_data(tensor, "/etc/passwd")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    (classifier / "model.onnx").write_bytes(graph.SerializeToString())
    with pytest.raises(IntegrityError, match="outside the bundle"):
        bundles.read(classifier)


def test_a_bundle_for_cpus_with_vnni_is_refused(classifier):
    source.check_anywhere(bundles.read(classifier), "hub")
    bundles.change(classifier, "signature.json", lambda values: values.update(isa="vnni"))
    with pytest.raises(ModelError, match="without isa"):
        source.check_anywhere(bundles.read(classifier), "hub")
