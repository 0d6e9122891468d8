"""The mean of fine-tunes of one start is that of their weights; others are refused."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from rarefy.pipeline import tasks
from rarefy.pipeline.measure.predictions.predict import checkpoint_answers
from rarefy.pipeline.model import checkpoint
from rarefy.pipeline.model.quantization import plan as quantization
from rarefy.pipeline.model.quantization.plan import Plan
from rarefy.pipeline.stage import StageCheck
from rarefy.pipeline.store.artifact import Kind, Metric
from rarefy.pipeline.tasks import unlabelled
from rarefy.pipeline.terms.errors import ModelError, RecipeError
from rarefy.pipeline.terms.progress import silent
from rarefy.pipeline.terms.recipe_parts import THRESHOLDS
from rarefy.stages.adapt import soups
from rarefy.stages.adapt.merge import Merge
from rarefy.stages.distill import Distill
from tests import multi_label
from tests.conftest import execute
from tests.models import artifact_of
from tests.searches import SEARCH, write_search

WEIGHTS = "model.safetensors"


def change(source, folder, change):
    """Copy a checkpoint, and change each of its tensors of fractions: ``change(name, tensor)``."""
    shutil.copytree(source.directory, folder)
    tensors = load_file(folder / WEIGHTS)
    changed = {name: change(name, tensor).contiguous() for name, tensor in tensors.items()}
    save_file(changed, folder / WEIGHTS, metadata={"format": "pt"})
    return artifact_of(folder, Kind.CHECKPOINT)


@pytest.fixture
def noisy(tuned, tmp_path):
    """Return ``make(name, size)``: the fine-tuned model with noise in its weights."""

    def make(name, size=0.002):
        generator = torch.Generator().manual_seed(len(name))

        def shake(_, tensor):
            return tensor + size * torch.randn(tensor.shape, generator=generator)

        return change(tuned, tmp_path / name, shake)

    return make


@pytest.fixture
def merge(make_context):
    """Return ``run(stage, name=artifact, …)``: the context and the draft of a merge."""

    def run(stage, changes=None, **artifacts):
        context = replace(make_context(rows=64), artifacts=artifacts, **(changes or {}))
        return context, stage.run(context, None)

    return run


def test_the_result_is_the_mean_of_all_weights(tuned, noisy, merge):
    members = {"one": noisy("one"), "second": noisy("second"), "the-third": noisy("the-third")}
    context, draft = merge(Merge(models=tuple(members), method="soup"), **members)
    weights = [load_file(member.directory / WEIGHTS) for member in members.values()]
    for name, tensor in load_file(context.output / WEIGHTS).items():
        mean = torch.stack([member[name] for member in weights]).mean(0)
        torch.testing.assert_close(tensor, mean)
    assert draft.roles == {file.path: file.role for file in tuned.manifest.files}
    assert draft.model["merged"] == list(members)
    assert draft.model["labels"] == ["negative", "positive"]


def test_the_result_teaches_a_student(noisy, merge, make_context):
    context, _ = merge(Merge(models=("a", "bc")), a=noisy("a"), bc=noisy("bc"))
    merged = context.output.rename(context.output.with_name("merged"))
    student = make_context(rows=32)
    draft = Distill(keep_layers=1, epochs=1).run(student, artifact_of(merged, Kind.CHECKPOINT))
    assert draft.model["layers"] == 1


def test_a_greedy_soup_leaves_out_what_harms(tuned, noisy, tmp_path, merge):
    def always_answer_the_first(name, tensor):
        return tensor + torch.tensor([90.0, 0.0]) if name == "classifier.bias" else tensor

    broken = change(tuned, tmp_path / "broken", always_answer_the_first)
    members = {"broken": broken, "tuned": tuned, "again": noisy("again", 1e-4)}
    reports = []
    progress = {"progress": lambda *report: reports.append(report)}
    context, draft = merge(Merge(models=tuple(members)), progress, **members)
    assert "broken" not in draft.model["merged"]
    assert draft.model["merged"]
    (score,) = draft.metrics
    assert reports == [(number, 5, "scoring means on dev") for number in range(5)]
    tokenizer, dev = checkpoint.load_tokenizer(context.output), context.split("dev")
    batch = tokenizer(list(dev.texts), padding=True, return_tensors="pt")
    with torch.no_grad():
        answers = checkpoint.load(context.output)(**batch).logits.argmax(1)
    share = (answers == torch.tensor(dev.labels)).float().mean().item()
    assert (score.name, score.split, score.n) == ("accuracy", "dev", len(dev))
    assert score.value == pytest.approx(share, abs=1e-6)


def scores_by_name(values):
    """Return a function of folders: the score by the initials of their models, None without."""

    def score(folders):
        value = values.get("".join(folder.name for folder in folders))
        return None if value is None else Metric(name="accuracy", split="dev", value=value)

    return score


def test_greedy_begins_with_the_best_and_adds_what_does_not_harm(tmp_path):
    """A model without a score, as of equal answers, is left out, and one that ties is taken."""
    paths = {name: tmp_path / name for name in "abcd"}
    values = {"a": 0.7, "b": 0.8, "c": 0.6, "ba": 0.8, "bac": 0.75}
    chosen, score = soups.greedy(paths, scores_by_name(values))
    assert (chosen, score.value) == (["b", "a"], 0.8)


def test_greedy_needs_a_score(tmp_path):
    with pytest.raises(ModelError, match=r"^merge.models: none has a score on dev; write method"):
        soups.greedy({"a": tmp_path / "a", "b": tmp_path / "b"}, scores_by_name({}))


@pytest.mark.parametrize(
    "turned", ["classifier.weight", "bert.encoder.layer.0.output.dense.weight"]
)
def test_models_of_two_starts_are_refused(tuned, tmp_path, merge, turned):
    """A head that was drawn twice, or a layer that was pruned to other units."""

    def turn(name, tensor):
        return tensor.roll(1, -1) if name == turned else tensor

    other = change(tuned, tmp_path / "other", turn)
    message = rf"^merge.models: 'b' and 'a' do not descend .* \(the cosine of their {turned} is"
    with pytest.raises(ModelError, match=message):
        merge(Merge(models=("a", "b")), a=tuned, b=other)


def with_config(source, folder, **values):
    shutil.copytree(source.directory, folder)
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | values))
    return artifact_of(folder, Kind.CHECKPOINT)


@pytest.mark.parametrize(
    ("values", "difference"),
    [
        ({"id2label": {"0": "positive", "1": "negative"}}, "labels"),
        ({"architectures": ["BertForTokenClassification"]}, "architecture"),
        ({"num_attention_heads": 1}, "num_attention_heads"),
        ({"vocab_size": 7}, "vocabulary"),
    ],
)
def test_models_with_another_config_are_refused(tuned, tmp_path, merge, values, difference):
    other = with_config(tuned, tmp_path / "other", **values)
    with pytest.raises(ModelError, match=rf"^merge.models: 'b' and 'a' differ in {difference}; "):
        merge(Merge(models=("a", "b")), a=tuned, b=other)


def test_thresholds_may_differ(tuned, tmp_path):
    other = with_config(tuned, tmp_path / "other", thresholds={"positive": 0.4})
    folders = {"a": tuned.directory, "b": other.directory}
    soups.check_alike(folders, frozenset({"thresholds"}))
    with pytest.raises(ModelError, match="differ in thresholds"):
        soups.check_alike(folders)


def test_another_vocabulary_or_shape_is_refused(tuned, tmp_path):
    def cut(name, tensor):
        return tensor[:-1] if name == "classifier.bias" else tensor

    narrow = change(tuned, tmp_path / "narrow", cut)
    with pytest.raises(ModelError, match=r"differ in the shape of classifier\.bias"):
        soups.check_alike({"a": tuned.directory, "b": narrow.directory})
    worded = with_config(tuned, tmp_path / "worded")
    path = worded.directory / "tokenizer.json"
    path.write_text(path.read_text().replace("film", "flim"))
    with pytest.raises(ModelError, match="differ in vocabulary"):
        soups.check_alike({"a": tuned.directory, "b": worded.directory})


def test_a_quantization_plan_has_no_mean(tuned, noisy, merge):
    planned = noisy("planned")
    quantization.write(Plan(linears={}), planned.directory)
    with pytest.raises(ModelError, match=r"^merge.models: 'b' has a quantization plan"):
        merge(Merge(models=("a", "b")), a=tuned, b=planned)


def test_one_tensor_of_each_model_is_in_memory_at_a_time(noisy, tmp_path, monkeypatch):
    """The bytes of the result are in the order of the file, so it is written as it is read."""
    folders = [noisy(name).directory for name in ("a", "bc")]
    soups.average(folders, tmp_path / "mean")
    header = soups.Header.read(tmp_path / "mean")
    assert header == soups.Header.read(folders[0] / WEIGHTS)
    assert (tmp_path / "mean").stat().st_size == (folders[0] / WEIGHTS).stat().st_size


FINETUNES = (
    {"finetune": {"epochs": 1}, "as": "one"},
    {"finetune": {"epochs": 1}, "as": "two", "from": "model", "seed": 1},
)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"models": ["one"]}, "'models' must name at least two different stages"),
        ({"models": ["one", "one"]}, "'models' must name at least two different stages"),
        ({"method": "soup"}, "'method' needs 'models'"),
        ({"models": ["one", "to"]}, "models:to: 'to' is not an earlier stage"),
        ({"models": ["one", "model"]}, "the recipe's model has no head for the task"),
        (
            {"models": ["one", "student"]},
            "merge.models: 'student' and 'one' differ in architecture",
        ),
    ],
)
def test_a_recipe_that_cannot_work_is_refused_at_its_line(empty_workshop, parameters, message):
    student = {"distill": {"keep_layers": 1}, "as": "student"}
    with pytest.raises(RecipeError, match=rf"trial.yaml:\d+: stages\[3\].merge.*{message}"):
        empty_workshop.open(*FINETUNES, student, {"merge": parameters}).plan.steps()


def test_a_merge_depends_on_its_models_alone(empty_workshop):
    """Neither on the input, which is the last of them, nor on the recipe's seed."""
    plan = empty_workshop.open(*FINETUNES, {"merge": {"models": ["one", "two"]}}).plan
    assert plan.parents("merge") == [("models:one", "one"), ("models:two", "two")]
    assert plan.reads(Merge(models=("one", "two"))) == ["dev"]
    assert plan.reads(Merge(models=("one", "two"), method="soup")) == []
    assert plan.seed(Merge(models=("one", "two"))) == 0


