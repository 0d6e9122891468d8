"""A bundle answers, or says in one line why not; a hostile graph is not loaded."""

from __future__ import annotations

import json
import os

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from onnx.external_data_helper import set_external_data

from pipeline.errors import IntegrityError, ModelError, ProviderError
from pipeline.runtime import BundleModel, check_graph

WORDS = {"[UNK]": 0, "[CLS]": 1, "[SEP]": 2, "good": 3, "bad": 4, "film": 5}


def write_bundle(directory):
    """A classifier by hand: the logits are the counts of 'bad' and of 'good'."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    tokenizer = Tokenizer(models.WordLevel(WORDS, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", 2), ("[CLS]", 1))
    tokenizer.save(str(directory / "tokenizer.json"))
    table = np.zeros((6, 2), dtype=np.float32)
    table[4, 0] = table[3, 1] = 1
    inputs = [
        helper.make_tensor_value_info(name, TensorProto.INT64, ["batch", "sequence"])
        for name in ("input_ids", "attention_mask")
    ]
    graph = helper.make_graph(
        [
            helper.make_node("Gather", ["table", "input_ids"], ["rows"]),
            helper.make_node("Cast", ["attention_mask"], ["kept"], to=TensorProto.FLOAT),
            helper.make_node("Unsqueeze", ["kept", "axis"], ["column"]),
            helper.make_node("Mul", ["rows", "column"], ["seen"]),
            helper.make_node("ReduceSum", ["seen", "one"], ["logits"], keepdims=0),
        ],
        "counts",
        inputs,
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 2])],
        [
            onnx.numpy_helper.from_array(table, "table"),
            onnx.numpy_helper.from_array(np.array([2]), "axis"),
            onnx.numpy_helper.from_array(np.array([1]), "one"),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    onnx.save(model, directory / "model.onnx")
    files = {
        "config.json": {"id2label": {"0": "negative", "1": "positive"}},
        "signature.json": {
            "inputs": [{"name": "input_ids"}, {"name": "attention_mask"}],
            "max_length": 6,
        },
        "session_options.json": {"graph_optimization_level": "basic"},
    }
    for name, value in files.items():
        (directory / name).write_text(json.dumps(value))
    return directory


def test_it_answers_with_probabilities(tmp_path):
    model = BundleModel(write_bundle(tmp_path))
    assert model.labels == ("negative", "positive")
    answers = model.probabilities(["good film", "bad bad film", "film"])
    share = np.exp([1, -2, 0]) / (1 + np.exp([1, -2, 0]))
    np.testing.assert_allclose(answers[:, 1], share, rtol=1e-6)
    np.testing.assert_allclose(answers.sum(axis=1), 1)


def test_rows_are_fed_alone_and_cut_to_the_longest_input(tmp_path):
    model = BundleModel(write_bundle(tmp_path))
    short, long = model.encode(["good", "good " * 50])
    assert short["input_ids"].tolist() == [[1, 3, 2]]
    assert short["attention_mask"].dtype == np.int64
    assert long["input_ids"].shape == (1, 6)


def test_pairs_are_encoded_together(tmp_path):
    model = BundleModel(write_bundle(tmp_path))
    (feed,) = model.encode(["good"], ["bad"])
    assert feed["input_ids"].tolist() == [[1, 3, 2, 4, 2]]


def test_a_provider_that_is_not_there_is_said(tmp_path):
    import onnxruntime

    if "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        pytest.skip("this machine has it")
    with pytest.raises(ProviderError, match="provider 'cuda' is not active"):
        BundleModel(write_bundle(tmp_path), provider="cuda")


def test_a_directory_that_is_no_bundle_is_said(tmp_path):
    with pytest.raises(ModelError, match=r"no config\.json; is this a bundle"):
        BundleModel(tmp_path)


def external(directory, location, length=8):
    """A graph with one tensor outside it."""
    tensor = onnx.numpy_helper.from_array(np.zeros(2, dtype=np.float32), "outside")
    set_external_data(tensor, location, offset=0, length=length)
    tensor.ClearField("raw_data")
    graph = helper.make_graph([], "g", [], [], [tensor])
    path = directory / "model.onnx"
    path.write_bytes(helper.make_model(graph).SerializeToString())
    return path


@pytest.mark.parametrize("location", ["../secret", "/etc/passwd", "a/b", "..", "c:\\x", "../../x"])
def test_external_data_outside_the_bundle_is_refused(location, tmp_path):
    with pytest.raises(IntegrityError, match="outside the bundle"):
        check_graph(external(tmp_path, location))


def test_external_data_is_a_whole_regular_file_beside_the_graph(tmp_path):
    path = external(tmp_path, "weights.bin")
    with pytest.raises(IntegrityError, match="it is not there"):
        check_graph(path)
    (tmp_path / "weights.bin").write_bytes(bytes(8))
    check_graph(path)
    (tmp_path / "weights.bin").write_bytes(bytes(7))
    with pytest.raises(IntegrityError, match="past the end"):
        check_graph(path)
    (tmp_path / "weights.bin").unlink()
    (tmp_path / "secret").write_bytes(bytes(8))
    (tmp_path / "weights.bin").symlink_to(tmp_path / "secret")
    with pytest.raises(IntegrityError, match="regular file"):
        check_graph(path)
    (tmp_path / "weights.bin").unlink()
    os.link(tmp_path / "secret", tmp_path / "weights.bin")
    with pytest.raises(IntegrityError, match="one link"):
        check_graph(path)


def test_a_linked_graph_is_refused(tmp_path):
    bundle = tmp_path / "bundle"
    bundle.mkdir()
    write_bundle(bundle)
    (bundle / "model.onnx").rename(tmp_path / "model.onnx")
    (bundle / "model.onnx").symlink_to(tmp_path / "model.onnx")
    with pytest.raises(IntegrityError, match="regular file"):
        BundleModel(bundle)
