"""A merged adapter gives the same answers as the unmerged one."""

from __future__ import annotations

import pytest
import torch

from rarefy.pipeline.model import checkpoint
from rarefy.pipeline.model.quantization import plan as quantization
from rarefy.pipeline.store.artifact import Kind
from rarefy.pipeline.terms.errors import ModelError
from rarefy.pipeline.terms.recipe_parts import Target
from rarefy.stages.adapt import Adapt
from rarefy.stages.adapt.merge import Merge
from rarefy.stages.quantization import ranges
from rarefy.stages.quantize import Quantize
from tests.models import artifact_of


@pytest.fixture
def adapted(base, make_context, tmp_path):
    context = make_context(rows=128, work=tmp_path / "adapted")
    Adapt(rank=4, learning_rate=5e-3, epochs=6, batch_size=16).run(context, base)
    return artifact_of(context.output, Kind.ADAPTER)


@pytest.mark.slow
def test_it_answers_as_before_without_the_adapter(adapted, make_context):
    context = make_context()
    draft = Merge().run(context, adapted)
    before, after = checkpoint.load(adapted.directory), checkpoint.load(context.output)
    assert not hasattr(after, "merge_and_unload")
    tokenizer = checkpoint.load_tokenizer(context.output)
    inputs = tokenizer(["a lovely film", "dull"], padding=True, return_tensors="pt")
    with torch.no_grad():
        torch.testing.assert_close(after(**inputs).logits, before(**inputs).logits)
        plain = before.unload()(**inputs).logits
        assert not torch.allclose(after(**inputs).logits, plain, atol=1e-3)
    assert draft.metrics[0].name == "merge_difference"
    assert draft.metrics[0].value <= 1e-4
    assert "adapter" not in set(draft.roles.values())


def test_without_an_adapter_there_is_nothing_to_merge(tuned, make_context):
    with pytest.raises(ModelError, match="has no adapter"):
        Merge().run(make_context(), tuned)


@pytest.fixture
def planned(tuned, make_context, tmp_path):
    """An adapter trained on a model with a static plan, and that plan."""
    context = make_context(rows=128, work=tmp_path / "planned")
    draft = Quantize(mode="static", calibration_rows=32).run(context, tuned)
    plan, source = quantization.read(context.output), tmp_path / "source"
    context.output.rename(source)
    context.output.mkdir()
    model = artifact_of(source, Kind.CHECKPOINT)
    Adapt(rank=4, learning_rate=2e-2, epochs=2, batch_size=16).run(context, model)
    quantization.write(plan, context.output)
    assert draft.model
    return artifact_of(context.output, Kind.ADAPTER), plan


def test_the_ranges_of_a_static_plan_are_those_of_the_merged_model(planned, make_context):
    adapted, before = planned
    context = make_context(rows=128)
    Merge().run(context, adapted)
    after = quantization.read(context.output)
    assert after.calibration == before.calibration
    assert after.integer_modules == before.integer_modules
    tokenizer = checkpoint.load_tokenizer(context.output)
    rows = ranges.rows(context, tokenizer, "train", 32)
    wanted = ranges.measure(
        checkpoint.load(context.output), after.integer_modules, rows, after.calibration
    )
    for name, limits in wanted.items():
        assert (after.linears[name].low, after.linears[name].high) == pytest.approx(limits)
    moved = [n for n in wanted if after.linears[n].high != pytest.approx(before.linears[n].high)]
    assert moved, "training moved what the layers read"


def test_ranges_for_tensorrt_alone_are_symmetric_again(planned, make_context):
    adapted, _ = planned
    context = make_context(rows=128, targets=(Target(name="gpu", provider="tensorrt"),))
    Merge().run(context, adapted)
    after = quantization.read(context.output)
    for name in after.integer_modules:
        assert after.linears[name].low == pytest.approx(-128 / 127 * after.linears[name].high)
