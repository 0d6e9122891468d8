import dataclasses
import json
import shutil
from types import SimpleNamespace

import numpy as np
import onnx
import pytest

from rarefy.pipeline.data.split import Split
from rarefy.pipeline.measure.latency import session as latency
from rarefy.pipeline.measure.memory import cold_start
from rarefy.pipeline.model.runtime import openvino
from rarefy.pipeline.report import facts
from rarefy.pipeline.stage import Requirements
from rarefy.pipeline.store.artifact import Kind
from rarefy.pipeline.tasks.embeddings.task import SENTENCE_EMBEDDINGS
from rarefy.pipeline.terms.budget import Budget
from rarefy.pipeline.terms.errors import ModelError, RecipeError
from rarefy.pipeline.terms.progress import silent
from rarefy.pipeline.terms.recipe_parts import Target
from rarefy.pipeline.verdict.findings import judge_one
from rarefy.pipeline.verdict.judge import judge
from rarefy.stages.common.progress import Steps
from rarefy.stages.export import Export
from rarefy.stages.validate import Validate
from rarefy.stages.validate.stage import Session, first_of_other_providers
from tests.models import LABELS, sentences
from tests.searches import search
from tests.stages.chains import QUICK, eval_split, made_artifact, read_measurements


@pytest.mark.slow
def test_the_bundle_is_measured_beside_what_it_came_from(context, chain):
    notes = []
    context.progress = lambda done, total, note: notes.append((done / total, note))
    draft = Validate(**QUICK | {"memory": True, "cold_starts": 2}).run(context, chain["export"])
    found = read_measurements(context)
    assert list(found.models) == ["candidate", "finetune", "distill"]  # not the unrelated model
    assert found.aliases == {"quantize": "distill"}  # the same weights are built once
    assert found.truth == context.splits["eval"].labels
    teacher, student = found.models["finetune"], found.models["distill"]
    assert teacher.size > student.size > 0
    assert teacher.parameters > student.parameters == found.models["candidate"].parameters
    assert all(model.memory > 0 for model in found.models.values())
    assert all(model.device_memory is None for model in found.models.values())  # on a CPU
    starts = [model.cold_start for model in found.models.values()]
    assert all(len(times) == 2 and min(times) > 0 for times in starts)
    assert set(found.latency["cpu"].samples) == set(found.models)
    # The student's fp32 export answers like the deployed bundle of the same weights.
    ours, theirs = (np.array(found.models[n].answers) for n in ("candidate", "distill"))
    assert np.abs(ours - theirs).max() < 1e-4
    budgets = [
        Budget(metric="parameters", min_shrink=1.1, against="finetune"),
        Budget(metric="agreement", min=0),
        # Two processes on a busy machine say nothing of the time.
        Budget(metric="latency_p50", min_speedup=0.01, against="quantize", level="warn"),
    ]
    decisive = [budget for budget in budgets if budget.level == "error"]
    assert {judge_one(budget, None, found).outcome for budget in decisive} == {"pass"}
    assert judge(budgets, context.targets, found).outcome == "inconclusive", "nobody was trained"
    names = {metric.name for metric in draft.metrics}
    assert {"accuracy", "macro_f1", "ece", "size", "memory", "latency_p50.cpu"} <= names
    shares = [share for share, _ in notes]
    assert shares == sorted(shares)
    assert 0 <= shares[0] <= shares[-1] <= 1


@pytest.mark.slow
def test_the_first_reference_is_timed_in_openvino_too_and_budgets_mean_the_same(context, chain):
    pytest.importorskip("openvino")
    Validate(**QUICK | {"fastest_float": True}).run(context, chain["export"])
    found = read_measurements(context)
    assert list(found.models) == ["candidate", "finetune", "distill", "openvino"]
    assert found.references[0] == "finetune"
    fastest, teacher = found.models["openvino"], found.models["finetune"]
    assert fastest.precision == openvino.default_precision()
    assert teacher.precision is None, "ONNX Runtime computes in what the graph says"
    assert fastest.digest == teacher.digest
    tolerance = 1e-4 if fastest.precision == "fp32" else 0.05
    np.testing.assert_allclose(fastest.answers, teacher.answers, atol=tolerance)
    assert set(found.latency["cpu"].samples) == set(found.models)
    said = facts.float_speedup(found, "cpu")
    assert "compared with the fastest floating-point configuration of finetune" in said


