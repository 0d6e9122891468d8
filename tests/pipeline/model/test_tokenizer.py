"""Tokenizers of every fast kind are imported; older vocabularies become tokenizer.json."""

from __future__ import annotations

import importlib.util
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from sentencepiece import SentencePieceProcessor, SentencePieceTrainer
from tokenizers import Tokenizer
from tokenizers.processors import BertProcessing, ByteLevel, TemplateProcessing

from rarefy.pipeline.model import checkpoint
from rarefy.pipeline.model import tokenizer as conversion
from rarefy.pipeline.run.plan.plan import MODEL
from rarefy.pipeline.terms.errors import ModelError
from tests import tokenizers
from tests.conftest import execute
from tests.models import LABELS

OTHER_VOCABULARIES = {"vocab.txt", "vocab.json", "merges.txt"}


@pytest.fixture
def model(workshop) -> Path:
    """The folder of the workshop's model, to be replaced by another one."""
    shutil.rmtree(workshop.folder / "model")
    return workshop.folder / "model"


@pytest.fixture
def bring(workshop):
    """Import the workshop's model; return its model and tokenizer as they are in the store."""

    def do():
        run = workshop.open("export")
        run.plan.steps()
        artifact = run.execute(MODEL).artifact
        names = {path.name for path in artifact.directory.iterdir()}
        assert "tokenizer.json" in names
        assert not names & OTHER_VOCABULARIES
        assert not any(name.endswith(".model") for name in names)
        brought = checkpoint.load(artifact.directory)
        return brought, checkpoint.load_tokenizer(artifact.directory)

    return do


def shard(directory: Path) -> None:
    """Split the weights into two files with an index, as large models are published."""
    from safetensors.torch import load_file, save_file

    whole = load_file(directory / "model.safetensors")
    (directory / "model.safetensors").unlink()
    index = {}
    for number in (1, 2):
        name = f"model-0000{number}-of-00002.safetensors"
        part = {key: whole[key] for key in sorted(whole)[number - 1 :: 2]}
        save_file(part, directory / name, metadata={"format": "pt"})
        index |= dict.fromkeys(part, name)
    text = json.dumps({"metadata": {}, "weight_map": index})
    (directory / "model.safetensors.index.json").write_text(text)


def vocabulary_files(directory: Path) -> None:
    """Replace tokenizer.json by the vocabulary that it was made of, as older models have it."""
    model = json.loads((directory / "tokenizer.json").read_text())["model"]
    tokens = sorted(model["vocab"], key=model["vocab"].__getitem__)
    if model["type"] == "WordPiece":
        (directory / "vocab.txt").write_text("".join(f"{token}\n" for token in tokens))
    else:
        (directory / "vocab.json").write_text(json.dumps(model["vocab"]))
        merges = "".join(f"{left} {right}\n" for left, right in model["merges"])
        (directory / "merges.txt").write_text(f"#version: 0.2\n{merges}")
    (directory / "tokenizer.json").unlink()
    (directory / "tokenizer_config.json").unlink()


@pytest.mark.parametrize("kind", tokenizers.KINDS)
def test_every_kind_of_tokenizer_is_imported_with_sharded_weights(model, tmp_path, kind, request):
    import torch

    from rarefy.pipeline.stage import located_model

    tokenizers.write_classifier(kind, model, LABELS)
    before, whole = checkpoint.load(model), checkpoint.load_tokenizer(model)
    shard(model)
    assert len(located_model.locate("model", tmp_path, False).weights) == 2
    brought, its = request.getfixturevalue("bring")()
    texts = [*tokenizers.OTHERS]
    rows = whole(texts, padding=True, return_tensors="pt")
    assert its(texts, padding=True)["input_ids"] == rows["input_ids"].tolist()
    with torch.no_grad():
        assert torch.equal(brought(**rows).logits, before(**rows).logits)


@pytest.mark.parametrize("kind", ["bert", "roberta"])
def test_a_vocabulary_becomes_the_tokenizer_json_that_it_was_in(model, bring, kind):
    tokenizers.write_classifier(kind, model, LABELS)
    whole = checkpoint.load_tokenizer(model)
    vocabulary_files(model)
    _, its = bring()
    for text, pair in zip(tokenizers.OTHERS, tokenizers.corpus(9), strict=False):
        assert its(text, pair)["input_ids"] == whole(text, pair)["input_ids"]


