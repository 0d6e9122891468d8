"""A masked language model replaces words of the training rows."""

from __future__ import annotations

import pytest

from pipeline.stage.alike import normalized
from pipeline.stage.split import Split
from pipeline.store.artifact import Kind
from pipeline.terms.errors import DataError, ModelError
from stages import transfer_set
from stages.mask_filling import Filler
from stages.rewrite import Rewrite
from tests.families import write_family
from tests.models import artifact_of, configure, write_encoder

QUICK = {"model": "masked", "copies": 3, "learning_rate": 1e-3}


@pytest.fixture
def model(tmp_path):
    return write_encoder(tmp_path / "masked")


def made(context):
    return transfer_set.split(artifact_of(context.output, Kind.TRANSFER_SET), context.work)


def test_words_of_the_rows_are_replaced_and_none_is_known(tuned, make_context, model):
    context = make_context(rows=64)
    draft = Rewrite(**QUICK).run(context, tuned)
    texts = made(context).texts
    assert len(texts) == draft.model["texts"] > 64
    known = {normalized(t) for name in ("train", "dev", "eval") for t in context.split(name).texts}
    assert not known & {normalized(text) for text in texts}
    words = {len(text.split()) for text in context.split("train").texts}
    assert {len(text.split()) for text in texts} <= words
    assert not any("[" in text for text in texts)


def test_the_share_says_how_many_words_are_replaced(tuned, make_context, model, monkeypatch):
    drawn = []
    words_of = Rewrite._words

    def noted(self, text, draw):
        found = words_of(self, text, draw)
        drawn.append((len(found), len(text.words)))
        return found

    monkeypatch.setattr(Rewrite, "_words", noted)
    Rewrite(**QUICK, share=0.5).run(make_context(rows=32), tuned)
    assert len(drawn) == 3 * len(make_context(rows=32).split("train"))
    assert all(found == max(1, round(0.5 * words)) for found, words in drawn)


def test_a_killed_run_goes_on_after_its_last_batch(tiny_encoder, make_context, model, monkeypatch):
    monkeypatch.setattr("stages.rewrite.TOGETHER", 16)
    filled, batches, dies_at = Filler.fill, [], None

    def counted(self, *given):
        if len(batches) == dies_at:
            raise KeyboardInterrupt
        batches.append(given)
        return filled(self, *given)

    monkeypatch.setattr(Filler, "fill", counted)
    whole = make_context(rows=64)
    Rewrite(**QUICK).run(whole, tiny_encoder)
    every = batches.copy()
    notes = []
    context = make_context(
        rows=64, work=whole.base / "killed", progress=lambda *told: notes.append(told[2])
    )
    context.work.mkdir()
    batches.clear()
    dies_at = 2
    with pytest.raises(KeyboardInterrupt):
        Rewrite(**QUICK).run(context, tiny_encoder)
    assert any(note.startswith("loss") for note in notes)
    assert len((context.work / "rewritten.jsonl").read_text().splitlines()) == 2
    batches.clear()
    notes.clear()
    dies_at = None
    Rewrite(**QUICK).run(context, tiny_encoder)
    assert batches == every[2:], "those that were written down are not filled again"
    assert "rewriting" in notes
    assert not any(note.startswith("loss") for note in notes), "nothing is trained again"
    assert list(made(context).texts) == list(made(whole).texts)


def test_a_model_that_writes_on_is_known_before_a_run(tmp_path, model):
    stage = Rewrite(**QUICK)
    assert stage.files(tmp_path)
    configure(model, architectures=["LlamaForCausalLM"])
    with pytest.raises(ModelError, match=r"rewrite.model: masked writes on \(LlamaForCausalLM\)"):
        stage.files(tmp_path)


def test_a_new_head_must_be_trained(tuned, make_context, model):
    with pytest.raises(ModelError, match="rewrite: masked has no head that fills masks; set epoc"):
        Rewrite(**QUICK, epochs=0).run(make_context(rows=32), tuned)


def test_both_texts_of_a_pair_are_rewritten(tuned, make_context, model):
    context = make_context(rows=64)
    texts = list(context.split("train").texts)
    rows = Split("train", "train.jsonl", "0" * 64, texts, texts[::-1], [0] * len(texts))
    none = Split("eval", "eval.jsonl", "0" * 64, ["none"], ["none"], [0])
    context = make_context(splits={"train": rows, "dev": none, "eval": none})
    Rewrite(**QUICK, share=1.0).run(context, tuned)
    pairs = made(context).pairs
    assert pairs is not None
    assert len(set(pairs)) > len(texts)


def test_rows_are_cut_to_what_the_model_can_read(tuned, make_context, tmp_path):
    write_family(tmp_path / "masked", "roberta", layers=1, positions=14)  # for 13 tokens
    texts = [" ".join(["good film"] * 12), "a film"]
    long = Split("train", "train.jsonl", "0" * 64, texts, None, [0, 1])
    none = Split("eval", "eval.jsonl", "0" * 64, ["none"], None, [0])
    context = make_context(splits={"train": long, "dev": none, "eval": none})
    Rewrite(**QUICK).run(context, tuned)
    copies = [text for text in made(context).texts if "good film" in text]
    assert copies
    assert all(text.endswith("good film " * 6 + "good film") for text in copies)


def test_rows_without_words_make_nothing(tuned, make_context, model):
    rows = Split("train", "train.jsonl", "0" * 64, ["", " "], None, [0, 1])
    context = make_context(splits={"train": rows, "dev": rows, "eval": rows})
    with pytest.raises(DataError, match="rewrite: the training rows have no words"):
        Rewrite(**QUICK).run(context, tuned)


def test_a_tokenizer_without_a_mask_is_refused(tuned, make_context, model, monkeypatch):
    monkeypatch.setattr("stages.masked_lm.open_model", lambda *_: pytest.fail("opened"))
    from pipeline.model import checkpoint

    load = checkpoint.load_tokenizer

    def without(directory):
        tokenizer = load(directory)
        tokenizer.mask_token = None
        return tokenizer

    monkeypatch.setattr(checkpoint, "load_tokenizer", without)
    with pytest.raises(ModelError, match="rewrite: the tokenizer of masked has no mask token"):
        Rewrite(**QUICK).run(make_context(rows=16), tuned)


def test_what_was_rewritten_joins_the_texts_that_augment_makes(workshop):
    write_encoder(workshop.folder / "masked")
    finished = workshop.run(
        "quick:Head",
        {"rewrite": QUICK},
        {"augment": {"transfer": "rewrite"}},
        {"distill": {"layers": 1, "transfer": "augment", "epochs": 1}},
    )
    texts = finished["rewrite"].artifact.manifest.model["texts"]
    counts = {m.name: m.value for m in finished["augment"].artifact.manifest.metrics}
    assert counts["written"] == texts > 5
    assert finished["distill"].artifact.kind is Kind.CHECKPOINT
