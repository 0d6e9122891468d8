"""A causal language model is opened, tuned and sampled from."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from pipeline.stage.split import Split
from pipeline.terms.errors import DataError, ModelError
from stages import causal_lm
from tests.models import write_encoder
from tests.stages.language_models import write_language_model


@pytest.fixture
def model(tmp_path):
    write_language_model(tmp_path / "lm")
    return causal_lm.open_model("lm", tmp_path)


def test_the_nucleus_is_the_fewest_tokens_with_enough_probability():
    torch.manual_seed(0)
    logits = torch.tensor([[0.5, 0.3, 0.15, 0.05]]).log().repeat(2000, 1)
    drawn = causal_lm.nucleus(logits, 0.7).flatten().bincount(minlength=4) / 2000
    assert drawn[2:].sum() == 0
    assert drawn[0] == pytest.approx(0.5 / 0.8, abs=0.05)
    greedy = causal_lm.nucleus(logits, 0.01)
    assert (greedy == 0).all()


def test_texts_are_written_line_by_line_and_others_for_another_seed(model):
    written = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        written.append(model.write("", 40, tokens=12, temperature=1.0, top_p=1.0))
    assert written[0] == written[1] != written[2]
    assert all(len(text.split()) > 1 and "\n" not in text for text in written[0])


def test_the_loss_is_that_of_transformers(model):
    ids = torch.tensor([[5, 6, 7, 8], [5, 6, 9, 0]])
    mask = torch.tensor([[1, 1, 1, 1], [1, 1, 1, 0]])
    labels = ids.masked_fill(mask == 0, -100)
    with torch.no_grad():
        own = causal_lm.loss(
            model.network, {"input_ids": ids, "attention_mask": mask, "labels": ids}
        )
        theirs = model.network(input_ids=ids, attention_mask=mask, labels=labels).loss
    assert own.item() == pytest.approx(theirs.item(), rel=1e-5)


def test_what_is_no_causal_model_is_refused(tmp_path):
    write_encoder(tmp_path / "bert", layers=1)
    (tmp_path / "no.gguf").write_bytes(b"nothing")
    with pytest.raises(DataError, match=r"write.model: gone.gguf: no such file"):
        causal_lm.files("gone.gguf", tmp_path)
    with pytest.raises(ModelError, match=r"write.model: no.gguf is no causal language model"):
        causal_lm.open_model("no.gguf", tmp_path)
    with pytest.raises(ModelError):
        causal_lm.open_model("gone", tmp_path)


def test_what_follows_the_end_of_a_text_is_not_part_of_it(model, monkeypatch):
    """A batch goes on until all its rows have ended."""
    stop = model.tokenizer.eos_token_id
    words = model.tokenizer("film good plot bad", add_special_tokens=False)["input_ids"]
    rows = [[*words[:2], stop, *words[2:]], [*words, stop]]
    monkeypatch.setattr(causal_lm.Writer, "_sample", lambda *_: rows)
    texts = model.write("", 2, tokens=9, temperature=1.0, top_p=1.0)
    first = model.tokenizer.decode(words[:2]).strip()
    assert texts[-1] == model.tokenizer.decode(words).strip()
    assert all(text in (first, texts[-1]) for text in texts)


def test_lines_of_scripts_without_spaces_are_texts(model, monkeypatch):
    text = "这部电影非常好看。演员"
    monkeypatch.setattr(causal_lm.Writer, "_sample", lambda *_: [[5, 6]])
    monkeypatch.setattr(type(model.tokenizer), "decode", lambda *_, **__: text)
    assert model.write("", 1, tokens=2, temperature=1.0, top_p=1.0) == ["这部电影非常好看。"]


def test_a_text_that_begins_with_a_line_break_is_empty(model, monkeypatch):
    monkeypatch.setattr(causal_lm.Writer, "_sample", lambda *_: [[5, 6]])
    monkeypatch.setattr(type(model.tokenizer), "decode", lambda *_, **__: "\n- word two")
    assert model.write("- ", 1, tokens=2, temperature=1.0, top_p=1.0) == []


def test_more_tokens_than_the_model_has_positions_are_refused(model):
    limit = model.positions
    assert limit
    with pytest.raises(ModelError, match=rf"do not fit the model's {limit} positions; lower 'tok"):
        model.write("", 1, tokens=limit, temperature=1.0, top_p=1.0)
    with pytest.raises(ModelError, match="lower 'tokens' or 'examples'"):
        model.write("good film " * limit, 1, tokens=4, temperature=1.0, top_p=1.0)


def test_rows_of_tuning_are_cut_to_what_the_model_can_read(model, make_context):
    text = "good film " * model.positions
    rows = Split("train", "train.jsonl", "0" * 64, [text, "good film"], None, None)
    context = make_context(rows=8)
    context = replace(context, task=replace(context.task, max_length=10_000))
    (first, _) = causal_lm.rows(context, model, rows)
    assert len(first["input_ids"]) == model.positions
