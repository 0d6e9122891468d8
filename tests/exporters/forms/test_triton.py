"""The model repository for Triton: its folders, names and tensors fit together.

Whether the server's own protobuf reads the configs is tested in tests/consumers.
"""

from __future__ import annotations

import json
import re

import onnx
import pytest

from rarefy.exporters import saving
from rarefy.exporters.build import build
from rarefy.exporters.forms import triton
from rarefy.pipeline.model.runtime.bundle_model import BundleModel
from rarefy.pipeline.model.runtime.providers import PROVIDERS
from rarefy.pipeline.terms.errors import ModelError, RecipeError
from tests.exporters.deployments import SPLIT, TASK, copy_with, plan_for
from tests.exporters.forms import bundles
from tests.exporters.forms.triton_server import answer, steps
from tests.models import write_finetuned

TEXTS = ["a fine film", "the story is dull and very very cold"]


def write(folder, out, name="tiny"):
    out.mkdir()
    triton.write(bundles.read(folder), out, name)
    return {path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file()}


def config(out, name="tiny"):
    return (out / name / "config.pbtxt").read_text()


def test_the_repository_has_a_graph_a_tokenizer_and_an_ensemble(classifier, tmp_path):
    out = tmp_path / "out"
    assert write(classifier, out) == {
        "README.md",
        "tiny/1/model.onnx",
        "tiny/config.pbtxt",
        "tiny/labels.txt",
        "tiny_text/1/.keep",
        "tiny_text/config.pbtxt",
        "tiny_text/labels.txt",
        "tiny_tokenizer/1/model.py",
        "tiny_tokenizer/1/settings.json",
        "tiny_tokenizer/1/tokenizer.json",
        "tiny_tokenizer/config.pbtxt",
    }
    assert (out / "tiny/labels.txt").read_text() == "negative\npositive\n"
    assert steps(config(out, "tiny_text")) == ["tiny_tokenizer", "tiny"]
    for name in ("tiny", "tiny_text", "tiny_tokenizer"):
        assert config(out, name).startswith(f'name: "{name}"\n')


def test_tokenizer_and_graph_give_the_bundle_s_answers(classifier, tmp_path):
    write(classifier, tmp_path / "out")
    same = {name: name for name in ("input_ids", "attention_mask")}
    ensemble = [
        {"modelName": "tiny_tokenizer", "outputMap": same},
        {"modelName": "tiny", "inputMap": same, "outputMap": {"logits": "logits"}},
    ]
    configs = {"tiny_text": {"ensembleScheduling": {"step": ensemble}}}
    logits = answer(tmp_path / "out", configs, "tiny_text", TEXT=TEXTS)
    assert logits == pytest.approx(BundleModel(classifier).units(TEXTS, None), abs=1e-5)


def test_the_graph_runs_as_the_bundle_s_session_does(classifier, tmp_path):
    write(classifier, tmp_path / "basic")
    assert "optimization { graph { level : -1 } }" in config(tmp_path / "basic")
    assert 'string_value: "1"' in config(tmp_path / "basic")
    assert "KIND_CPU" in config(tmp_path / "basic")
    changes = {
        "providers": ["TensorrtExecutionProvider"],
        "graph_optimization_level": "all",
        "intra_op_num_threads": 3,
    }
    bundles.change(classifier, "session_options.json", lambda values: values.update(changes))
    write(classifier, tmp_path / "gpu")
    text = config(tmp_path / "gpu")
    assert "level" not in text
    assert 'name : "tensorrt" parameters { key: "precision_mode" value: "FP32" }' in text
    assert "KIND_GPU" in text
    assert 'string_value: "3"' in text


@pytest.mark.slow
@pytest.mark.parametrize(("mode", "together"), [("dynamic", False), ("static", True)])
def test_requests_are_computed_together_only_if_their_answers_stay(tmp_path, mode, together):
    """With ranges at run time, one client's texts change the answers to another's."""
    write_finetuned(tmp_path / "float")
    checkpoint = copy_with(
        tmp_path / "float", plan_for(tmp_path / "float", mode), tmp_path / "int8"
    )
    (tmp_path / "bundle").mkdir()
    build(checkpoint, tmp_path / "bundle", task=TASK, split=SPLIT, form="deploy")
    write(tmp_path / "bundle", tmp_path / "out")
    readme = (tmp_path / "out/README.md").read_text()
    assert ("dynamic_batching" in config(tmp_path / "out")) is together
    assert ("requests of the same length are computed together" in readme) is together
    assert ("change each other's answers" in readme) is not together
    assert readme.endswith(".\n")
    texts, model = ["a fine film", "the dull story"], BundleModel(tmp_path / "bundle")
    alone, beside = model.units(texts), model.units(texts, together=2)
    assert bool(abs(alone - beside).max() < 1e-6) is together