@pytest.mark.slow
def test_a_float_form_that_openvino_cannot_have_is_left_out(
    context, chain, monkeypatch, caplog, tmp_path, known_times
):
    """Nothing is judged by it, so that it must not cost the verdict."""
    from rarefy.exporters import build

    real = build.build

    def refuse(*arguments, **options):
        if options["target_provider"] == "openvino":
            raise ModelError("the answers differ by 0.5")
        return real(*arguments, **options)

    monkeypatch.setattr(context, "work", tmp_path)  # without an earlier export
    monkeypatch.setattr(build, "build", refuse)
    monkeypatch.setattr(openvino, "installed", lambda: True)
    Validate(**QUICK | {"fastest_float": True}, models=("finetune",)).run(context, chain["export"])
    found = read_measurements(context)
    assert list(found.models) == list(found.latency["cpu"].samples) == ["candidate", "finetune"]
    assert "by 0.5; fastest_float: false does not try it" in caplog.text
    assert facts.float_speedup(found, "cpu") is None


@pytest.mark.slow
def test_a_target_of_openvinos_has_its_references_in_onnx_runtime(context, chain, tmp_path):
    pytest.importorskip("openvino")
    target = Target(name="ov", provider="openvino")
    context.requirements = Requirements((target,))
    exported = dataclasses.replace(context, output=tmp_path, splits={"dev": eval_split("dev")})
    built = Export().run(exported, chain["distill"])
    bundle = made_artifact(tmp_path, Kind.BUNDLE, [chain["distill"]])
    assert "model.onnx" in built.roles
    measured = {"fastest_float": True, "memory": True, "cold_starts": 2}
    Validate(**QUICK | measured, models=("finetune",)).run(context, bundle)
    found = read_measurements(context)
    kinds = {name: model.precision is not None for name, model in found.models.items()}
    assert kinds == {"candidate": True, "finetune": False, "openvino": True}
    assert found.latency["ov"].provider == "openvino"
    assert found.latency["ov"].device == {}
    assert all(model.memory > 0 for model in found.models.values())
    assert all(len(model.cold_start) == 2 for model in found.models.values())


def test_operators_of_onnx_runtimes_own_are_refused_before_anything_is_measured(
    context, chain, tmp_path
):
    pytest.importorskip("openvino")
    bundle = shutil.copytree(chain["export"].directory, tmp_path / "bundle")
    graph = onnx.load(bundle / "model.onnx")
    gelu = next(node for node in graph.graph.node if node.op_type == "Gelu")
    gelu.domain = "com.microsoft"
    onnx.save(graph, bundle / "model.onnx")
    context.requirements = Requirements((Target(), Target(name="ov", provider="openvino")))
    with pytest.raises(ModelError, match=r"com\.microsoft.*write export: \{products: qdq\}"):
        Validate(**QUICK).run(context, dataclasses.replace(chain["export"], directory=bundle))


@pytest.mark.slow
@pytest.mark.parametrize("throttled", [None, "calibration work took 1.7 times as long at the end"])
def test_a_disturbed_measurement_does_not_last(context, chain, known_times, monkeypatch, throttled):
    """If it were kept, every run would find it again and never reach a verdict."""
    take = latency.measure

    def disturbed(*arguments, **options):
        return take(*arguments, **options).model_copy(update={"throttled": throttled})

    monkeypatch.setattr(latency, "measure", disturbed)
    draft = Validate(**QUICK, models=()).run(context, chain["export"])
    assert draft.lasts is (throttled is None)


