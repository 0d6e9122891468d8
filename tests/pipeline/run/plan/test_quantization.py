"""A quantization plan reaches the bundle, or the recipe is refused before anything runs."""

from __future__ import annotations

import pytest

from rarefy.pipeline.model.quantization import plan as quantization
from rarefy.pipeline.terms.errors import ModelError, RarefyError, RecipeError
from tests.conftest import Workshop


@pytest.fixture
def workshop(empty_workshop: Workshop) -> Workshop:
    """Nothing has been imported yet."""
    return empty_workshop


OWN = '''
import shutil
from typing import ClassVar

from rarefy.pipeline.model import checkpoint
from rarefy.pipeline.stage import Draft, Policy, Stage
from rarefy.pipeline.store.artifact import Kind
from rarefy.stages.export import Export


class Silent(Stage):
    """Save the model again; says nothing about plans."""

    name: ClassVar[str] = "silent"

    def run(self, context, model):
        network = checkpoint.load(model.directory)
        tokenizer = checkpoint.load_tokenizer(model.directory)
        roles = checkpoint.save(network, tokenizer, context.output)
        return Draft(roles, checkpoint.describe(network))


class Faithful(Silent):
    """The same, and says that a plan stays true."""

    name: ClassVar[str] = "faithful"
    policy: ClassVar[Policy] = Policy(quantization="keeps")


class Reckless(Faithful):
    """Says that a plan stays true, and changes a weight."""

    name: ClassVar[str] = "reckless"

    def run(self, context, model):
        network = checkpoint.load(model.directory)
        network.classifier.weight.data += 1
        tokenizer = checkpoint.load_tokenizer(model.directory)
        roles = checkpoint.save(network, tokenizer, context.output)
        return Draft(roles, checkpoint.describe(network))


class Empty(Silent):
    """Says that it plans, and does not."""

    name: ClassVar[str] = "empty"
    policy: ClassVar[Policy] = Policy(quantization="plans")


class Smuggler(Silent):
    """Writes a plan, and does not say so."""

    name: ClassVar[str] = "smuggler"

    def run(self, context, model):
        draft = super().run(context, model)
        (context.output / "quantization.json").write_text("{}")
        return draft


class Look(Stage):
    """Report on a checkpoint."""

    name: ClassVar[str] = "look"
    produces: ClassVar = Kind.REPORT

    def run(self, context, model):
        (context.output / "seen.txt").write_text("a model")
        return Draft()


class Polish(Stage):
    """Take a bundle and give it on."""

    name: ClassVar[str] = "polish"
    consumes: ClassVar = frozenset({Kind.BUNDLE})
    produces: ClassVar = None

    def run(self, context, model):
        shutil.copytree(model.directory, context.output, dirs_exist_ok=True)
        for name in ("manifest.json", "run.json"):
            (context.output / name).unlink()
        roles = {entry.path: entry.role for entry in model.manifest.files}
        return Draft(roles, dict(model.manifest.model))


class Own(Export):
    """An exporter that decides the precision itself."""

    name: ClassVar[str] = "own"

    def run(self, context, model):
        draft = super().run(context, model)
        return Draft(draft.roles, draft.model | {"precision": "fp16"})


class Keen(Silent):
    """Writes a plan of its own, and says that it keeps one."""

    name: ClassVar[str] = "keen"
    policy: ClassVar[Policy] = Policy(quantization="keeps")

    def run(self, context, model):
        draft = super().run(context, model)
        (context.output / "quantization.json").write_text("{}")
        return draft


class Careless(Export):
    """An exporter that looks at no plan."""

    name: ClassVar[str] = "careless"
    forgets: ClassVar[str] = "quantization.json"

    def run(self, context, model):
        bare = context.work / "bare"
        shutil.copytree(model.directory, bare, dirs_exist_ok=True)
        (bare / self.forgets).unlink()
        copy = type(model)(bare, model.manifest, model.digest)
        return super().run(context, copy)


class Forgetful(Careless):
    """An exporter that leaves out the weights of the plan."""

    name: ClassVar[str] = "forgetful"
    forgets: ClassVar[str] = "int4.safetensors"
'''
QUANTIZE = {"quantize": {"calibration_rows": 8}}
INT8 = ("quick:Head", QUANTIZE)


