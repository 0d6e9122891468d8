"""The references that a bundle is measured with."""

from __future__ import annotations

import shutil

import numpy as np
import pytest

from rarefy.pipeline.store.artifact import Kind
from rarefy.stages.common.progress import Steps
from rarefy.stages.quantization import plans
from rarefy.stages.validate import Validate, references
from tests.stages.chains import QUICK, TASK, made_artifact, read_measurements


@pytest.mark.slow
def test_references_answer_as_pytorch_does(context, chain):
    from rarefy.pipeline.measure.predictions import predict as accuracy

    Validate(**QUICK, models=("finetune",)).run(context, chain["export"])
    split = context.splits["eval"]
    expected = accuracy.checkpoint_answers(
        chain["finetune"].directory, TASK, split, lambda *_: None
    )
    found = np.array(read_measurements(context).models["finetune"].answers)
    assert np.abs(found - expected).max() < 1e-4


@pytest.mark.slow
def test_a_reference_that_is_built_already_is_not_built_again(context, chain, monkeypatch):
    stage = Validate(**QUICK, models=("finetune",))
    stage.run(context, chain["export"])
    monkeypatch.setattr("rarefy.exporters.build.build", lambda *_, **__: pytest.fail("built again"))
    stage.run(context, chain["export"])


def cut(export):
    (export / "model.onnx").write_bytes(b"")


def change(export):
    (export / "model.onnx").write_bytes(b"other")


def add(export):
    (export / "extra").touch()


def forget(export):
    export.with_suffix(".json").unlink()


def delete(export):
    shutil.rmtree(export)


@pytest.mark.parametrize("harm", [cut, change, add, forget, delete])
def test_an_export_that_is_not_as_it_was_written_is_built_again(
    context, chain, monkeypatch, tmp_path, harm
):
    """Its folder stays for months, and a power failure or anybody may change what is in it."""
    built = []

    def build(_checkpoint, output, **_named):
        built.append(output)
        (output / "model.onnx").write_bytes(b"model")

    def export():
        split = context.splits["eval"]
        steps = Steps(lambda *_: None, 1)
        return references.export(context, {"finetune": chain["finetune"]}, "cpu", split, steps)[
            "finetune"
        ]

    monkeypatch.setattr("rarefy.exporters.build.build", build)
    monkeypatch.setattr(context, "work", tmp_path)
    whole = export()
    assert export() == whole
    assert len(built) == 1
    harm(whole)
    assert export() == whole
    assert len(built) == 2
    assert [(path.name, path.read_bytes()) for path in whole.iterdir()] == [
        ("model.onnx", b"model")
    ]


def test_an_adapter_is_no_reference(context, chain):
    adapter = made_artifact(chain["distill"].directory, Kind.ADAPTER, [chain["finetune"]])
    context.artifacts = {**chain, "adapt": adapter}
    bundle = made_artifact(chain["export"].directory, Kind.BUNDLE, [adapter])
    assert list(references.choose("all", context, bundle).all) == ["finetune"]


def test_a_plan_makes_no_other_model_in_full_precision(context, chain, tmp_path):
    """One with a plan of any kind is measured once, as the checkpoint that it was made of."""
    shutil.copytree(chain["distill"].directory, tmp_path / "planned")
    for name in plans.FILES:
        (tmp_path / "planned" / name).write_text("{}")
    planned = made_artifact(tmp_path / "planned", Kind.CHECKPOINT, [chain["distill"]])
    context.artifacts = {**chain, "planned": planned}
    bundle = made_artifact(chain["export"].directory, Kind.BUNDLE, [planned])
    assert references.choose("all", context, bundle).aliases == {"planned": "distill"}