def test_floats_are_computed_together(classifier, tmp_path):
    write(classifier, tmp_path / "out")
    assert "dynamic_batching { }" in config(tmp_path / "out")


def test_a_bundle_for_pairs_asks_for_two_texts(classifier, tmp_path):
    bundles.change(classifier, "signature.json", lambda values: values.update(pairs=True))
    write(classifier, tmp_path / "out")
    for name in ("tiny_text", "tiny_tokenizer"):
        assert re.findall(r'name: "(TEXT|PAIR)"', config(tmp_path / "out", name)) == [
            "TEXT",
            "PAIR",
        ]
    settings = json.loads((tmp_path / "out/tiny_tokenizer/1/settings.json").read_text())
    assert settings["pairs"] is True
    assert '"PAIR"' in (tmp_path / "out/README.md").read_text()


def test_a_bundle_that_embeds_gives_a_vector_without_labels(embedder, tmp_path):
    found = write(embedder, tmp_path / "out")
    assert not [name for name in found if "labels" in name]
    assert "sentence_embedding" in config(tmp_path / "out", "tiny_text")
    assert "dims: [ 32 ]" in config(tmp_path / "out")
    assert "classification" not in (tmp_path / "out/README.md").read_text()


def test_the_readme_says_what_was_not_done(classifier, tmp_path):
    write(classifier, tmp_path / "out")
    text = (tmp_path / "out/README.md").read_text()
    assert "not run on a server" in text
    begin, end = text.index("-d '") + 4, text.index("}'") + 1
    asked = json.loads(text[begin:end])
    assert asked["inputs"][0]["datatype"] == "BYTES"
    assert asked["outputs"][0]["parameters"]["classification"] == 2


def test_a_label_of_several_lines_stays_one_line(classifier, tmp_path):
    names = {"id2label": {"0": "a\nb", "1": "c"}}
    bundles.change(classifier, "config.json", lambda values: values.update(names))
    write(classifier, tmp_path / "out")
    assert (tmp_path / "out/tiny/labels.txt").read_text() == "a b\nc\n"


@pytest.mark.slow
def test_weights_apart_keep_their_name(tmp_path, monkeypatch):
    monkeypatch.setattr(saving, "LIMIT", 1000)
    made = bundles.classifier(tmp_path / "made")
    assert "tiny/1/model.onnx.data" in write(made, tmp_path / "out")


@pytest.mark.parametrize("name", ["", "A", 'a"b', "../up", "a b", "x" * 65])
def test_a_name_that_no_model_can_have_is_refused(classifier, tmp_path, name):
    with pytest.raises(RecipeError, match="cannot be a model's name"):
        write(classifier, tmp_path / "out", name)


@pytest.mark.parametrize(("fact", "said"), [("words", "labels the words"), ("isa", "without isa")])
def test_bundles_that_the_form_cannot_serve_are_refused(classifier, tmp_path, fact, said):
    value = {"words": True, "isa": "vnni"}[fact]
    bundles.change(classifier, "signature.json", lambda values: values.update({fact: value}))
    with pytest.raises(ModelError, match=said):
        write(classifier, tmp_path / "out")


def test_a_bundle_for_openvino_is_refused(classifier, tmp_path):
    """ONNX Runtime would run its graph, with answers and times that were not measured."""
    change = {"providers": [PROVIDERS["openvino"]]}
    bundles.change(classifier, "session_options.json", lambda values: values.update(change))
    with pytest.raises(ModelError, match="made for OpenVINO"):
        write(classifier, tmp_path / "out")


def test_embeddings_in_4_bits_are_refused_as_no_server_reads_them(classifier, tmp_path):
    """ONNX Runtime 1.27 answers wrongly without an error."""
    graph = onnx.load(classifier / "model.onnx")
    domain = {"domain": "com.microsoft"}
    looks_up = onnx.helper.make_node("GatherBlockQuantized", ["w", "x", "s"], ["y"], **domain)
    graph.graph.node.append(looks_up)
    onnx.save(graph, classifier / "model.onnx")
    said = "need ONNX Runtime 1.28, and Triton's newest server has 1.27.*embeddings: int8"
    with pytest.raises(ModelError, match=said):
        write(classifier, tmp_path / "out")


def test_the_readme_names_the_servers_that_load_the_graph(classifier, tmp_path):
    write(classifier, tmp_path / "out")
    said = "opset 23, for servers with ONNX Runtime 1.23 or later: from 25.09 on"
    assert said in (tmp_path / "out/README.md").read_text()