@pytest.fixture
def shop(workshop):
    (workshop.folder / "own.py").write_text(OWN)
    return workshop


@pytest.mark.parametrize(
    ("name", "stage"),
    [
        ("finetune", "finetune"),
        ("distill", {"distill": {"keep_layers": 1}}),
        ("prune", {"prune": {"remove_layers": [0]}}),
        ("factorize", "factorize"),
        ("own:Silent", "own:Silent"),
    ],
)
def test_a_stage_that_would_lose_the_plan_is_refused_with_its_line(shop, name, stage):
    run = shop.open(*INT8, stage, "export")
    with pytest.raises(RecipeError) as caught:
        run.plan.steps()
    said = str(caught.value)
    assert "trial.yaml:" in said
    assert name.rpartition(":")[2].lower() in said
    assert said.endswith("would lose the quantization plan of 'quantize'; move 'quantize' after it")
    assert shop.store.digests() == []


def test_the_plan_is_lost_along_the_chain_and_not_by_place_in_the_file(shop):
    """After 'quantize' in the file, but made from what was before it."""
    branch = {"prune": {"remove_layers": [0]}, "from": "head"}
    shop.open(*INT8, branch).plan.steps()
    with pytest.raises(RecipeError, match="plan of 'quantize'; move 'quantize' after it"):
        shop.open(*INT8, "adapt", "merge", {"prune": {"remove_layers": [0]}}).plan.steps()


def test_what_comes_after_the_bundle_or_only_reports_loses_nothing(shop):
    shop.open(*INT8, "own:Look", {"export": None, "from": "quantize"}, "validate").plan.steps()


def test_a_plan_that_the_export_cannot_carry_out_is_refused_before_anything_runs(shop):
    portable = {"export": {"products": "qdq"}}
    with pytest.raises(RecipeError, match=r"export: int8 as .* write quantize: \{mode: static\}"):
        shop.open(*INT8, portable).plan.steps()
    with pytest.raises(RecipeError, match=r"export: int8 as .* write quantize: \{mode: static\}"):
        shop.open(*INT8[:-1], {"quantize": {"mode": "search"}}, portable).plan.steps()
    static = {"quantize": {"mode": "static"}}
    shop.open(*INT8[:-1], static, portable).plan.steps()


@pytest.mark.parametrize(
    ("quantize", "provider", "message"),
    [
        ({"mode": "static"}, "cuda", "int8 on the cuda provider is slower than fp16"),
        ({"precision": "fp16"}, "cpu", "fp16 on the cpu provider is slower than fp32"),
        ({"precision": "fp16"}, "openvino", r"write quantize: \{precision: int8, mode: static\}"),
        ({}, "openvino", r"write quantize: \{mode: static\}"),
    ],
)
def test_a_precision_that_the_target_cannot_have_is_refused_before_anything_runs(
    shop, quantize, provider, message
):
    """Training would take hours until ``export`` found out."""
    targets = [{"name": "server", "provider": provider}]
    stages = ("quick:Head", {"quantize": quantize}, "export")
    with pytest.raises(RecipeError, match=rf"trial\.yaml:\d+: stages\[2\]\.export: .*{message}"):
        shop.open(*stages, targets=targets).plan.steps()
    assert shop.store.digests() == []