def test_a_search_is_timed_and_started_with_its_queries(context, monkeypatch):
    """There are many more documents, and they are longer; nobody waits for them."""
    asked = []

    def measure(_bundles, texts, pairs, **_options):
        asked.append((sorted(texts), pairs))
        return {}

    for module in (latency, cold_start):
        monkeypatch.setattr(module, "measure", measure)
    task = SENTENCE_EMBEDDINGS.bind((), 8, ("query", "positive"))
    context = dataclasses.replace(context, task=task, splits={"eval": search()})
    session = Session(Validate(), context, Steps(silent, 2))
    session.time({}, Target(), SimpleNamespace(references=[], models={}))
    session.start({})
    assert asked == [(["dull", "warm"], None)] * 2


def test_answers_are_taken_once_a_provider():
    targets = (
        Target(),
        Target(name="two", threads=2),
        Target(name="gpu", provider="cuda"),
        Target(name="engine", provider="tensorrt"),
        Target(name="gpu-2", provider="cuda", threads=2),
    )
    assert [target.name for target in first_of_other_providers(targets)] == ["gpu", "engine"]


@pytest.mark.slow
def test_every_row_is_sliced_and_flips_are_shown_both_ways(context, chain, known_times):
    users = [f"user {row // 2}" for row in range(60)]
    split = dataclasses.replace(context.splits["eval"], groups=users)
    context.splits["eval"] = split
    split.columns["source"] = ["web"] * 40 + ["book"] * 20
    Validate(**QUICK, models=("finetune",)).run(context, chain["export"])
    found = read_measurements(context)
    assert list(found.slices) == ["length", "label", "source"]
    assert found.slices["label"] == [LABELS[label] for label in split.labels]
    assert found.slices["source"] == split.columns["source"]
    assert found.groups == [row // 2 for row in range(60)]
    for text, part in zip(split.texts, found.slices["length"], strict=True):
        low, high = part.removesuffix(" tokens").split("–")
        assert int(low) <= len(text.split()) + 2 <= int(high)  # [CLS] and [SEP]
    for sample in found.samples:
        right = {who: sample[who] == sample["truth"] for who in ("reference", "candidate")}
        assert right["candidate"] == (sample["kind"] == "won")
        assert right["reference"] or sample["kind"] != "lost"
    ours, theirs = (np.array(found.models[n].answers).argmax(1) for n in ("candidate", "finetune"))
    lost = int(np.sum((theirs == found.truth) & (ours != found.truth)))
    assert sum(sample["kind"] == "lost" for sample in found.samples) == min(lost, 12)


@pytest.mark.slow
def test_no_row_is_kept_word_for_word_if_not_wanted(context, chain, known_times):
    Validate(**QUICK, models=("finetune",), show_texts=False).run(context, chain["export"])
    written = (context.output / "measurements.json").read_text()
    assert not [text for text in context.splits["eval"].texts if text in written]


@pytest.mark.slow
def test_a_model_that_answers_nan_fails_the_verdict(context, chain, tmp_path, known_times):
    """As after training that diverged."""
    from onnx import helper, load, numpy_helper, save

    broken = tmp_path / "broken"
    shutil.copytree(chain["export"].directory, broken)
    model = load(broken / "model.onnx")
    last = next(node for node in model.graph.node if "logits" in node.output)
    last.output[list(last.output).index("logits")] = "finite"
    model.graph.initializer.append(numpy_helper.from_array(np.float32(np.nan), "nan"))
    model.graph.node.append(helper.make_node("Mul", ["finite", "nan"], ["logits"]))
    save(model, broken / "model.onnx")
    draft = Validate(**QUICK, models=()).run(context, made_artifact(broken, Kind.BUNDLE))
    metrics = {metric.name: metric.value for metric in draft.metrics}
    assert metrics["accuracy"] == 0
    assert metrics["not_a_number"] == 1
    judged = judge([], context.targets, read_measurements(context))
    assert judged.outcome == "fail"
    assert "NaN" in judged.budgets[0].reason
    manifest = chain["export"].manifest.model_copy(update={"metrics": draft.metrics})
    json.loads(manifest.canonical())  # no NaN reaches a manifest


@pytest.mark.slow
def test_throughput_is_measured_if_a_budget_or_the_stage_asks_for_it(context, chain, known_times):
    """Beside the candidate only what a budget compares it with: a teacher takes long."""
    budgets = (Budget(metric="throughput", min_speedup=0.01, against="distill"),)
    target = Target(workers=2, batch_size=4)
    context.requirements = Requirements((target,), budgets)
    draft = Validate(**QUICK).run(context, chain["export"])
    found = read_measurements(context)
    counted = found.throughput["cpu"]
    assert list(counted.samples) == ["candidate", "distill"]
    assert (counted.workers, counted.batch) == (2, {"candidate": 4, "distill": 4})
    assert "throughput.cpu" in {metric.name for metric in draft.metrics}
    assert judge_one(budgets[0], "cpu", found).value > 0
    context.requirements = Requirements((target,))
    Validate(**QUICK, throughput=True).run(context, chain["export"])
    assert list(read_measurements(context).throughput["cpu"].samples) == ["candidate"]


def test_throughput_is_not_measured_if_nobody_asks():
    elsewhere = Budget(metric="throughput", min=1, target="other")
    of_time = Budget(metric="latency_p50", max="1 s")
    requirements = Requirements((Target(),), (elsewhere, of_time))
    assert not Validate().measures_throughput(Target(), requirements)
    assert Validate().measures_throughput(Target(name="other"), requirements)
    assert Validate(throughput=True).measures_throughput(Target(), requirements)


def test_named_models_are_checked_with_the_recipe():
    assert Validate(models=("finetune",)).references() == {"reference:finetune": "finetune"}
    assert Validate().references() == {}
    assert Validate(probe=True).references() == {"probe": "model"}


def test_another_machine_is_another_result(monkeypatch):
    from rarefy.pipeline.measure import machine

    here = Validate().environment(Requirements(targets=(Target(),)))
    assert here == Validate().environment(Requirements(targets=(Target(),)))
    assert here != Validate().environment(Requirements(targets=(Target(threads=2),)))
    facts = machine.fingerprint() | {"cpu": "another"}
    monkeypatch.setattr(machine, "fingerprint", lambda: facts)
    assert Validate().environment(Requirements(targets=(Target(),))) != here


@pytest.mark.slow
@pytest.mark.parametrize(("linear", "outcome"), [(True, "fail"), ("warn", "pass")])
def test_linear_models_stand_beside_the_bundle_if_asked_for(
    context, chain, tiny_encoder, known_times, linear, outcome
):
    texts, labels = sentences(200, seed=3)
    train = Split("train", "train.jsonl", "0" * 64, texts, None, labels)
    splits = context.splits | {"train": train, "dev": eval_split("dev")}
    artifacts = chain | {"model": tiny_encoder}
    context = dataclasses.replace(context, splits=splits, artifacts=artifacts)
    Validate(**QUICK, linear=linear, probe=True).run(context, chain["export"])
    found = read_measurements(context)
    assert found.linear is not None
    assert found.probe is not None
    assert np.shape(found.probe.answers) == (len(found.truth), 2)
    assert found.score("accuracy", "candidate").value < 0.7  # nobody trained it
    right = found.scored_by.scorer.correct(found.linear_table(), found.truth)
    assert right.mean() > 0.9
    judged = judge([], context.targets, found)
    assert judged.outcome == outcome
    assert judged.budgets[0].outcome == "fail"
    assert "the linear model is better" in judged.budgets[0].reason


def test_an_answer_that_is_no_label_has_no_linear_model(workshop):
    words = {"task": "token-classification"}
    stages = [{"finetune": {"epochs": 1}}, "export", {"validate": {"linear": True}}]
    with pytest.raises(RecipeError, match=r"trial.yaml:\d+: .*`linear: true` is not supported for"):
        workshop.open(*stages, **words).plan.steps()
