"""Teachers answer once, and students learn from what was kept."""

from __future__ import annotations

from collections import namedtuple

import numpy as np
import pytest
import torch

from rarefy.pipeline.data.split import Split
from rarefy.pipeline.model import checkpoint
from rarefy.pipeline.store.artifact import Kind
from rarefy.pipeline.terms.errors import ModelError, RecipeError
from rarefy.stages.distill import Distill
from rarefy.stages.finetune import Finetune
from rarefy.stages.label import Label, shards
from rarefy.stages.label import stage as module
from rarefy.stages.quantization import bundles
from rarefy.stages.transfer import files as transfer_set
from tests.models import artifact_of, sentences
from tests.searches import PAIRS, write_pairs

Made = namedtuple("Made", "artifact context draft")


def logits(artifact, texts):
    network = checkpoint.load(artifact.directory)
    tokenizer = checkpoint.load_tokenizer(artifact.directory)
    with torch.no_grad():
        found = [network(**tokenizer(text, return_tensors="pt")).logits for text in texts]
    return torch.cat(found)


def answers(artifact):
    return {name: found.float() for name, found in transfer_set.answers(artifact).items()}


def texts_of(made):
    return list(transfer_set.split(made.artifact, made.context.work).texts)


@pytest.fixture
def texts(make_context, tmp_path):
    """A transfer set of new sentences."""
    directory = tmp_path / "texts"
    directory.mkdir()
    transfer_set.write(directory, ((text, None) for text in sentences(60, seed=9)[0]))
    return artifact_of(directory, Kind.TRANSFER_SET)


@pytest.fixture
def label(make_context, texts, tmp_path):
    def run(model, rows=12, name="label", artifacts=None, **parameters):
        context = make_context(
            rows=rows,
            artifacts={"texts": texts} | (artifacts or {}),
            work=tmp_path / name / "work",
            output=tmp_path / name / "output",
        )
        context.output.mkdir(parents=True)
        draft = Label(**{"transfer": "texts"} | parameters).run(context, model)
        return Made(artifact_of(context.output, Kind.TRANSFER_SET), context, draft)

    return run


def test_the_answers_are_the_teachers(label, tuned):
    made = label(tuned)
    found = answers(made.artifact)
    rows = {name: made.context.split(name).texts for name in ("train", "dev")}
    rows["transfer"] = texts_of(made)
    assert found.keys() == rows.keys()
    for name, expected in rows.items():
        assert torch.allclose(found[name], logits(tuned, expected), atol=0.05)
    assert made.draft.model["texts"] == 60


def test_several_teachers_answer_with_their_mean(label, tuned, base):
    found = answers(label(tuned, teachers=("base",), artifacts={"base": base}).artifact)
    made = label(tuned, name="alone")
    mean = (logits(tuned, texts_of(made)) + logits(base, texts_of(made))) / 2
    assert torch.allclose(found["transfer"], mean, atol=0.05)


@pytest.mark.slow
def test_a_student_learns_from_kept_answers_without_its_teacher(label, tuned, make_context):
    made = label(tuned, rows=200)
    train = made.context.split("train")
    blank = Split("train", train.reference, train.sha256, train.texts, None, train.labels)
    context = make_context(splits={"train": blank}, artifacts={"label": made.artifact})
    stage = Distill(keep_layers=1, transfer="label", learning_rate=2e-3, epochs=6, batch_size=16)
    draft = stage.run(context, tuned)
    assert {metric.name: metric.value for metric in draft.metrics}["rows"] == 260
    assert not (context.work / "teacher").exists()
    new, _ = sentences(100, seed=5)
    own = logits(artifact_of(context.output, Kind.CHECKPOINT), new)
    assert (own.argmax(-1) == logits(tuned, new).argmax(-1)).float().mean() >= 0.95


def test_answers_to_other_rows_are_refused(label, tuned, make_context):
    made = label(tuned)
    context = make_context(rows=13, artifacts={"label": made.artifact})
    with pytest.raises(ModelError, match="72 predictions for the 73 texts of the student"):
        Distill(keep_layers=1, transfer="label").run(context, tuned)


@pytest.mark.slow
def test_one_labelling_serves_several_students(workshop):
    students = [
        {"distill": {"keep_layers": layers, "epochs": 1, "transfer": "label"}, "from": "head"}
        for layers in (1, 2)
    ]
    stages = ["quick:Head", "augment", {"label": {"transfer": "augment"}}, *students]
    finished = workshop.run(*stages)
    assert [step.cached for step in workshop.run(*stages).values()] == [True] * 6
    labelled = finished["label"].artifact
    for name in ("distill", "distill-2"):
        parents = {p.role: p.digest for p in finished[name].artifact.manifest.parents}
        assert parents["transfer"] == labelled.digest
    rows = {metric.name: metric.value for metric in labelled.manifest.metrics}["rows"]
    made = finished["augment"].artifact.manifest.model["texts"]
    assert rows == made + sum(record.rows for record in labelled.manifest.data)