@pytest.mark.parametrize("quantize", [{"mode": "static"}, {"mode": "search"}])
def test_a_bundle_for_one_runtime_is_not_measured_in_another(shop, quantize):
    """It was refused after training, when ``validate`` opened the bundle."""
    targets = [{"name": "cpu"}, {"name": "ov", "provider": "openvino"}]
    chain = (*INT8[:-1], {"quantize": quantize})
    named = {"export": {"target": "ov"}, "as": "for-ov", "from": "quantize"}
    with pytest.raises(RecipeError, match=r"validate: the target 'ov' .*\{products: qdq\}"):
        shop.open(*chain, "export", "validate", targets=targets).plan.steps()
    static = (*INT8[:-1], {"quantize": {"mode": "static"}})
    portable = {"export": {"products": "qdq"}}
    shop.open(*static, portable, "validate", targets=targets).plan.steps()
    shop.open(*static, "export", named, "validate", targets=targets).plan.steps()


def test_a_bundle_is_not_measured_for_cpus_that_may_refuse_it(shop):
    """Where it is measured, it loads; so it passed the verdict of a target that it is not for."""
    targets = [{"name": "fast", "isa": "vnni"}, {"name": "any-x86"}]
    narrow = {"export": {"target": "any-x86"}}
    message = r"validate: the bundle is for 'fast', .* write export: \{target: any-x86\}"
    with pytest.raises(RecipeError, match=message):
        shop.open(*INT8, "export", "validate", targets=targets).plan.steps()
    shop.open(*INT8, narrow, "validate", targets=targets).plan.steps()
    shop.open("quick:Head", "export", "validate", targets=targets).plan.steps()  # in float
    both = [target | {"isa": "vnni"} for target in targets]
    shop.open(*INT8, "export", "validate", targets=both).plan.steps()


def test_ranges_that_tensorrt_would_widen_are_not_exported_for_it(shop):
    """What is measured with narrow ranges says nothing of wide ones."""
    static = (*INT8[:-1], {"quantize": {"mode": "static"}})
    named = {"export": {"target": "gpu"}}
    gpu, half = {"name": "gpu", "provider": "tensorrt"}, {"name": "half", "provider": "cuda"}
    with pytest.raises(RecipeError, match=r"export: .* write a recipe of its own for 'gpu'"):
        shop.open(*static, named, targets=[{"name": "cpu"}, gpu]).plan.steps()
    shop.open(*static, "export", targets=[{"name": "cpu"}, gpu]).plan.steps()
    shop.open(*static, named, targets=[gpu, half]).plan.steps()
    fp16 = (*INT8[:-1], {"quantize": {"precision": "fp16"}})
    shop.open(*fp16, named, targets=[{"name": "cpu"}, gpu]).plan.steps()


def test_int8_operators_of_cpus_are_not_measured_on_a_gpu(shop):
    both = [{"name": "cpu"}, {"name": "gpu", "provider": "cuda"}]
    with pytest.raises(RecipeError, match=r"validate: .* which the target 'gpu' does not have"):
        shop.open(*INT8, "export", "validate", targets=both).plan.steps()
    shop.open("quick:Head", "export", "validate", targets=both).plan.steps()


def test_each_export_is_checked_against_its_own_target(shop):
    targets = [{"name": "laptop"}, {"name": "gpu", "provider": "cuda"}]
    half = {"quantize": {"precision": "fp16"}, "as": "half", "from": "head"}
    named = {"export": {"target": "gpu"}, "as": "for-gpu"}
    shop.open(*INT8, "export", half, named, targets=targets).plan.steps()
    with pytest.raises(RecipeError, match="fp16 on the cpu provider"):
        shop.open(*INT8, "export", half, named | {"export": {}}, targets=targets).plan.steps()


def test_weights_in_4_bits_are_not_trained_any_more(shop):
    four = {"quantize": {"weights": "int4"}}
    with pytest.raises(RecipeError, match="move 'quantize' behind it, or write quantize: "):
        shop.open("quick:Head", four, "adapt").plan.steps()
    with pytest.raises(RecipeError, match=r"merge: .* move 'quantize' behind it"):
        shop.open("quick:Head", "adapt", four, "merge", "export").plan.steps()


