"""A pretrained model comes into the store whole, unpickled, with a vocabulary that fits."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pipeline.model import checkpoint
from pipeline.run.importing import locate
from pipeline.store.artifact import Kind
from pipeline.terms.errors import IntegrityError, ModelError, RecipeError


@pytest.fixture
def model(workshop) -> Path:
    return workshop.folder / "model"


def configure(model: Path, **changes) -> None:
    path = model / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def pickle_weights(model: Path) -> None:
    import torch
    from safetensors.torch import load_file

    torch.save(load_file(model / "model.safetensors"), model / "pytorch_model.bin")
    (model / "model.safetensors").unlink()


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


def test_the_licence_of_the_model_card_is_kept(workshop, model):
    (model / "README.md").write_text("---\nlicense: apache-2.0\n---\n# A model\n")
    assert workshop.run("quick:Word")["model"].artifact.manifest.source.licence == "apache-2.0"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("config.json", r"there is no config\.json"),
        ("model.safetensors", r"there are no weights \(model\.safetensors"),
        ("tokenizer.json", "there is no tokenizer"),
    ],
)
def test_a_missing_part_is_named(tmp_path, model, name, message):
    (model / name).unlink()
    (model / "tokenizer_config.json").unlink()
    (model / "special_tokens_map.json").unlink(missing_ok=True)
    with pytest.raises(ModelError, match=f"model: model: {message}") as caught:
        locate("model", tmp_path, allow_pickle=False)
    assert caught.value.exit_code == 2


@pytest.mark.parametrize("text", ["{", "[]"])
def test_a_config_that_is_no_json_object(tmp_path, model, text):
    (model / "config.json").write_text(text)
    with pytest.raises(ModelError, match=r"config\.json is no"):
        locate("model", tmp_path, allow_pickle=False)


def test_pickled_weights_are_refused_before_anything_runs(workshop, model):
    pickle_weights(model)
    with pytest.raises(IntegrityError, match="say 'allow_pickle: true' in the recipe") as caught:
        workshop.open("quick:Word").plan.steps()
    assert caught.value.exit_code == 6


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


def test_a_shard_that_is_missing_is_known_by_its_weights(workshop, model):
    from safetensors.torch import load_file, save_file

    whole = load_file(model / "model.safetensors")
    (model / "model.safetensors").unlink()
    part = {name: whole[name] for name in sorted(whole)[::2]}
    save_file(part, model / "model-00001-of-00002.safetensors")
    with pytest.raises(ModelError, match="missing"):
        workshop.run("quick:Word")
    (model / "model-00001-of-00002.safetensors").write_bytes(b"cut")
    with pytest.raises(IntegrityError, match="not a whole safetensors file"):
        workshop.run("quick:Word")


class Evil:
    """Runs code when it is unpickled the ordinary way."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return (open, (str(self.path), "w"))


def test_a_malicious_pickle_is_refused_even_then_and_runs_nothing(workshop, model):
    import torch

    pickle_weights(model)
    torch.save({"weight": Evil(workshop.folder / "pwned")}, model / "pytorch_model.bin")
    with pytest.raises(IntegrityError, match="holds more than plain weights") as caught:
        workshop.run("quick:Word", allow_pickle=True)
    assert "\n" not in str(caught.value)
    assert not (workshop.folder / "pwned").exists()
    assert workshop.store.digests() == []


def test_a_pickle_that_is_no_state_dict(workshop, model):
    import torch

    pickle_weights(model)
    torch.save({"epoch": 3, "model": {}}, model / "pytorch_model.bin")
    with pytest.raises(ModelError, match="is no state dict"):
        workshop.run("quick:Word", allow_pickle=True)


def test_a_vocabulary_that_does_not_fit_the_model(workshop, model):
    path = model / "tokenizer.json"
    values = json.loads(path.read_text())
    values["model"]["vocab"]["unheard"] = len(values["model"]["vocab"])
    path.write_text(json.dumps(values))
    with pytest.raises(ModelError, match="model: vocabulary that does not fit the model") as caught:
        workshop.run("quick:Word")
    assert caught.value.exit_code == 2
    assert workshop.store.digests() == []


def test_weights_that_are_cut_off(workshop, model):
    path = model / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(IntegrityError, match="not a whole safetensors file"):
        workshop.run("quick:Word")


def test_weights_of_another_shape(workshop, model):
    configure(model, intermediate_size=48)
    with pytest.raises(ModelError, match="expected"):
        workshop.run("quick:Word")


def test_a_model_with_a_head_for_just_these_labels_is_a_checkpoint(workshop, model):
    names = {"0": "positive", "1": "negative"}
    configure(model, architectures=["BertForSequenceClassification"], id2label=names)
    run = workshop.open("quick:Word")
    assert run.plan.located.kind(["negative", "positive"]) is Kind.CHECKPOINT
    assert run.plan.located.kind(["a", "b"]) is Kind.ENCODER
    assert run.plan.labels == ["positive", "negative"], "the model's own order of outputs"


def test_the_same_model_for_other_labels_is_another_artifact(workshop, model):
    """Found by review: the kind depends on the data, and was not in the fingerprint."""
    names = {"0": "negative", "1": "positive"}
    configure(model, architectures=["BertForSequenceClassification"], id2label=names)
    fits = workshop.open("finetune").plan.steps()[0]
    rows = [{"text": "good film", "label": label} for label in "ab"]
    workshop.write_rows("other.jsonl", rows)
    other = workshop.open(
        "finetune", data={"train": "other.jsonl", "eval": "other.jsonl"}
    ).plan.steps()[0]
    assert (fits.kind, other.kind) == (Kind.CHECKPOINT, Kind.ENCODER)
    assert fits.fingerprint != other.fingerprint


@pytest.mark.parametrize(
    ("changes", "limit"),
    [
        ({"max_position_embeddings": 64}, 64),
        ({"model_type": "roberta", "max_position_embeddings": 66, "pad_token_id": 1}, 64),
        ({"max_position_embeddings": None}, None),
    ],
)
def test_a_length_that_the_model_has_no_positions_for(workshop, model, changes, limit):
    configure(model, **changes)
    run = workshop.open("quick:Word", data={"train": "train.jsonl", "eval": "eval.jsonl"})
    if limit is None:
        run.plan.steps()
        return
    with pytest.raises(RecipeError, match=r"trial\.yaml:3: data\.max_length: 128 tokens, but the"):
        run.plan.steps()
    assert run.plan.located.positions == limit
