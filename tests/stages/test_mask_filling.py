"""Words are replaced in their places, by words."""

from __future__ import annotations

import torch

from pipeline.model import checkpoint
from stages import mask_filling, masked_lm
from stages.causal_lm import nucleus
from stages.mask_filling import Filler, replaced
from stages.masked_lm import Word


def test_what_stands_between_the_words_stays():
    words = [Word((1,), 0, 4, 0), Word((5,), 6, 10, 0), Word((9,), 0, 3, 1)]
    row = replaced(("good, warm film!", "old cup"), words, ["bad", "cold", "new"])
    assert row == ("bad, cold film!", "new cup")
    assert replaced(("a good film", None), [Word((1,), 2, 6, 0)], [" bad"]) == ("a bad film", None)


def test_no_special_token_is_sampled_and_no_middle_of_a_word_begins_one(encoder):
    tokenizer = checkpoint.load_tokenizer(encoder.directory)
    network, _ = masked_lm.open_model(encoder.directory)
    loss = masked_lm.MaskedTokenLoss(network)
    filler = Filler(network.eval(), tokenizer, loss, "cpu", 1.0)
    allowed = {
        name
        for at, name in enumerate(tokenizer.convert_ids_to_tokens(range(len(tokenizer))))
        if at not in tokenizer.all_special_ids and not name.startswith("##")
    }
    (text,) = masked_lm.encode(tokenizer, ["good film"], None, 32)
    torch.manual_seed(0)
    seen = {fills[0] for fills in filler.fill([text] * 400, [text.words[:1]] * 400)}
    assert len(seen) > 10
    assert seen <= allowed


def test_the_likeliest_words_are_sampled(encoder):
    """With hardly any probability to sample from, only the first of the logits is left."""
    tokenizer = checkpoint.load_tokenizer(encoder.directory)
    network, _ = masked_lm.open_model(encoder.directory)
    loss = masked_lm.MaskedTokenLoss(network)
    wanted = tokenizer("film", add_special_tokens=False)["input_ids"][0]
    with torch.no_grad():
        network.get_output_embeddings().bias[wanted] = 50
    (text,) = masked_lm.encode(tokenizer, ["good good"], None, 32)
    filler = Filler(network.eval(), tokenizer, loss, "cpu", 0.01)
    assert filler.fill([text], [text.words]) == [["film", "film"]]


def test_few_logits_are_held_at_once_and_every_text_gets_its_own_words(encoder, monkeypatch):
    """Here those of four places: two texts of two words, or a longer one alone, in slices."""
    tokenizer = checkpoint.load_tokenizer(encoder.directory)
    network, _ = masked_lm.open_model(encoder.directory)
    loss = masked_lm.MaskedTokenLoss(network)
    filler = Filler(network.eval(), tokenizer, loss, "cpu", 0.01)
    texts = masked_lm.encode(
        tokenizer, ["good film", "bad film", "film bad", "good bad film good bad film"], None, 32
    )
    words = [text.words for text in texts]
    whole = filler.fill(texts, words)
    decoded, sampled = [], []

    def noted(logits, top_p):
        sampled.append(len(logits))
        return nucleus(logits, top_p)

    network.get_output_embeddings().register_forward_hook(lambda *of: decoded.append(len(of[2])))
    monkeypatch.setattr(mask_filling, "nucleus", noted)
    vocabulary = network.get_output_embeddings().weight.shape[0]
    monkeypatch.setattr(mask_filling, "DECODED", 4 * vocabulary + 1)
    assert filler.fill(texts, words) == whole
    assert [len(fills) for fills in whole] == [2, 2, 2, 6]
    assert decoded == [4, 2, 6]
    assert sampled == [4, 2, 4, 2]