def test_a_teacher_trained_less_is_another_teacher(label, tuned, make_context, tiny_encoder):
    poor = make_context(rows=8)
    Finetune(learning_rate=1e-6, epochs=1).run(poor, tiny_encoder)
    other = label(artifact_of(poor.output, Kind.CHECKPOINT), name="poor")
    mine = answers(label(tuned).artifact)["transfer"]
    assert not torch.allclose(answers(other.artifact)["transfer"], mine, atol=0.5)


@pytest.mark.slow
def test_the_int8_export_answers_almost_as_the_teacher_in_several_processes(
    label, tuned, monkeypatch
):
    monkeypatch.setattr(shards, "SHARD", 25)
    exact = answers(label(tuned, name="exact", engine="pytorch").artifact)
    made = label(tuned, engine="int8")
    found = answers(made.artifact)
    for name, expected in exact.items():
        assert found[name].shape == expected.shape
        assert (found[name].argmax(-1) == expected.argmax(-1)).float().mean() > 0.9
    whole = {path.name for path in made.context.work.glob("*-transfer/*.npy")}
    assert whole == {"0.npy", "25.npy", "50.npy"}


@pytest.mark.slow
def test_shards_that_are_there_are_not_answered_again(label, tuned, monkeypatch):
    monkeypatch.setattr(shards, "SHARD", 25)
    made = label(tuned, engine="int8")
    kept = next(made.context.work.glob("*-transfer/25.npy"))
    np.save(kept, np.full((25, 2), 7, np.float32))
    for path in made.context.work.glob("*-transfer/50.npy"):
        path.unlink()
    made.context.output.mkdir(exist_ok=True)
    Label(transfer="texts", engine="int8").run(made.context, tuned)
    again = answers(artifact_of(made.context.output, Kind.TRANSFER_SET))["transfer"]
    assert (again[25:50] == 7).all()
    assert not (again[50:] == 7).any()


@pytest.mark.slow
def test_an_export_that_is_not_near_is_not_used(label, tuned, monkeypatch):
    monkeypatch.setattr(module, "NEAR", -1.0)
    with pytest.raises(
        ModelError,
        match=r"label.engine: the int8 export's predictions for dev "
        "differ",
    ):
        label(tuned, name="asked", engine="int8")
    monkeypatch.setattr(module, "MANY", 10)
    exact = answers(label(tuned, name="exact", engine="pytorch").artifact)["transfer"]
    for engine in ("auto", "float"):
        made = label(tuned, name=engine, engine=engine)
        assert list(made.context.work.glob("*-transfer/0.npy")), "the float export instead"
        assert torch.allclose(answers(made.artifact)["transfer"], exact, atol=0.1)


def test_texts_that_are_read_one_by_one_are_answered_by_pytorch(workshop):
    write_pairs(workshop.write_rows)
    run = workshop.open({"label": {"engine": "int8"}}, task="sentence-embeddings", data=PAIRS)
    with pytest.raises(RecipeError, match=r"engine: int8 is for labels and scores of rows, not"):
        run.plan.steps()


@pytest.mark.slow
def test_auto_falls_back_if_nothing_can_be_exported_and_says_so(label, tuned, monkeypatch, caplog):
    def fail(*_):
        raise ModelError("export: no")

    monkeypatch.setattr(bundles.Finalists, "build", fail)
    monkeypatch.setattr(module, "MANY", 10)
    assert list(label(tuned, engine="auto").context.work.glob("*-transfer/done.json"))
    assert "export: no; using the float export instead" in caplog.text
    assert "export: no; using PyTorch instead" in caplog.text
    for engine in ("int8", "float"):
        with pytest.raises(ModelError, match="export: no"):
            label(tuned, name=engine, engine=engine)


def test_embeddings_of_several_teachers_have_no_mean(workshop):
    write_pairs(workshop.write_rows)
    stages = [{"label": {"teachers": ["model"]}}]
    with pytest.raises(RecipeError, match=r"trial.yaml:\d+: .*teachers: predictions of sentence-"):
        workshop.open(*stages, task="sentence-embeddings", data=PAIRS).plan.steps()


