"""A causal language model is opened, tuned and sampled from."""

from __future__ import annotations

import pytest
import torch

from pipeline.stage.split import Split
from pipeline.terms.errors import DataError, ModelError
from stages import causal_lm, training
from tests.models import rename_weights, write_encoder, write_model
from tests.stages.language_models import end_texts, write_language_model


@pytest.fixture
def model(tmp_path, monkeypatch):
    monkeypatch.setattr(causal_lm, "cpu_has_bf16", lambda: False)  # numbers are compared
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


def test_a_row_whose_nucleus_is_wider_than_the_likely_tokens_is_sampled_from_all_of_it():
    torch.manual_seed(0)
    flat, sharp = torch.zeros(40), torch.arange(40.0)
    logits = torch.stack([flat, sharp]).repeat(4000, 1)
    drawn = causal_lm.nucleus(logits, 0.5, likely=2)
    assert (drawn[1::2] == 39).all()
    counts = drawn[::2].flatten().bincount(minlength=40)
    assert (counts > 0).sum() == 20
    assert counts[counts > 0] / 4000 == pytest.approx(1 / 20, abs=0.02)


def test_each_token_follows_its_own_text_though_ended_ones_are_left_out(model, monkeypatch):
    sampled, nucleus = [], causal_lm.nucleus

    def noted(logits, top_p):
        chosen = nucleus(logits, top_p)
        sampled.append((logits, chosen[:, 0]))
        return chosen

    monkeypatch.setattr(causal_lm, "nucleus", noted)
    monkeypatch.setattr(causal_lm.Writer, "_breaks", lambda _, ids: ids % 8 == 0)
    stop = model.tokenizer.eos_token_id
    torch.manual_seed(0)
    given = torch.tensor([[model.start, 5, 6]])
    texts = model._sample(given, 32, 30, 1.0, 1.0, stop)
    sizes = [len(logits) for logits, _ in sampled]
    assert sizes[0] == 32 > sizes[-1]
    for text in texts:
        ended = [at for at, token in enumerate(text) if token == stop or token % 8 == 0]
        text = text[: ended[0] + 1] if ended else text
        with torch.no_grad():
            read = model.network(input_ids=torch.tensor([given[0].tolist() + text])).logits[0, 2:]
        for (logits, chosen), own, token in zip(sampled, read, text, strict=False):
            near = torch.isclose(logits, own, atol=1e-4).all(dim=1)
            assert (chosen[near] == token).any()


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
    with pytest.raises(ModelError, match=r"write.model: gone: there is no directory"):
        causal_lm.open_model("gone", tmp_path)


@pytest.mark.parametrize("kind", ["bert", "roberta"])
def test_an_encoder_is_refused_though_transformers_opens_it(tmp_path, kind):
    write_model(tmp_path / kind, kind, "AutoModelForCausalLM")
    end_texts(tmp_path / kind)
    message = rf"write.model: {kind} is no causal language model: its answers change if it goes on"
    with pytest.raises(ModelError, match=message):
        causal_lm.open_model(kind, tmp_path)


def test_a_model_without_its_head_is_refused(model, tmp_path):
    rename_weights(tmp_path / "lm", lambda name: "" if name.startswith("lm_head") else name)
    message = r"write.model: lm is no causal language model: it has no weights for lm_head.weight"
    with pytest.raises(ModelError, match=message):
        causal_lm.open_model("lm", tmp_path)
    write_language_model(tmp_path / "tied", tie_word_embeddings=True)
    causal_lm.open_model("tied", tmp_path)


def test_what_follows_the_end_of_a_text_is_not_part_of_it(model, monkeypatch):
    stop = model.tokenizer.eos_token_id
    words = model.tokenizer("film good plot bad", add_special_tokens=False)["input_ids"]
    rows = [[*words[:2], stop, *words[2:]], [*words, stop]]
    monkeypatch.setattr(causal_lm.Writer, "_sample", lambda *_: rows)
    texts = model.write("", 2, tokens=9, temperature=1.0, top_p=1.0)
    first = model.tokenizer.decode(words[:2]).strip()
    assert texts[-1] == model.tokenizer.decode(words).strip()
    assert all(text in (first, texts[-1]) for text in texts)


@pytest.fixture
def wrote(model, monkeypatch):
    """What is written if the model samples these texts, which end or reach the limit."""

    def write(*texts, ended=True):
        stop = model.tokenizer.eos_token_id
        said = dict(enumerate(texts, stop + 1))
        rows = [[token, stop][: 1 + ended] for token in said]
        monkeypatch.setattr(causal_lm.Writer, "_sample", lambda *_: rows)
        monkeypatch.setattr(type(model.tokenizer), "decode", lambda _, ids, **options: said[ids[0]])
        return model.write("", len(texts), tokens=9, temperature=1.0, top_p=1.0)

    return write


def test_a_text_that_begins_with_a_line_break_is_empty(wrote):
    assert wrote("\n- the next example", " a good film\n- the next") == ["a good film"]


def test_texts_in_scripts_without_spaces_are_kept(wrote):
    assert wrote("很好看", "ดีมาก", "fine") == ["很好看", "ดีมาก"]


def test_a_text_that_was_cut_off_ends_with_its_last_sentence(wrote):
    texts = ("很好看。但是太", "क्या अच्छा था। पर", "A good film. But", "没有结尾")
    assert wrote(*texts, ended=False) == ["很好看。", "क्या अच्छा था।", "A good film."]


@pytest.fixture
def short(tmp_path):
    write_language_model(tmp_path / "short", max_position_embeddings=16)
    return causal_lm.open_model("short", tmp_path)


@pytest.mark.parametrize(
    ("prompt", "tokens", "parameter"),
    [("", 16, "tokens"), ("good", 20, "tokens"), ("good film " * 9, 8, "examples")],
)
def test_more_tokens_than_the_model_has_positions_are_refused(short, prompt, tokens, parameter):
    with pytest.raises(ModelError, match=rf"write.{parameter}: lower it: .* more than the 16 that"):
        short.write(prompt, 2, tokens=tokens, temperature=1.0, top_p=1.0)
    short.write("", 2, tokens=15, temperature=1.0, top_p=1.0)


def test_rows_to_tune_on_are_as_long_as_the_model_can_read(short, make_context):
    context = make_context()
    train = Split("train", "train.jsonl", "0" * 64, ["good film " * 40, "good"], None, [0, 1])
    long, brief = causal_lm.rows(context, short, train)
    assert len(long["input_ids"]) == 16
    assert long["input_ids"][-1] == brief["input_ids"][-1] == short.tokenizer.eos_token_id


def test_rows_to_tune_on_are_written_to_disk_by_and_by(model, make_context, monkeypatch):
    monkeypatch.setattr(training, "CHUNK", 2)
    told = []
    context = make_context(rows=5, progress=lambda *of: told.append(of))
    rows = causal_lm.rows(context, model, context.split("train"))
    assert len(rows) == 5
    assert told == [(done, 5, "train: tokenizing") for done in (2, 4, 5)]
