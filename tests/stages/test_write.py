"""A language model writes new texts like the training rows."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from pipeline.stage.alike import normalized
from pipeline.store.artifact import Kind
from pipeline.terms.errors import ModelError, RecipeError
from stages import causal_lm, transfer_set
from stages.write import PROMPT, Write
from tests.models import artifact_of
from tests.stages.language_models import write_language_model

QUICK = {"texts": 30, "together": 32, "tokens": 12}


@pytest.fixture
def language_model(tmp_path):
    write_language_model(tmp_path / "lm")
    return "lm"


def written(context):
    artifact = artifact_of(context.output, Kind.TRANSFER_SET)
    return list(transfer_set.split(artifact, context.work).texts)


def test_a_tuned_model_writes_as_many_new_texts_as_asked(tuned, make_context, language_model):
    context = make_context(rows=64)
    draft = Write(model=language_model, learning_rate=1e-2, **QUICK).run(context, tuned)
    texts = written(context)
    assert len(texts) == draft.model["texts"] == 30
    assert len({normalized(text) for text in texts}) == 30
    known = {normalized(t) for name in ("train", "dev", "eval") for t in context.split(name).texts}
    assert not known & {normalized(text) for text in texts}


def test_without_tuning_it_reads_rows_as_a_prompt(tuned, make_context, language_model, monkeypatch):
    prompts = []
    write = causal_lm.Writer.write

    def noted(self, prompt, *given, **options):
        prompts.append(prompt)
        return write(self, prompt, *given, **options)

    monkeypatch.setattr(causal_lm.Writer, "write", noted)
    context = make_context(rows=64)
    Write(model=language_model, epochs=0, examples=2, **QUICK).run(context, tuned)
    assert prompts[0].startswith(PROMPT)
    lines = prompts[0].removeprefix(PROMPT).split("\n")
    assert len(lines) == 3
    assert all(line.removeprefix("- ") in context.split("train").texts for line in lines[:2])
    assert not (context.work / "tuning").exists()


def test_a_killed_run_goes_on_after_its_last_batch(
    tiny_encoder, make_context, language_model, monkeypatch
):
    stage = Write(model=language_model, learning_rate=1e-2, **QUICK | {"together": 8})
    write, batches, dies_at = causal_lm.Writer.write, [], None

    def counted(self, *given, **options):
        if len(batches) == dies_at:
            raise KeyboardInterrupt
        batches.append(write(self, *given, **options))
        return batches[-1]

    monkeypatch.setattr(causal_lm.Writer, "write", counted)
    whole = make_context(rows=64)
    stage.run(whole, tiny_encoder)
    every = batches.copy()
    assert any(every[2:])
    notes = []
    context = make_context(
        rows=64, work=whole.base / "killed", progress=lambda *told: notes.append(told[2])
    )
    context.work.mkdir()
    batches.clear()
    dies_at = 2
    with pytest.raises(KeyboardInterrupt):
        stage.run(context, tiny_encoder)
    assert any(note.startswith("loss") for note in notes)
    assert len((context.work / "written.jsonl").read_text().splitlines()) == 2
    batches.clear()
    notes.clear()
    dies_at = None
    stage.run(context, tiny_encoder)
    assert batches == every[2:], "those that were written down are not written again"
    assert "writing" in notes
    assert not any(note.startswith("loss") for note in notes), "nothing is trained again"
    assert written(context) == written(whole)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"examples": 9}, "'examples' are of a prompt: give 'epochs: 0'"),
        ({"epochs": 0, "learning_rate": 1e-3}, "'learning_rate' is of the tuning, which"),
        ({"epochs": 0, "batch_size": 4}, "'batch_size' is of the tuning, which"),
    ],
)
def test_tuning_needs_no_prompt_and_a_prompt_no_tuning(given, message):
    with pytest.raises(ValidationError, match=message):
        Write(model="lm", **given)
    stage = Write(model="lm", epochs=0, examples=9)
    assert Write.model_validate(stage.model_dump(mode="json")) == stage


def test_pairs_of_texts_are_refused_before_anything_runs(workshop):
    data = {"train": "train.jsonl", "eval": "eval.jsonl", "text": ["text", "label"]}
    stages = ["finetune", {"write": {"model": "lm"}}]
    with pytest.raises(RecipeError, match=r"trial.yaml:\d+: .*write: the rows are pairs of texts"):
        workshop.open(*stages, data=data).plan.steps()


def test_the_models_files_belong_to_the_fingerprint(language_model, tmp_path):
    names = {path.name for path in Write(model=language_model).files(Path(tmp_path))}
    assert {"config.json", "model.safetensors"} <= names


def test_what_it_wrote_joins_the_texts_that_augment_makes(workshop):
    write_language_model(workshop.folder / "lm")
    finished = workshop.run(
        "quick:Head",
        {"write": {"model": "lm", "epochs": 0, **QUICK}},
        {"augment": {"transfer": "write"}},
        {"distill": {"layers": 1, "transfer": "augment", "epochs": 1}},
    )
    counts = {m.name: m.value for m in finished["augment"].artifact.manifest.metrics}
    assert counts["written"] == finished["write"].artifact.manifest.model["texts"] > 5
    assert finished["distill"].artifact.kind is Kind.CHECKPOINT


def test_a_line_that_was_torn_is_written_again(tuned, make_context, language_model):
    stage = Write(model=language_model, epochs=0, **QUICK | {"together": 8})
    context = make_context(rows=64)
    stage.run(context, tuned)
    whole, kept = written(context), context.work / "written.jsonl"
    kept.write_bytes(kept.read_bytes()[:-9])
    again = make_context(rows=64)
    stage.run(again, tuned)
    assert written(again) == whole


def test_more_tokens_than_the_model_can_read_are_refused_before_it_is_tuned(
    tuned, make_context, tmp_path
):
    write_language_model(tmp_path / "short", max_position_embeddings=16)
    context = make_context(rows=64)
    with pytest.raises(ModelError, match=r"write.tokens: lower it: .* more than the 16 that the"):
        Write(model="short", **QUICK | {"tokens": 16}).run(context, tuned)
    assert not (context.work / "tuning").exists()