@pytest.mark.slow
def test_an_export_that_is_not_near_is_tried_again_with_smoothing(label, tuned, monkeypatch):
    damages, plans = iter([0.5, 0.001]), []
    build = bundles.Finalists.build

    def noted(self, plan):
        plans.append(plan)
        return build(self, plan)

    monkeypatch.setattr(bundles.Finalists, "damage", lambda *_: next(damages))
    monkeypatch.setattr(bundles.Finalists, "build", noted)
    made = label(tuned, engine="int8")
    assert len(plans) == 2
    assert plans[0].integer_modules == plans[1].integer_modules
    assert [each.value for each in made.draft.metrics if each.name == "export_divergence"] == [
        0.001
    ]
    assert list(made.context.work.glob("*-transfer/0.npy"))


def test_earlier_answers_join_the_mean_and_their_teacher_is_not_asked(label, tuned, base):
    first = label(base, name="first")
    both = label(tuned, name="both", answers="first", artifacts={"first": first.artifact})
    expected = label(tuned, name="asked", teachers=("base",), artifacts={"base": base})
    found, asked = (answers(each.artifact) for each in (both, expected))
    assert found.keys() == asked.keys()
    for name in found:
        assert torch.allclose(found[name], asked[name], atol=0.01)
    stage = Label(transfer="texts", answers="first")
    assert stage.references() == {"transfer": "texts", "answers": "first"}


def test_answers_to_other_texts_are_refused(label, tuned, tmp_path, monkeypatch):
    other = tmp_path / "other"
    other.mkdir()
    transfer_set.write(other, ((text, None) for text in sentences(60, seed=10)[0]))
    of_other = {"texts": artifact_of(other, Kind.TRANSFER_SET)}
    first = label(tuned, name="first", artifacts=of_other)
    asked = []
    monkeypatch.setattr(Label, "mean_outputs", lambda *given: asked.append(given))
    with pytest.raises(ModelError, match=r"label.answers: 'first' has predictions for other texts"):
        label(tuned, name="again", answers="first", artifacts={"first": first.artifact})
    assert not asked, "it is said before a teacher is asked"


def test_answers_to_other_rows_do_not_join_the_mean(label, tuned):
    first = label(tuned, name="first", rows=16)
    with pytest.raises(
        ModelError, match=r"label.answers: 'first' has .*predictions for other rows"
    ):
        label(tuned, name="again", answers="first", artifacts={"first": first.artifact})


def test_a_stage_without_answers_is_refused_before_a_run(workshop):
    labels = {"label": {"transfer": "augment", "answers": "augment"}}
    with pytest.raises(
        RecipeError, match=r"trial.yaml:\d+: .*answers: 'augment' has no predictions"
    ):
        workshop.open("quick:Head", "augment", labels).plan.steps()


@pytest.mark.parametrize(
    ("first", "second", "message"),
    [
        ("label", {"transfer": "augment"}, "'label' has none for the texts of 'augment'; give it"),
        ({"label": {"transfer": "augment"}}, {}, "'label' has some for the texts of 'augment'"),
    ],
)
def test_answers_with_and_without_a_transfer_set_are_refused_before_a_run(
    workshop, first, second, message
):
    again = {"label": {"answers": "label", **second}, "as": "again"}
    with pytest.raises(RecipeError, match=rf"trial.yaml:\d+: .*answers: {message}"):
        workshop.open("quick:Head", "augment", first, again).plan.steps()


def test_answers_to_other_splits_are_refused_before_a_teacher_is_asked(
    label, tuned, make_context, monkeypatch, tmp_path
):
    alone = make_context(rows=12, work=tmp_path / "alone")
    Label().run(alone, tuned)
    first = {"first": artifact_of(alone.output, Kind.TRANSFER_SET)}
    monkeypatch.setattr(Label, "mean_outputs", lambda *_: pytest.fail("asked"))
    with pytest.raises(ModelError, match=r"label.answers: 'first' has predictions for other texts"):
        label(tuned, answers="first", artifacts=first)


def test_answers_without_texts_are_no_texts_to_answer(workshop):
    said = r"trial.yaml:\d+: .*transfer: 'label' has answers but no texts; name an augment stage"
    with pytest.raises(RecipeError, match=said):
        workshop.open("quick:Head", "label", {"label": {"transfer": "label"}}).plan.steps()


def test_answers_to_the_texts_of_another_stage_are_refused_before_a_run(workshop):
    stages = ["quick:Head", "augment", {"augment": {"spans": 1}, "as": "other"}]
    stages += [{"label": {"transfer": "augment"}, "as": "first"}]
    stages += [{"label": {"transfer": "first", "answers": "first"}, "as": "second"}]
    again = {"transfer": "other", "answers": "second"}
    said = r"trial.yaml:\d+: .*answers: 'second' has predictions for the texts of 'augment'"
    with pytest.raises(RecipeError, match=said):
        workshop.open(*stages, {"label": again}).plan.steps()
    for whole_or_part in ("augment", "first", "second"):
        again["transfer"] = whole_or_part
        assert workshop.open(*stages, {"label": again}).plan.steps()
