"""How sentence-transformers makes embeddings is read, and what cannot be computed is refused."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from rarefy.pipeline.model import pooling
from rarefy.pipeline.model.pooling import Pooling
from rarefy.pipeline.terms.errors import ModelError
from tests.models import write_encoder

OLD, NEW = "sentence_transformers.models", "sentence_transformers.sentence_transformer.modules"


def write(directory: Path, modes: dict, *further: str, transformer: str = "", home=OLD) -> Path:
    """Write the files of a sentence-transformers directory that say how embeddings are made."""
    names = ["Transformer", "Pooling", *further]
    folders = [transformer, *(f"{at}_{name}" for at, name in enumerate(names) if at)]
    entries = [
        {"idx": at, "name": str(at), "path": folder, "type": f"{home}.{name}"}
        for at, (name, folder) in enumerate(zip(names, folders, strict=True))
    ]
    (directory / "1_Pooling").mkdir(parents=True)
    (directory / transformer).mkdir(exist_ok=True)
    (directory / "modules.json").write_text(json.dumps(entries))
    (directory / "1_Pooling/config.json").write_text(json.dumps(modes))
    return directory


@pytest.mark.parametrize(
    ("modes", "mode"),
    [
        ({"pooling_mode_mean_tokens": True, "pooling_mode_cls_token": False}, "mean"),
        ({"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": False}, "cls"),
        ({"pooling_mode_lasttoken": True}, "last"),
        ({"embedding_dimension": 8, "pooling_mode": "lasttoken"}, "last"),
        ({"pooling_mode": ["mean"], "pooling_mode_cls_token": True}, "mean"),
        ({}, "mean"),
    ],
)
@pytest.mark.parametrize("further", [(), ("Normalize",)])
def test_the_modes_of_old_and_new_directories(tmp_path, modes, mode, further):
    home = NEW if "pooling_mode" in modes else OLD
    directory = write(tmp_path / "st", modes, *further, home=home)
    assert pooling.read(directory) == Pooling(mode, normalize=bool(further))


def test_a_plain_directory_means_the_normalized_mean(tmp_path):
    assert pooling.read(tmp_path) == Pooling("mean", normalize=True)
    assert pooling.layout(tmp_path) == pooling.Layout(tmp_path)


@pytest.mark.parametrize(
    ("modes", "further", "message"),
    [
        ({"pooling_mode_max_tokens": True}, (), r"1_Pooling/config\.json: the pooling max is not"),
        ({"pooling_mode": "weightedmean"}, (), "the pooling weightedmean is not supported"),
        ({"pooling_mode": ["cls", "mean"]}, (), "the pooling cls and mean is not supported"),
        ({"pooling_mode": "new"}, (), "supported is one of mean, cls and lasttoken"),
        ({"pooling_mode": "mean"}, ("Dense",), r"modules\.json: the module Dense \(2_Dense\)"),
        ([], (), "is missing or not JSON"),
    ],
)
def test_what_cannot_be_computed_is_one_line(tmp_path, modes, further, message):
    with pytest.raises(ModelError, match=message) as caught:
        pooling.read(write(tmp_path / "st", modes, *further))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "expected a list"),
        ('[{"path": ""}]', "expected a list"),
        ('[{"path": "../x", "type": "x.Pooling"}]', "not a folder next to"),
        ('[{"path": "2_Normalize", "type": "x.Normalize"}]', "the module Normalize"),
    ],
)
def test_a_malformed_list_of_modules(tmp_path, text, message):
    (tmp_path / "modules.json").write_text(text)
    with pytest.raises(ModelError, match=message):
        pooling.read(tmp_path)


def test_the_transformer_may_have_a_folder_of_its_own_and_a_length(tmp_path):
    directory = write(tmp_path / "st", {}, transformer="0_Transformer")
    (directory / "0_Transformer/sentence_bert_config.json").write_text('{"max_seq_length": 96}')
    found = pooling.layout(directory)
    assert found.transformer == directory / "0_Transformer"
    assert found.files == ("modules.json", "1_Pooling/config.json")
    assert found.max_length == 96


PROMPTS = {"query": "query: ", "document": ""}


@pytest.mark.parametrize(
    ("settings", "refused"),
    [
        ({"prompts": PROMPTS, "default_prompt_name": "query"}, True),
        ({"default_prompt_name": "query"}, True),
        ({"prompts": PROMPTS, "default_prompt_name": "document"}, False),
        ({"prompts": PROMPTS, "default_prompt_name": None}, False),
        ({}, False),
    ],
)
def test_a_prompt_before_every_text_is_refused(tmp_path, settings, refused):
    directory = write(tmp_path / "st", {})
    (directory / "config_sentence_transformers.json").write_text(json.dumps(settings))
    found = pooling.layout(directory).other_texts
    assert ("default_prompt_name is 'query'; no prompt" in str(found)) == refused
    assert refused or found is None


@pytest.mark.parametrize(
    ("name", "further", "said"),
    [
        ("dot", (), True),
        ("euclidean", (), True),
        ("dot", ("Normalize",), False),
        ("cosine", (), False),
        (None, (), False),
    ],
)
def test_another_similarity_than_the_cosine_is_said_unless_lengths_are_all_one(
    tmp_path, name, further, said
):
    directory = write(tmp_path / "st", {}, *further)
    settings = {"similarity_fn_name": name}
    (directory / "config_sentence_transformers.json").write_text(json.dumps(settings))
    found = pooling.layout(directory).other_scores
    assert (f"similarity_fn_name is {name!r}, but embeddings" in str(found)) == said
    assert said or found is None


UNCASED = {"type": "BertNormalizer", "lowercase": True}
CASED = {"type": "BertNormalizer", "lowercase": False}


@pytest.mark.parametrize("transformer", ["", "0_Transformer"])
@pytest.mark.parametrize(
    ("normalizer", "stated", "refused"),
    [
        (CASED, None, True),
        (None, None, True),
        (UNCASED, False, True),  # transformers' BertTokenizer has the last word
        (UNCASED, None, False),
        (
            {"type": "Sequence", "normalizers": [{"type": "NFC"}, {"type": "Lowercase"}]},
            True,
            False,
        ),
        ("no tokenizer.json", True, False),
        ("no tokenizer.json", None, True),
    ],
)
def test_lower_case_is_refused_unless_the_tokenizer_s_own(
    tmp_path, normalizer, stated, refused, transformer
):
    directory = write(tmp_path / "st", {}, transformer=transformer)
    folder = directory / transformer
    pooling.layout(directory)
    (folder / "sentence_bert_config.json").write_text('{"do_lower_case": true}')
    (folder / "tokenizer_config.json").write_text(json.dumps({"do_lower_case": stated}))
    if not isinstance(normalizer, str):
        (folder / "tokenizer.json").write_text(json.dumps({"normalizer": normalizer}))
    found = pooling.layout(directory).other_texts
    assert ("sentence_bert_config.json: do_lower_case is set, but" in str(found)) == refused
    assert refused or found is None


def test_a_note_in_the_config_comes_first(tmp_path):
    config = SimpleNamespace()
    pooling.note(config, Pooling("cls", normalize=False))
    (tmp_path / "config.json").write_text(json.dumps(vars(config)))
    assert pooling.read(tmp_path) == Pooling("cls", normalize=False)


@pytest.mark.parametrize("value", [None, {"mode": "max", "normalize": True}, {"mode": "cls"}])
def test_a_note_that_is_malformed(value):
    with pytest.raises(ModelError, match="rarefy_pooling"):
        pooling.of_config(value)


@pytest.mark.slow
@pytest.mark.peer
@pytest.mark.parametrize("mode", ["cls", "mean", "lasttoken"])
@pytest.mark.parametrize("normalize", [True, False])
def test_embeddings_are_those_of_sentence_transformers(tmp_path, mode, normalize):
    peer = pytest.importorskip("sentence_transformers")
    from sentence_transformers.sentence_transformer import modules

    from rarefy.pipeline.model import checkpoint, pretrained, safe_loading

    write_encoder(tmp_path / "plain", layers=1, hidden=16)
    parts = [modules.Transformer(str(tmp_path / "plain")), modules.Pooling(16, mode)]
    theirs = peer.SentenceTransformer(modules=parts + [modules.Normalize()] * normalize)
    theirs.save(str(tmp_path / "st"))
    found = pooling.layout(tmp_path / "st")
    directory = found.transformer
    network = pretrained.load(directory, safe_loading.weight_files(directory)).model
    tokenizer = checkpoint.load_tokenizer(directory)
    texts = ["the film is lovely", "awful"]
    batch = tokenizer(texts, padding=True, return_tensors="pt")
    with torch.no_grad():
        states, mask = network(**batch).last_hidden_state, batch["attention_mask"]
    own = {
        "mean": (states * mask[..., None]).sum(1) / mask.sum(1, keepdim=True),
        "cls": states[:, 0],
        "last": states[torch.arange(2), mask.sum(1) - 1],
    }[found.pooling.mode]
    own = torch.nn.functional.normalize(own) if found.pooling.normalize else own
    expected = theirs.encode(texts, convert_to_tensor=True).cpu()
    torch.testing.assert_close(own, expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(("stated", "most"), [(256, 256), (10**30, None), (None, None)])
def test_a_transformer_alone_is_a_plain_model_such_as_a_cross_encoder(tmp_path, stated, most):
    """sentence-transformers saves them so since version 5.4, with the length at the tokenizer."""
    module = "sentence_transformers.base.modules.transformer.Transformer"
    (tmp_path / "modules.json").write_text(json.dumps([{"path": "", "type": module}]))
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"model_max_length": stated}))
    found = pooling.layout(tmp_path)
    assert (found.transformer, found.pooling, found.max_length) == (tmp_path, None, most)
