"""A pretrained model is found with all its parts, and its config says how it may be used."""

from __future__ import annotations

import json
import shutil

import pytest

from rarefy.pipeline.stage.located_model import locate
from rarefy.pipeline.store.artifact import Kind
from rarefy.pipeline.tasks.classification.text import TEXT_CLASSIFICATION
from rarefy.pipeline.tasks.embeddings.task import SENTENCE_EMBEDDINGS
from rarefy.pipeline.terms.errors import DataError, IntegrityError, ModelError, RecipeError
from tests.models import configure, pickle_weights, write_model
from tests.pipeline.model.test_pooling import write


def test_the_licence_of_the_model_card_is_kept(workshop, model):
    (model / "README.md").write_text("---\nlicense: apache-2.0\n---\n# A model\n")
    assert workshop.run("quick:Word")["model"].artifact.manifest.source.licence == "apache-2.0"
    (model / "README.md").write_text("---\nlicense: mit\n---\n# A model\n")
    assert workshop.run("quick:Word")["model"].artifact.manifest.source.licence == "mit"


@pytest.mark.parametrize(
    ("card", "licence"),
    [
        ('---\ntags: [a]\nlicense: "mit"  # ours\n---\n', "mit"),
        ("---\nlicense:\n- mit\n---\n", "mit"),
        ("---\nlicense: [mit, apache-2.0]\n---\n", None),
        ("---\nlicense:\n---\n", None),
        ("---\nlicense: [\n---\n", None),
        ("---\nlicense\n---\n", None),
        ("---\nlicense: mit\ndate: 2024-02-30\n---\n", None),
        (f"---\nlicense: {'[' * 5000}\n---\n", None),
        ("# A model\nlicense: mit\n", None),
    ],
)
def test_the_licence_is_read_as_yaml(tmp_path, model, card, licence):
    (model / "README.md").write_text(card)
    assert locate("model", tmp_path, allow_pickle=False).source.licence == licence


def test_a_config_names_the_type_of_its_model(tmp_path, model):
    (model / "config.json").write_text("{}")
    with pytest.raises(ModelError, match=r"^model: model: config\.json has no model_type"):
        locate("model", tmp_path, allow_pickle=False)


@pytest.mark.parametrize("folder", [".", "adapter"])
def test_a_checkpoint_with_an_adapter_is_not_opened_without_it(tmp_path, model, folder):
    (model / folder).mkdir(exist_ok=True)
    (model / folder / "adapter_config.json").write_text("{}")
    with pytest.raises(ModelError, match=r"^model: model: an adapter is next .* output of 'merge'"):
        locate("model", tmp_path, allow_pickle=False)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("config.json", r"there is no config\.json"),
        ("model.safetensors", r"there are no weights in .* expected model\.safetensors"),
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
    with pytest.raises(ModelError, match=r"config\.json: not what it must be"):
        locate("model", tmp_path, allow_pickle=False)


def test_pickled_weights_are_refused_before_anything_runs(workshop, model):
    pickle_weights(model)
    with pytest.raises(IntegrityError, match="set 'allow_pickle: true' in the recipe") as caught:
        workshop.open("quick:Word").plan.steps()
    assert caught.value.exit_code == 6
    with pytest.raises(IntegrityError, match=r"convert it to safetensors$"):
        locate("model", workshop.folder, allow_pickle=False, key="distill.student")


def test_a_model_with_a_head_for_just_these_labels_is_a_checkpoint(workshop, model):
    names = {"0": "positive", "1": "negative"}
    configure(model, architectures=["BertForSequenceClassification"], id2label=names)
    run = workshop.open("quick:Word")
    assert run.plan.located.kind(TEXT_CLASSIFICATION, ["negative", "positive"]) is Kind.CHECKPOINT
    assert run.plan.located.kind(TEXT_CLASSIFICATION, ["a", "b"]) is Kind.ENCODER
    assert run.plan.labels == ["positive", "negative"], "the model's own order of outputs"


def test_the_same_model_for_other_labels_is_another_artifact(workshop, model):
    """The kind depends on the data and must be part of the fingerprint."""
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


def test_a_head_for_other_labels_is_said_before_anything_runs(workshop, model):
    shutil.rmtree(model)
    write_model(model, "bert", "AutoModelForSequenceClassification", labels=("spam", "ham"))
    said = workshop.open("quick:Word").plan.warnings
    assert (
        "model: its head is for other labels (only it has spam, ham; only the data have negative, "
        "positive) "
        "and will be replaced by a new one; to keep it, list the data's labels in the order of its "
        "outputs as data.labels"
    ) in said


def test_only_labels_that_differ_are_said(workshop, model):
    """Of a long list, the one that the data lack may not be among the first."""
    shutil.rmtree(model)
    labels = ("negative", "positive", "so-so")
    write_model(model, "bert", "AutoModelForSequenceClassification", labels=labels)
    (said,) = (w for w in workshop.open("quick:Word").plan.warnings if "head" in w)
    assert "for other labels (only it has so-so) and" in said


