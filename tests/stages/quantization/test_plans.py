"""Which plans are for training and merging, and what their width is."""

from __future__ import annotations

from dataclasses import replace

import pytest

from rarefy.pipeline import tasks
from rarefy.pipeline.stage import StageCheck
from rarefy.pipeline.store.artifact import Kind
from rarefy.pipeline.terms.errors import RecipeError
from rarefy.pipeline.terms.recipe_parts import Target
from rarefy.stages.adapt import Adapt
from rarefy.stages.adapt.merge import Merge
from rarefy.stages.common.bundle_targets import narrowest, symmetric
from rarefy.stages.quantization.plans import FILES, copied
from rarefy.stages.quantize import Quantize
from tests.models import artifact_of


def targets(*providers: str, isa: str = "avx2") -> tuple[Target, ...]:
    more = {} if isa == "avx2" else {"isa": isa}
    return tuple(Target.model_validate({"name": p, "provider": p, **more}) for p in providers)


@pytest.mark.parametrize("stage", [Adapt(), Merge()])
def test_weights_in_4_bits_do_not_change_any_more(stage):
    facts = StageCheck(tasks.find("text-classification"), 128, planner=Quantize())
    stage.check(facts)
    with pytest.raises(RecipeError, match="move 'quantize' behind it"):
        stage.check(replace(facts, planner=Quantize(weights="int4")))


def test_ranges_are_symmetric_for_tensorrt_alone():
    assert symmetric(targets("tensorrt"))
    assert symmetric(targets("tensorrt", "cuda"))
    assert not symmetric(targets("tensorrt", "cpu"))


def test_the_width_is_that_of_the_narrowest_cpu():
    assert narrowest(targets("cpu", isa="vnni")) == "vnni"
    assert narrowest(targets("cpu")) == "avx2"
    assert narrowest((*targets("cpu", isa="vnni"), *targets("openvino"))) == "avx2"
    assert narrowest(targets("tensorrt")) == "avx2"


def test_files_of_an_older_plan_are_not_copied(tmp_path):
    for name in (*FILES, "config.json", "adapter/weights"):
        (tmp_path / "old" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "old" / name).write_text(name)
    old = artifact_of(tmp_path / "old", Kind.CHECKPOINT)
    roles = copied(old, tmp_path / "new")
    assert set(roles) == {"config.json", "adapter/weights"}
    assert (tmp_path / "new" / "adapter" / "weights").read_text() == "adapter/weights"
    assert not any((tmp_path / "new" / name).exists() for name in FILES)