@pytest.mark.slow
def test_weights_in_4_bits_are_carried_with_their_plan_to_the_bundle(shop):
    loose = {"calibration_rows": 8, "max_damage": 9, "max_joint_damage": 9}
    four = {"quantize": {"weights": "int4", **loose}}
    finished = shop.run("quick:Head", four, "own:Faithful", "export")
    made = finished["quantize"].artifact.manifest.model["quantization"]
    assert made["int4"] > 0
    assert finished["export"].artifact.manifest.model["passes"]["packed"] == made["int4"]


@pytest.mark.slow
def test_a_stage_that_changes_weights_in_4_bits_is_refused(shop):
    loose = {"calibration_rows": 8, "max_damage": 9, "max_joint_damage": 9}
    four = {"quantize": {"weights": "int4", **loose}}
    with pytest.raises(ModelError, match="changes weights that the plan has in int4"):
        shop.run("quick:Head", four, "own:Reckless")


@pytest.mark.slow
def test_a_plan_whose_weights_in_4_bits_are_gone_is_refused(shop):
    loose = {"calibration_rows": 8, "max_damage": 9, "max_joint_damage": 9}
    four = {"quantize": {"weights": "int4", **loose}}
    with pytest.raises(ModelError, match=r"in int4, but its weights are not in int4\.safetensors"):
        shop.run("quick:Head", four, "own:Forgetful")


@pytest.mark.slow
def test_a_plan_that_stays_true_is_carried_to_the_bundle(shop):
    between = ("own:Faithful", {"adapt": {"epochs": 1, "rank": 2}}, "merge")
    finished = shop.run(*INT8, *between, "export")
    plan = quantization.read(finished["quantize"].artifact.directory)
    for name in ("faithful", "adapt", "merge"):
        artifact = finished[name].artifact
        assert quantization.read(artifact.directory) == plan
        assert artifact.manifest.model["quantization"]["precision"] == "int8"
        assert {e.path: e.role for e in artifact.manifest.files}["quantization.json"] == "plan"
    assert finished["export"].artifact.manifest.model["precision"] == "int8"


def test_the_last_plan_is_the_one_that_is_carried(shop):
    again = {"quantize": {"calibration_rows": 8, "mode": "static"}, "as": "second"}
    finished = shop.run(*INT8, again, "own:Faithful")
    plan = quantization.read(finished["faithful"].artifact.directory)
    assert plan is not None
    assert plan.mode == "static"


@pytest.mark.slow
def test_a_bundle_of_another_precision_than_the_plan_asks_for_is_refused(shop):
    message = "careless: the bundle is fp32, but .* last plan, made by 'quantize', asks for int8"
    with pytest.raises(ModelError, match=message):
        shop.run(*INT8, "own:Careless")


@pytest.mark.slow
def test_a_bundle_that_was_made_from_a_bundle_keeps_its_precision(shop):
    finished = shop.run(*INT8, "export", "own:Polish")
    assert finished["polish"].artifact.manifest.model["precision"] == "int8"


@pytest.mark.slow
def test_an_exporter_may_choose_the_precision_if_nothing_was_planned(shop):
    finished = shop.run("quick:Head", "own:Own")
    assert finished["own"].artifact.manifest.model["precision"] == "fp16"


@pytest.mark.parametrize(
    ("stage", "message"),
    [
        ("own:Empty", "empty: the stage declares quantization = 'plans' but wrote no quanti"),
        ("own:Keen", "keen: the stage wrote quantization.json but does not declare"),
        ("own:Smuggler", "smuggler: the stage wrote quantization.json but does not declare"),
    ],
)
def test_a_stage_does_what_it_says_of_plans(shop, stage, message):
    with pytest.raises(RarefyError, match=message):
        shop.run("quick:Head", stage)