def test_a_search_cannot_choose_greedily(empty_workshop):
    """Its queries have no labels but in eval, which searches a corpus."""
    write_search(empty_workshop.write_rows)
    students = []
    for name, seed in (("one", 0), ("two", 1)):
        distill = {"distill": {"keep_layers": 1, "epochs": 1}, "as": name, "from": "model"}
        students.append({**distill, "seed": seed})
    search = {"task": "sentence-embeddings", "data": SEARCH}
    merge = {"models": ["one", "two"]}
    with pytest.raises(RecipeError, match=r"method: greedy chooses on labelled rows; write soup"):
        empty_workshop.open(*students, {"merge": merge}, **search).plan.steps()
    empty_workshop.open(*students, {"merge": {**merge, "method": "soup"}}, **search).plan.steps()


def test_several_labels_choose_greedily_with_the_thresholds_of_each_mean(
    empty_workshop, make_context, tmp_path
):
    empty_workshop.write_rows("train.jsonl", multi_label.rows(48))
    empty_workshop.write_rows("eval.jsonl", multi_label.rows(16, seed=1))
    data = {"train": "train.jsonl", "eval": "eval.jsonl", "label": "labels", "dev": "25 %"}
    run = empty_workshop.open(FINETUNES[0], task=multi_label.TASK, data=data)
    tuned = execute(run)["one"].artifact
    task, split = run.plan.task, run.plan.splits["dev"]
    members = {}
    for name in ("a", "b"):
        far_off = {THRESHOLDS: dict.fromkeys(task.labels, 0.999)}
        members[name] = with_config(tuned, tmp_path / name, **far_off)
    context = replace(make_context(task=task), artifacts=members, splits=run.plan.splits)
    draft = Merge(models=tuple(members)).run(context, None)
    answers = checkpoint_answers(tuned.directory, task, split, silent)
    truth = task.scorer.truth(split)
    micro_f1 = task.scorer.formulas(truth)["micro_f1"](answers, truth)
    (value,) = micro_f1(np.ones((1, len(split))))
    (score,) = draft.metrics
    assert value > 0
    assert (score.name, score.value) == ("micro_f1", pytest.approx(float(value), abs=1e-6))


def test_answers_of_the_model_cannot_choose_greedily():
    task = unlabelled.without_labels(tasks.find("text-classification"))
    with pytest.raises(RecipeError, match=r"^method: greedy chooses on labelled rows; write soup"):
        Merge(models=("one", "two")).check(StageCheck(task, 32))
