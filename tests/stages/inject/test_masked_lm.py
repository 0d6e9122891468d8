"""Masked language modelling: whole-word masks, and a loss equal to that of transformers."""

from __future__ import annotations

import random

import pytest
import torch

from rarefy.pipeline.data.values import IGNORED
from rarefy.pipeline.model import checkpoint
from rarefy.pipeline.terms.errors import ModelError
from rarefy.stages.factorize import Factorize
from rarefy.stages.inject import facts, masked_lm
from rarefy.stages.inject.facts import Fact
from rarefy.stages.prune import Prune
from tests import tokenizers
from tests.models import write_encoder
from tests.stages.facts import WORDS


def test_a_head_that_was_pretrained_is_used_as_it_is(tmp_path):
    from transformers import AutoConfig, BertForMaskedLM

    write_encoder(tmp_path / "plain", words=WORDS)
    _, new = masked_lm.open_model(tmp_path / "plain")
    assert new
    config = AutoConfig.from_pretrained(str(tmp_path / "plain"))
    whole = BertForMaskedLM(config)
    whole.save_pretrained(tmp_path / "whole")
    loaded, new = masked_lm.open_model(tmp_path / "whole")
    assert not new
    assert torch.equal(
        loaded.cls.predictions.transform.dense.weight, whole.cls.predictions.transform.dense.weight
    )
    embeddings = loaded.get_input_embeddings().weight
    assert loaded.get_output_embeddings().weight is embeddings


@pytest.mark.parametrize(
    ("stage", "what"),
    [
        (Factorize(keep_weights=0.95), "has no weights for bert.encoder.layer.0"),
        (Prune(remove_neurons="50 %"), "has weights of other shapes"),
    ],
)
def test_a_body_that_was_compressed_is_refused(base, make_context, stage, what):
    context = make_context(rows=16)
    stage.run(context, base)
    message = rf"^inject: no masked-language model for this body: it {what}; give the model as"
    with pytest.raises(ModelError, match=message):
        masked_lm.open_model(context.output)


def test_the_loss_is_that_of_transformers_though_only_masks_are_decoded(encoder):
    torch.manual_seed(0)
    model, _ = masked_lm.open_model(encoder.directory)
    model.eval()
    ids = torch.tensor([[2, 7, 4, 9, 3], [2, 4, 8, 3, 0]])
    labels = torch.full_like(ids, IGNORED)
    labels[0, 2], labels[1, 1] = 11, 12
    batch = {"input_ids": ids, "attention_mask": (ids != 0).long()}
    expected = model(**batch, labels=labels).loss.item()
    loss = masked_lm.MaskedTokenLoss(model)
    assert loss(model, batch | {"labels": labels}).item() == pytest.approx(expected, rel=1e-5)


def test_whole_words_are_masked_and_nothing_else(encoder):
    tokenizer = checkpoint.load_tokenizer(encoder.directory)
    sentence = facts.verbalise(Fact("warm film", "hypernym", "good smooth"), {})
    (text,) = masked_lm.encode(tokenizer, [sentence.text], None, 32)
    seen = set()
    for seed in range(20):
        words = masked_lm.words_of_fact(text, sentence, random.Random(seed))
        row = masked_lm.masked(text, words, tokenizer.mask_token_id)
        seen.add(tokenizer.decode(row["input_ids"]))
        answers = [label for label in row["labels"] if label >= 0]
        assert tokenizer.decode(answers) in ("warm film", "good smooth")
    assert seen == {
        "[CLS] [MASK] [MASK] is a kind of good smooth . [SEP]",
        "[CLS] warm film is a kind of [MASK] [MASK] . [SEP]",
    }
    asked = masked_lm.masked(text, masked_lm.cloze_words(text, sentence), tokenizer.mask_token_id)
    assert (
        tokenizer.decode(asked["input_ids"]) == "[CLS] warm film is a kind of [MASK] [MASK] . [SEP]"
    )


TEXTS = {
    "a good film, warm.": ["a", "good", "film", ",", "warm", "."],
    "狗是动物，很好。": ["狗", "是", "动", "物", "，", "很", "好", "。"],
    "いい映画です。": ["い", "い", "映", "画", "で", "す", "。"],
}


@pytest.mark.parametrize("kind", tokenizers.KINDS)
@pytest.mark.parametrize("text", TEXTS)
def test_words_are_those_of_the_text_whatever_the_tokenizer(kind, text, tmp_path):
    """Only what shares a token is one: no tokenizer's own words, which may be whole sentences."""
    tokenizer = checkpoint.load_tokenizer(tokenizers.write(kind, tmp_path))
    for given, pair in ((text, None), ("another", text)):
        (found,) = masked_lm.encode(tokenizer, [given], pair and [pair], 64)
        own = [word for word in found.words if word.part == (pair is not None)]
        (encoding,) = tokenizer([given], pair and [pair]).encodings
        assert "".join(text[word.start : word.end] for word in own) == "".join(TEXTS[text])
        for word in own:
            inside = [encoding.offsets[token] for token in word.tokens]
            covers = [each for each in TEXTS[text] if each in text[word.start : word.end]]
            shared = any(end - start > 1 and covers[1:] for start, end in inside)
            assert text[word.start : word.end] in TEXTS[text] or shared
        taken = [token for word in found.words for token in word.tokens]
        assert len(taken) == len(set(taken))


def test_of_a_word_that_is_cut_off_there_is_what_is_left(tmp_path):
    tokenizer = checkpoint.load_tokenizer(tokenizers.write("bert", tmp_path))
    text = "unheardofness"
    (whole,) = masked_lm.encode(tokenizer, [text], None, 64)
    assert [(word.start, word.end) for word in whole.words] == [(0, len(text))]
    (cut,) = masked_lm.encode(tokenizer, [text], None, 5)
    (word,) = cut.words
    assert len(word.tokens) == 3
    assert 0 == word.start < word.end < len(text)
