"""The Hub's form has the files and keys by which its tools find a model."""

from __future__ import annotations

import json

import pytest
from transformers import AutoConfig

from rarefy.exporters import saving
from rarefy.exporters.forms import hub
from rarefy.exporters.forms.hub_card import Stated
from rarefy.pipeline.terms.errors import ModelError
from rarefy.pipeline.verdict.provenance import Provenance
from tests.exporters.deployments import SPLIT, TASK, copy_with, plan_for
from tests.exporters.forms import bundles
from tests.models import write_finetuned


def write(folder, out):
    out.mkdir()
    hub.write(bundles.read(folder), out, Provenance(), Stated())
    return {path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file()}


ALWAYS = {
    "README.md",
    "config.json",
    "special_tokens_map.json",
    "tokenizer.json",
    "tokenizer_config.json",
}


def test_a_classifier_has_the_files_of_transformers(classifier, tmp_path):
    assert write(classifier, tmp_path / "out") == ALWAYS | {"onnx/model.onnx"}
    config = json.loads((tmp_path / "out/config.json").read_text())
    assert config["model_type"] == "bert"
    assert config["architectures"] == ["BertForSequenceClassification"]
    assert config["id2label"] == {"0": "negative", "1": "positive"}
    assert (config["pad_token_id"], config["hidden_size"]) == (0, 16)
    assert config["transformers.js_config"] == {"dtype": "fp32"}
    special = json.loads((tmp_path / "out/special_tokens_map.json").read_text())
    assert special["pad_token"] == "[PAD]"
    assert set(special) == {f"{name}_token" for name in ("pad", "unk", "cls", "sep", "mask")}


def test_transformers_opens_config_and_tokenizer_as_they_were(classifier, tmp_path):
    from transformers import AutoConfig, AutoTokenizer

    write(classifier, tmp_path / "out")
    config = AutoConfig.from_pretrained(tmp_path / "out")
    assert config.id2label == {0: "negative", 1: "positive"}
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "out")
    assert tokenizer.model_max_length == 32
    ids = tokenizer("A Fine film " * 40, truncation=True)["input_ids"]
    assert len(ids) == 32
    assert ids[:5] == [2, 8, 17, 6, 8]


@pytest.mark.slow
def test_a_bundle_that_embeds_has_those_of_sentence_transformers(embedder, tmp_path):
    import onnx

    found = write(embedder, tmp_path / "out")
    more = {"modules.json", "config_sentence_transformers.json", "sentence_bert_config.json"}
    assert found == ALWAYS | more | {"onnx/model.onnx", "1_Pooling/config.json"}
    graph = onnx.load(tmp_path / "out/onnx/model.onnx").graph
    assert [value.name for value in graph.output] == ["last_hidden_state", "sentence_embedding"]
    assert "id2label" not in json.loads((tmp_path / "out/config.json").read_text())


@pytest.mark.slow
def test_int8_has_the_name_that_transformers_js_looks_for(tmp_path):
    from rarefy.exporters.build import build

    write_finetuned(tmp_path / "float")
    plan = plan_for(tmp_path / "float")
    checkpoint = copy_with(tmp_path / "float", plan, tmp_path / "checkpoint")
    (tmp_path / "bundle").mkdir()
    build(checkpoint, tmp_path / "bundle", task=TASK, split=SPLIT, form="deploy")
    assert "onnx/model_quantized.onnx" in write(tmp_path / "bundle", tmp_path / "out")
    config = json.loads((tmp_path / "out/config.json").read_text())
    assert config["transformers.js_config"]["dtype"] == "q8"


@pytest.mark.slow
def test_weights_apart_have_the_name_that_transformers_js_looks_for(tmp_path, monkeypatch):
    monkeypatch.setattr(saving, "LIMIT", 1000)
    made = bundles.classifier(tmp_path / "made")
    assert {"onnx/model.onnx", "onnx/model.onnx_data"} <= write(made, tmp_path / "out")
    config = json.loads((tmp_path / "out/config.json").read_text())
    own = {"dtype": "fp32", "use_external_data_format": {"model.onnx": 1}}
    assert config["transformers.js_config"] == own


def test_a_tokenizer_s_own_normalizer_is_named(classifier):
    stored = json.loads((classifier / "tokenizer.json").read_text())
    stored["normalizer"] = {
        "type": "BertNormalizer",
        "clean_text": True,
        "handle_chinese_chars": False,
        "strip_accents": False,
        "lowercase": False,
    }
    stored["pre_tokenizer"] = {"type": "ByteLevel", "add_prefix_space": True}
    (classifier / "tokenizer.json").write_text(json.dumps(stored))
    found = hub.tokenizer_config(bundles.read(classifier))
    assert found["do_lower_case"] is found["strip_accents"] is False
    assert found["tokenize_chinese_chars"] is False
    assert found["add_prefix_space"] is True


def test_a_class_that_only_version_5_has_gets_the_name_that_both_know(classifier):
    name = {"tokenizer_class": "TokenizersBackend"}
    bundles.change(classifier, "tokenizer_config.json", lambda values: values.update(name))
    found = hub.tokenizer_config(bundles.read(classifier))
    assert found["tokenizer_class"] == "PreTrainedTokenizerFast"


def test_a_bundle_that_records_left_names_the_side_for_transformers(classifier):
    left = {"truncation_side": "left"}
    bundles.change(classifier, "signature.json", lambda values: values.update(left))
    assert hub.tokenizer_config(bundles.read(classifier))["truncation_side"] == "left"


def test_a_bundle_for_cpus_with_vnni_is_refused(classifier, tmp_path):
    bundles.change(classifier, "signature.json", lambda values: values.update(isa="vnni"))
    with pytest.raises(ModelError, match="'hub'"):
        write(classifier, tmp_path / "out")


def test_a_score_is_one_output_for_what_loads_it(classifier, tmp_path):
    nameless = {"id2label": {}, "label2id": {}, "problem_type": "regression"}
    bundles.change(classifier, "config.json", lambda values: values.update(nameless))
    bundles.change(classifier, "signature.json", lambda values: values.update(task="regression"))
    write(classifier, tmp_path / "out")
    assert AutoConfig.from_pretrained(tmp_path / "out").num_labels == 1