OPTIONS = {
    "xlm-roberta": {},
    "camembert": {},
    "deberta-v2": {"pad_id": 0, "bos_id": 1, "eos_id": 2, "unk_id": 3, "pad_piece": "[PAD]"}
    | {"bos_piece": "[CLS]", "eos_piece": "[SEP]", "unk_piece": "[UNK]"},
    "llama": {"model_type": "bpe", "byte_fallback": True, "normalization_rule_name": "identity"}
    | {"remove_extra_whitespaces": False},
}
"""How the families' sentencepiece models are trained."""
FILES = {
    "xlm-roberta": "sentencepiece.bpe.model",
    "camembert": "sentencepiece.bpe.model",
    "deberta-v2": "spm.model",
    "llama": "tokenizer.model",
}
OFFSET = {"xlm-roberta": 1, "camembert": 4, "deberta-v2": 0, "llama": 0}
"""How far a family's ids are from sentencepiece's."""


def train(path: Path, **options) -> SentencePieceProcessor:
    with path.open("wb") as file:
        SentencePieceTrainer.train(
            sentence_iterator=iter(tokenizers.corpus()),
            model_writer=file,
            vocab_size=900,
            character_coverage=0.99,
            minloglevel=2,
            **options,
        )
    return SentencePieceProcessor(model_file=str(path))


@pytest.mark.parametrize("kind", FILES)
def test_a_sentencepiece_model_splits_as_sentencepiece_does(model, bring, kind):
    tokenizers.write_classifier(kind, model, LABELS, vocab_size=1000)
    (model / "tokenizer.json").unlink()
    expected = train(model / FILES[kind], **OPTIONS[kind])
    _, its = bring()
    odd = ["so ﬁne… ｆｕｌｌ"] if kind != "llama" else []
    for text in (*tokenizers.OTHERS, *tokenizers.corpus(20), *odd):
        ids = [at for at in expected.encode(text) if at != expected.unk_id()]
        special = set(its.all_special_ids)
        found = [at for at in its(text)["input_ids"] if at not in special]
        assert found == [at + OFFSET[kind] for at in ids]
        assert set(its.tokenize(text)) >= {expected.id_to_piece(at) for at in ids}


def test_the_published_map_of_characters_is_kept(tmp_path):
    """The class of DeBERTa-v2 leaves it out; checked against the file itself."""
    from tokenizers import normalizers

    tokenizers.write("deberta-v2", tmp_path)
    train(tmp_path / "spm.model")
    published = Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    characters = conversion._character_map(tmp_path / "spm.model")
    published.normalizer = normalizers.Precompiled(characters)
    published.save(str(tmp_path / "tokenizer.json"))
    text = "ﬁne… ｆｕｌｌ ①"
    expected = published.encode(text).tokens
    assert "ﬁ" not in "".join(expected)
    for place in (tmp_path, tmp_path / "again"):
        tokenizer = checkpoint.load_tokenizer(place)
        assert tokenizer.convert_ids_to_tokens(tokenizer(text)["input_ids"]) == expected
        tokenizer.save_pretrained(tmp_path / "again")


DIGITS = {"type": "Digits", "individual_digits": True}
LOWERCASE = {"type": "Sequence", "normalizers": [{"type": "NFKC"}, {"type": "Lowercase"}]}


@pytest.mark.parametrize("kind", tokenizers.KINDS)
def test_texts_are_split_as_the_published_file_says(tmp_path, kind):
    """Most classes of transformers put the family's usual rules in place of the file's."""
    path = tokenizers.write(kind, tmp_path) / "tokenizer.json"
    stored = json.loads(path.read_text())
    splitters = [each for each in (DIGITS, stored["pre_tokenizer"]) if each]
    rules = {"type": "Sequence", "pretokenizers": splitters}
    path.write_text(json.dumps(stored | {"normalizer": LOWERCASE, "pre_tokenizer": rules}))
    published = Tokenizer.from_file(str(path))
    texts = ["It's NAÏVE, 1985  ﬁlm", *tokenizers.OTHERS]
    assert (
        published.encode(texts[0]).ids
        != Tokenizer.from_str(json.dumps(stored)).encode(texts[0]).ids
    )
    for place in (tmp_path, tmp_path / "again"):
        tokenizer = checkpoint.load_tokenizer(place)
        assert tokenizer(texts)["input_ids"] == [published.encode(text).ids for text in texts]
        tokenizer.save_pretrained(tmp_path / "again")


@pytest.mark.parametrize(
    ("kind", "switch", "text", "same"),
    [
        ("bert", "do_lower_case", "FILM", "film"),
        ("roberta", "add_prefix_space", "film", " film"),
    ],
)
def test_the_switches_in_the_config_of_a_tokenizer_override_the_file(
    tmp_path, kind, switch, text, same
):
    path = tokenizers.write(kind, tmp_path) / "tokenizer_config.json"
    stored, found = json.loads(path.read_text()), []
    for value in (True, False):
        path.write_text(json.dumps(stored | {switch: value}))
        tokenizer = checkpoint.load_tokenizer(tmp_path)
        found.append(tokenizer(text)["input_ids"] == tokenizer(same)["input_ids"])
    assert found == [True, False]


