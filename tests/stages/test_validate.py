import json
import shutil

import numpy as np
import pytest

from exporters.build import build
from pipeline.measure.measurements import Measurements
from pipeline.model import checkpoint
from pipeline.stage import Asked
from pipeline.stage.data import Split
from pipeline.stage.tasks.text_classification import TextClassification
from pipeline.store.artifact import Artifact, Kind, Manifest, Parent, StageRecord, list_files
from pipeline.terms.budget import Budget
from pipeline.terms.errors import RecipeError
from pipeline.terms.vocabulary import Target
from pipeline.verdict.judge import judge
from stages import references
from stages.validate import Validate, _elsewhere
from tests.models import LABELS, sentences, write_encoder

pytestmark = pytest.mark.usefixtures("quiet_machine")

TASK = TextClassification(LABELS, 32, ("text",))
ROWS = 60
QUICK = {"processes": 2, "seconds": 0.5, "rows": 20, "memory": False, "cold_starts": 0}


def _artifact(directory, kind, parents=(), **model):
    record = StageRecord(name="test", version=1, parameters={}, fingerprint="0")
    edges = tuple(Parent(digest=parent.digest, role="input") for parent in parents)
    manifest = Manifest(
        kind=kind, files=list_files(directory), parents=edges, stage=record, model=model
    )
    return Artifact(directory, manifest, manifest.digest)


def _split(name="eval"):
    texts, labels = sentences(ROWS, seed=1)
    return Split(name, "eval.jsonl", "0" * 64, texts, None, labels)


def _checkpoint(folder, layers):
    """A random classifier, told apart from others by its layers."""
    encoder = write_encoder(folder / "encoder", layers=layers)
    model = TASK.load_model(str(encoder))
    directory = folder / "checkpoint"
    directory.mkdir()
    checkpoint.save(model.eval(), checkpoint.load_tokenizer(encoder), directory)
    return directory, sum(p.numel() for p in model.parameters())


@pytest.fixture(scope="module")
def chain(tmp_path_factory):
    """teacher -> student -> quantize (a plan beside the same weights) -> export, and a stranger."""
    folder = tmp_path_factory.mktemp("chain")
    large, count = _checkpoint(folder / "large", 3)
    small, fewer = _checkpoint(folder / "small", 1)
    teacher = _artifact(large, Kind.CHECKPOINT, parameters=count)
    student = _artifact(small, Kind.CHECKPOINT, [teacher], parameters=fewer)
    planned = folder / "planned"
    shutil.copytree(small, planned)
    (planned / "quantization.json").write_text("{}")
    quantize = _artifact(planned, Kind.CHECKPOINT, [student], parameters=fewer)
    stranger = _artifact(large, Kind.CHECKPOINT, [quantize])
    output = folder / "bundle"
    output.mkdir()
    build(small, output, task=TASK, split=_split(), form="deploy")
    export = _artifact(output, Kind.BUNDLE, [quantize], parameters=fewer)
    return {
        "finetune": teacher,
        "distill": student,
        "quantize": quantize,
        "other-branch": stranger,
        "export": export,
    }


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    """One for all tests: a reference is exported once."""
    return tmp_path_factory.mktemp("work")


@pytest.fixture
def context(make_context, chain, work):
    return make_context(
        task=TASK,
        splits={"eval": _split()},
        artifacts=chain,
        targets=(Target(),),
        work=work,
    )


def _read(context):
    return Measurements.model_validate_json((context.output / "measurements.json").read_bytes())


def test_the_bundle_is_measured_beside_what_it_came_from(context, chain):
    notes = []
    context.progress = lambda done, total, note: notes.append((done / total, note))
    draft = Validate(**QUICK | {"memory": True, "cold_starts": 2}).run(context, chain["export"])
    found = _read(context)
    assert list(found.models) == ["candidate", "finetune", "distill"]  # no stranger
    assert found.aliases == {"quantize": "distill"}  # the same weights, not built twice
    assert found.truth == context.splits["eval"].labels
    teacher, student = found.models["finetune"], found.models["distill"]
    assert teacher.size > student.size > 0
    assert teacher.parameters > student.parameters == found.models["candidate"].parameters
    assert all(model.memory > 0 for model in found.models.values())
    assert all(model.device_memory is None for model in found.models.values())  # on a CPU
    starts = [model.cold_start for model in found.models.values()]
    assert all(len(times) == 2 and min(times) > 0 for times in starts)
    assert set(found.latency["cpu"].samples) == set(found.models)
    # The student's own fp32 export answers as the deployed bundle of the same weights does.
    ours, theirs = (np.array(found.models[n].probabilities) for n in ("candidate", "distill"))
    assert np.abs(ours - theirs).max() < 1e-4
    budgets = [
        Budget(metric="parameters", min_shrink=1.1, against="finetune"),
        Budget(metric="agreement", min=0),
        Budget(metric="latency_p50", min_speedup=0.01, against="quantize"),
    ]
    assert judge(budgets, context.targets, found).outcome == "pass"
    names = {metric.name for metric in draft.metrics}
    assert {"accuracy", "macro_f1", "ece", "size", "memory", "latency_p50.cpu"} <= names
    shares = [share for share, _ in notes]
    assert shares == sorted(shares)
    assert 0 <= shares[0] <= shares[-1] <= 1


