"""A model of the store is the base of other tasks, with its weights and its quantization plan."""

from __future__ import annotations

import re

import pytest
import torch

from rarefy.pipeline.model import checkpoint
from rarefy.pipeline.model.quantization import plan as quantization
from rarefy.pipeline.store.artifact import Kind
from rarefy.pipeline.terms.errors import IntegrityError, RarefyError
from tests import tagged
from tests.conftest import Workshop

PLANNED = {"quantize": {"sensitivity": False}}


@pytest.fixture
def base(workshop: Workshop) -> Workshop:
    """A workshop whose tag ``base`` points at a classifier with a plan."""
    finished = workshop.run("quick:Head", PLANNED)
    workshop.store.tag("base", finished["quantize"].artifact.digest)
    workshop.write_rows("words.jsonl", tagged.tagged_rows(24))
    return workshop


def of_words() -> dict[str, object]:
    """Return the keys of a recipe that tags words."""
    data = {**tagged.DATA, "train": "words.jsonl", "eval": "words.jsonl"}
    return {"task": "token-classification", "data": data, "model": "tag:base"}


def test_another_task_gets_the_body_of_a_base_and_its_plan_without_the_head(base):
    stored = base.store.open("base")
    imported = base.run("quick:Head", **of_words())["model"].artifact
    assert imported.kind is Kind.ENCODER
    assert imported.manifest.source.reference == "tag:base"
    assert imported.manifest.source.revision == stored.digest
    before = checkpoint.load(stored.directory).base_model.encoder.state_dict()
    after = checkpoint.load(imported.directory).base_model.encoder.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)
    planned = quantization.read(stored.directory).linears
    of_body = {name for name in planned if name.startswith("bert.encoder.")}
    assert "bert.pooler.dense" in planned
    assert quantization.read(imported.directory).linears.keys() == of_body


def test_an_adapter_keeps_the_plan_of_its_base(base):
    adapt = {"adapt": {"rank": 2, "epochs": 1}}
    finished = base.run({**adapt, "from": "model"}, **of_words())
    imported, adapted = finished["model"].artifact, finished["adapt"].artifact
    plan = quantization.read(imported.directory)
    assert plan.integer_modules
    assert quantization.read(adapted.directory) == plan
    layers = set(plan.integer_modules)
    network = checkpoint.load(adapted.directory).get_base_model()
    assert layers <= {name for name, _ in network.named_modules()}


def test_training_all_weights_of_a_base_is_without_its_plan(base):
    finished = base.run({"finetune": {"epochs": 1}}, **of_words())
    assert quantization.read(finished["finetune"].artifact.directory) is None


def test_a_head_for_the_same_labels_stays(base):
    finished = base.run("export", model="tag:base")
    assert finished["model"].artifact.kind is Kind.CHECKPOINT


def test_the_base_that_a_tag_names_now_is_read(base):
    first = base.run("quick:Head", **of_words())["model"].artifact
    second = base.run("quick:Head", seed=1)["head"].artifact
    base.store.tag("base", second.digest)
    again = base.run("quick:Head", **of_words())["model"].artifact
    assert again.manifest.source.revision == second.digest
    assert again.digest != first.digest


@pytest.mark.parametrize(
    ("reference", "message"),
    [
        ("tag:bse", "model: tag:bse: bse: no such artifact or tag in "),
        ("tag:", "model: tag:: : no such artifact or tag in "),
    ],
)
def test_a_tag_that_does_not_exist_is_refused(base, reference, message):
    with pytest.raises(RarefyError, match=re.escape(message)) as caught:
        base.open("quick:Head", model=reference).plan.steps()
    assert "\n" not in str(caught.value)


def test_what_is_no_model_with_all_of_its_weights_is_refused(base):
    finished = base.run({"adapt": {"rank": 2, "epochs": 1}}, "merge", "export")
    for step, remedy in (("adapt", "tag the model that it adapts"), ("export", "tag the output")):
        base.store.tag(step, finished[step].artifact.digest)
        with pytest.raises(RarefyError, match=rf"model: tag:{step}: .* {remedy}"):
            base.open("quick:Head", model=f"tag:{step}").plan.steps()


def test_a_base_with_weights_in_int4_is_refused(base):
    int4 = {"quantize": {"sensitivity": False, "weights": "int4", "calibration_rows": 8}}
    finished = base.run("quick:Head", int4)
    base.store.tag("int4", finished["quantize"].artifact.digest)
    with pytest.raises(RarefyError, match="model: tag:int4: it has weights in int4"):
        base.open("quick:Head", model="tag:int4").plan.steps()


def test_a_base_whose_bytes_changed_is_refused(base):
    path = base.store.open("base").directory / "model.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.chmod(0o644)
    path.write_bytes(bytes(content))
    with pytest.raises(IntegrityError, match=r"model: tag:base: artifact .* is damaged"):
        base.open("quick:Head", **of_words()).plan.steps()