def template(single: str, pair: str, *tokens: str) -> Callable[[Tokenizer], None]:
    """Return a function that lets a tokenizer put these special tokens around texts."""

    def change(tokenizer: Tokenizer) -> None:
        named = [(token, tokenizer.token_to_id(token)) for token in tokens]
        tokenizer.post_processor = TemplateProcessing(
            single=single, pair=pair, special_tokens=named
        )

    return change


BARE = template("$A [SEP]", "$A [SEP] $B [SEP]", "[SEP]")
TWICE = template("[CLS] $A [SEP]", "[CLS] $A [SEP] [SEP] $B:1 [SEP]:1", "[CLS]", "[SEP]")
QUERY = template("[CLS] [MASK] $A [SEP]", "[CLS] $A [SEP] $B [SEP]", "[CLS]", "[MASK]", "[SEP]")
ONCE = template("<s> $A </s>", "<s> $A </s> $B </s>", "<s>", "</s>")


@pytest.mark.parametrize(
    ("kind", "publish"),
    [("bert", BARE), ("bert", TWICE), ("bert", QUERY), ("roberta", ONCE), ("camembert", ONCE)],
    ids=["without the first", "twice between", "a further one", "roberta", "camembert"],
)
def test_special_tokens_are_put_where_the_published_file_says(tmp_path, kind, publish):
    path = tokenizers.write(kind, tmp_path) / "tokenizer.json"
    published = Tokenizer.from_file(str(path))
    publish(published)
    published.save(str(path))
    first, second = tokenizers.corpus(0)[:2]
    single, pair = published.encode(first), published.encode(first, second)
    bare = published.encode(first, second, add_special_tokens=False)
    for place in (tmp_path, tmp_path / "again"):
        tokenizer = checkpoint.load_tokenizer(place)
        assert tokenizer(first)["input_ids"] == single.ids
        assert tokenizer(first, second)["input_ids"] == pair.ids
        if kind == "bert":  # the others' models read no token types
            assert tokenizer(first, second)["token_type_ids"] == pair.type_ids
        assert tokenizer.num_special_tokens_to_add(True) == len(pair) - len(bare)
        assert len(tokenizer(first, second, truncation=True, max_length=12)["input_ids"]) == 12
        tokenizer.save_pretrained(tmp_path / "again")


def none(tokenizer: Tokenizer) -> None:
    tokenizer.post_processor = ByteLevel()


def other_ids(tokenizer: Tokenizer) -> None:
    tokenizer.post_processor = BertProcessing(("[SEP]", 30), ("[CLS]", 20))


@pytest.mark.parametrize(
    "publish",
    [none, other_ids, template("[PAD] $A", "[PAD] $A $B", "[PAD]")],
    ids=["none", "ids of other tokens", "other tokens"],
)
def test_special_tokens_that_contradict_the_config_or_vocabulary_are_not_restored(
    tmp_path, publish
):
    path = tokenizers.write("bert", tmp_path) / "tokenizer.json"
    row = tokenizers.corpus(0)[:2]
    expected = dict(checkpoint.load_tokenizer(tmp_path)(*row))
    published = Tokenizer.from_file(str(path))
    publish(published)
    published.save(str(path))
    assert dict(checkpoint.load_tokenizer(tmp_path)(*row)) == expected


def test_a_library_that_is_missing_is_named(tmp_path, monkeypatch):
    (tmp_path / "spm.model").touch()
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ModelError, match=r"spm\.model: .*: pip install sentencepiece$") as caught:
        checkpoint.load_tokenizer(tmp_path)
    assert caught.value.exit_code == 2


def slow_only(folder: Path) -> None:
    (folder / "vocab.txt").write_text("a 1\nb 2\n")
    (folder / "bpe.codes").write_text("a b 1\n")
    settings = {"tokenizer_class": "PhobertTokenizer"}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (slow_only, "transformers has no fast version of PhobertTokenizer, and there is no token"),
        (lambda folder: (folder / "spm.model").write_bytes(b"x" * 99), "not a sentencepiece model"),
        (lambda folder: (folder / "vocab.json").write_text("{}"), r"vocab\.json needs merges\.txt"),
        (lambda folder: (folder / "tokenizer.json").write_text("{}"), "cannot be loaded: "),
    ],
)
def test_what_cannot_be_converted_is_said_in_one_line(model, workshop, change, message):
    tokenizers.write_classifier("roberta", model, LABELS)
    (model / "tokenizer.json").unlink()
    change(model)
    run = workshop.open("export")
    with pytest.raises(ModelError, match=message) as caught:
        execute(run)
    assert caught.value.exit_code == 2
    assert "\n" not in str(caught.value)
    assert str(model) in str(caught.value)