@pytest.mark.parametrize("throttled", [None, "calibration work took 1.7 times as long at the end"])
def test_a_disturbed_measurement_does_not_last(context, chain, monkeypatch, throttled):
    """Kept, it would be found again for ever, and the run never come to a verdict."""
    from pipeline.measure import latency

    take = latency.measure

    def disturbed(*arguments, **options):
        return take(*arguments, **options).model_copy(update={"throttled": throttled})

    monkeypatch.setattr(latency, "measure", disturbed)
    draft = Validate(**QUICK, models=()).run(context, chain["export"])
    assert draft.lasts is (throttled is None)


def test_answers_are_taken_once_a_provider():
    targets = (
        Target(),
        Target(name="two", threads=2),
        Target(name="gpu", provider="cuda"),
        Target(name="engine", provider="tensorrt"),
        Target(name="gpu-2", provider="cuda", threads=2),
    )
    assert [target.name for target in _elsewhere(targets)] == ["gpu", "engine"]


def test_references_answer_as_pytorch_does(context, chain):
    from pipeline.measure import accuracy

    Validate(**QUICK, models=("finetune",)).run(context, chain["export"])
    split = context.splits["eval"]
    expected = accuracy.checkpoint_probabilities(
        chain["finetune"].directory, TASK, split, lambda *_: None
    )
    found = np.array(_read(context).models["finetune"].probabilities)
    assert np.abs(found - expected).max() < 1e-4


def test_every_row_is_sliced_and_flips_are_shown_both_ways(context, chain):
    split = context.splits["eval"]
    split.columns["source"] = ["web"] * 40 + ["book"] * 20
    Validate(**QUICK, models=("finetune",)).run(context, chain["export"])
    found = _read(context)
    assert list(found.slices) == ["length", "label", "source"]
    assert found.slices["label"] == [LABELS[label] for label in split.labels]
    assert found.slices["source"] == split.columns["source"]
    for text, part in zip(split.texts, found.slices["length"], strict=True):
        low, high = part.removesuffix(" tokens").split("–")
        assert int(low) <= len(text.split()) + 2 <= int(high)  # [CLS] and [SEP]
    for sample in found.samples:
        right = {who: sample[who] == sample["truth"] for who in ("reference", "candidate")}
        assert right["candidate"] == (sample["kind"] == "won")
        assert right["reference"] or sample["kind"] != "lost"
    ours, theirs = (
        np.array(found.models[n].probabilities).argmax(1) for n in ("candidate", "finetune")
    )
    lost = int(np.sum((theirs == found.truth) & (ours != found.truth)))
    assert sum(sample["kind"] == "lost" for sample in found.samples) == min(lost, 12)


def test_a_model_that_answers_nan_fails_the_verdict(context, chain, tmp_path):
    """As after a training that diverged."""
    from onnx import helper, load, numpy_helper, save

    broken = tmp_path / "broken"
    shutil.copytree(chain["export"].directory, broken)
    model = load(broken / "model.onnx")
    last = next(node for node in model.graph.node if "logits" in node.output)
    last.output[list(last.output).index("logits")] = "finite"
    model.graph.initializer.append(numpy_helper.from_array(np.float32(np.nan), "nan"))
    model.graph.node.append(helper.make_node("Mul", ["finite", "nan"], ["logits"]))
    save(model, broken / "model.onnx")
    draft = Validate(**QUICK, models=()).run(context, _artifact(broken, Kind.BUNDLE))
    metrics = {metric.name: metric.value for metric in draft.metrics}
    assert metrics["accuracy"] == 0
    assert metrics["not_a_number"] == 1
    judged = judge([], context.targets, _read(context))
    assert judged.outcome == "fail"
    assert "NaN" in judged.budgets[0].reason
    manifest = chain["export"].manifest.model_copy(update={"metrics": draft.metrics})
    json.loads(manifest.canonical())  # no NaN reaches a manifest


def test_a_killed_run_keeps_the_references_it_had_built(context, chain, monkeypatch):
    stage = Validate(**QUICK, models=("finetune",))
    stage.run(context, chain["export"])
    monkeypatch.setattr("exporters.build.build", lambda *_, **__: pytest.fail("built again"))
    stage.run(context, chain["export"])


def test_an_adapter_is_no_reference(context, chain):
    adapter = _artifact(chain["distill"].directory, Kind.ADAPTER, [chain["finetune"]])
    context.artifacts = {**chain, "adapt": adapter}
    with pytest.raises(RecipeError, match="'adapt' is of kind adapter"):
        Validate(**QUICK, models=("adapt",)).run(context, chain["export"])
    bundle = _artifact(chain["export"].directory, Kind.BUNDLE, [adapter])
    assert list(references.choose("all", context, bundle).all) == ["finetune"]


def test_named_models_are_checked_with_the_recipe():
    assert Validate(models=("finetune",)).references() == {"reference:finetune": "finetune"}
    assert Validate().references() == {}


def test_another_machine_is_another_result(monkeypatch):
    from pipeline.measure import machine

    here = Validate().environment(Asked(targets=(Target(),)))
    assert here == Validate().environment(Asked(targets=(Target(),)))
    assert here != Validate().environment(Asked(targets=(Target(threads=2),)))
    facts = machine.fingerprint() | {"cpu": "another"}
    monkeypatch.setattr(machine, "fingerprint", lambda: facts)
    assert Validate().environment(Asked(targets=(Target(),))) != here