@pytest.mark.parametrize(
    ("auto", "labels"),
    [
        ("AutoModelForTokenClassification", ("O", "B-City")),
        ("AutoModelForSequenceClassification", ("LABEL_0",)),
    ],
)
def test_a_head_for_another_task_is_said_before_anything_runs(workshop, model, auto, labels):
    shutil.rmtree(model)
    write_model(model, "bert", auto, labels=labels)
    run = workshop.open("finetune")
    assert run.plan.steps()[0].kind is Kind.ENCODER
    named = auto.replace("AutoModel", "Bert")
    assert (
        f"model: its head ({named}) is not one for text-classification and will be replaced by a "
        "new one"
    ) in run.plan.warnings


def test_a_head_that_training_begins_with_and_a_body_are_not_said_to_be_replaced(workshop, model):
    assert not any("its head" in said for said in workshop.open("finetune").plan.warnings)
    names = {"0": "negative", "1": "positive"}
    kind = {"architectures": ["BertForSequenceClassification"], "id2label": names}
    configure(model, problem_type="multi_label_classification", **kind)
    assert not any("its head" in said for said in workshop.open("finetune").plan.warnings)


@pytest.mark.parametrize(
    ("changes", "limit"),
    [
        ({"max_position_embeddings": 64}, 64),
        ({"model_type": "roberta", "max_position_embeddings": 66, "pad_token_id": 1}, 64),
        ({"model_type": "roberta", "max_position_embeddings": 66, "pad_token_id": None}, 64),
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


@pytest.mark.parametrize(
    ("changes", "positions", "trained"),
    [
        ({"model_type": "modernbert", "max_position_embeddings": 8192}, None, 8192),
        ({"model_type": "qwen3", "rope_theta": 1e6, "max_position_embeddings": 4096}, None, 4096),
        (
            {
                "model_type": "deberta-v2",
                "position_biased_input": False,
                "max_position_embeddings": 512,
            },
            None,
            512,
        ),
        ({"model_type": "deberta-v2", "max_position_embeddings": 512}, 512, None),
        ({"model_type": "gpt2", "max_position_embeddings": None, "n_positions": 1024}, 1024, None),
        (
            {"model_type": "camembert", "max_position_embeddings": 514, "pad_token_id": 1},
            512,
            None,
        ),
    ],
)
def test_only_a_table_of_positions_ends(tmp_path, model, changes, positions, trained):
    configure(model, **changes)
    found = locate("model", tmp_path, allow_pickle=False)
    assert (found.positions, found.trained_length) == (positions, trained)
    warned = found.length_warnings(600)
    assert warned == (
        [f"model: data.max_length is 600 tokens, but the model is made for at most {trained}"]
        if trained == 512
        else []
    )


def test_the_heads_of_a_model_that_was_pruned_are_not_those_of_its_config(tmp_path, model):
    whole = locate("model", tmp_path, allow_pickle=False).config
    (model / "shapes.json").write_text("{}")
    found = locate("model", tmp_path, allow_pickle=False).config
    assert whole.keys() - found.keys() == {"num_attention_heads"}


def test_a_pooling_that_cannot_be_computed_names_the_model(tmp_path, model):
    write(model / "st", {"pooling_mode": "max"})
    for path in (model / "st").iterdir():
        shutil.move(path, model / path.name)
    with pytest.raises(ModelError, match=r"model: model: 1_Pooling/config\.json: the pooling max"):
        locate("model", tmp_path, allow_pickle=False)


def test_a_model_made_for_dot_products_is_said_to_be_compared_by_cosine(tmp_path, model):
    write(model / "st", {})
    settings = {"similarity_fn_name": "dot"}
    (model / "st/config_sentence_transformers.json").write_text(json.dumps(settings))
    for path in (model / "st").iterdir():
        shutil.move(path, model / path.name)
    found = locate("model", tmp_path, allow_pickle=False)
    (said,) = found.warnings(SENTENCE_EMBEDDINGS, [])
    assert said.startswith("model: config_sentence_transformers.json: similarity_fn_name is 'dot'")
    assert found.warnings(TEXT_CLASSIFICATION, ["a", "b"]) == [], "a new head is learned"


@pytest.mark.parametrize("prompts", [{"query": "query: ", "document": ""}, {"query": ""}, None])
def test_prompts_that_nobody_puts_before_texts_are_said(tmp_path, model, prompts):
    write(model / "st", {})
    (model / "st/config_sentence_transformers.json").write_text(json.dumps({"prompts": prompts}))
    for path in (model / "st").iterdir():
        shutil.move(path, model / path.name)
    said = locate("model", tmp_path, allow_pickle=False).warnings(SENTENCE_EMBEDDINGS, [])
    if prompts and any(prompts.values()):
        assert said[0].startswith("model: it has prompts ('query: '), and none is put before texts")
    else:
        assert said == []


UNNAMED = ("LABEL_0", "LABEL_1", "LABEL_2")


def write_integers(workshop, count):
    """Let the rows have the labels 0, 1, … instead of names."""
    for name in ("train", "eval"):
        rows = [{"text": f"a film {at}", "label": at % count} for at in range(4 * count)]
        workshop.write_rows(f"{name}.jsonl", rows)


def test_outputs_without_names_are_the_integers_of_the_data(workshop, model):
    shutil.rmtree(model)
    write_model(model, "bert", "AutoModelForSequenceClassification", labels=UNNAMED)
    write_integers(workshop, 3)
    run = workshop.open("export")
    assert run.plan.steps()[0].kind is Kind.CHECKPOINT
    assert run.plan.labels == ["0", "1", "2"]
    assert not any("head" in said for said in run.plan.warnings)
    imported = run.execute("model").artifact
    config = json.loads((imported.directory / "config.json").read_text())
    assert config["id2label"] == {"0": "0", "1": "1", "2": "2"}
    assert config["label2id"] == {"0": 0, "1": 1, "2": 2}
    before, after = weights(model), weights(imported.directory)
    assert before.keys() == after.keys()
    assert all(bool((before[name] == after[name]).all()) for name in before), "the model is theirs"


def weights(directory):
    from safetensors.torch import load_file

    return load_file(directory / "model.safetensors")


def test_fewer_integers_than_outputs_are_no_names_of_them(workshop, model):
    shutil.rmtree(model)
    write_model(model, "bert", "AutoModelForSequenceClassification", labels=UNNAMED)
    write_integers(workshop, 2)
    assert workshop.open("finetune").plan.steps()[0].kind is Kind.ENCODER


@pytest.mark.parametrize("own", [("LABEL_0", "LABEL_1"), ("bad", "good")])
def test_a_recipe_can_say_which_label_each_output_is(workshop, model, own):
    shutil.rmtree(model)
    write_model(model, "bert", "AutoModelForSequenceClassification", labels=own)
    data = {"train": "train.jsonl", "eval": "eval.jsonl"}
    fingerprints = set()
    for labels in (["positive", "negative"], ["negative", "positive"]):
        run = workshop.open("export", data=data | {"labels": labels})
        step = run.plan.steps()[0]
        assert (step.kind, run.plan.labels) == (Kind.CHECKPOINT, labels)
        fingerprints.add(step.fingerprint)
        said = f"its outputs bad, good are taken as {', '.join(labels)}, in this order"
        assert any(said in warning for warning in run.plan.warnings) is (own[0] == "bad")
    assert len(fingerprints) == 2, "an artifact has the names of its labels in it"


def test_labels_that_do_not_fit_the_outputs_or_the_data_are_refused(workshop, model):
    shutil.rmtree(model)
    write_model(model, "bert", "AutoModelForSequenceClassification", labels=UNNAMED)
    data = {"train": "train.jsonl", "eval": "eval.jsonl"}
    fault = r"data\.labels: 2 labels, but the model's head has 3 outputs \(LABEL_0, LABEL_1, LABE"
    with pytest.raises(ModelError, match=fault):
        workshop.open("finetune", data=data | {"labels": ["negative", "positive"]}).plan.steps()
    fault = "train has the label 'positive', which does not occur in data.labels"
    with pytest.raises(DataError, match=fault):
        workshop.open("finetune", data=data | {"labels": ["negative", "so"]}).plan.steps()


def test_a_new_head_has_the_order_of_the_recipe(workshop):
    data = {"train": "train.jsonl", "eval": "eval.jsonl", "labels": ["positive", "negative"]}
    assert workshop.open("finetune", data=data).plan.labels == ["positive", "negative"]


def test_scores_have_no_order_of_labels(workshop):
    rows = [{"text": f"a film {at}", "label": at / 7} for at in range(8)]
    for name in ("train", "eval"):
        workshop.write_rows(f"{name}.jsonl", rows)
    data = {"train": "train.jsonl", "eval": "eval.jsonl", "labels": ["low", "high"]}
    with pytest.raises(DataError, match=r"data\.labels: regression has no labels; leave it out"):
        workshop.open("finetune", task="regression", data=data).plan.steps()


@pytest.mark.parametrize("task", ["multi-label-classification", "token-classification"])
def test_other_heads_are_named_in_the_same_way(workshop, model, task):
    shutil.rmtree(model)
    data = {"train": "train.jsonl", "eval": "eval.jsonl"}
    if task == "token-classification":
        write_model(model, "bert", "AutoModelForTokenClassification", ("LABEL_0", "LABEL_1"))
        rows = [{"text": ["a", "film"], "label": ["O", "B-Kind"]}] * 2
        data["labels"] = names = ["B-Kind", "O"]
    else:
        write_model(model, "bert", "AutoModelForSequenceClassification", ("LABEL_0", "LABEL_1"))
        configure(model, problem_type="multi_label_classification")
        rows = [{"text": "a film", "label": [0]}, {"text": "a story", "label": [0, 1]}]
        names = ["0", "1"]
    for name in ("train", "eval"):
        workshop.write_rows(f"{name}.jsonl", rows)
    plan = workshop.open("export", task=task, data=data).plan
    assert (plan.steps()[0].kind, plan.labels) == (Kind.CHECKPOINT, names)
