"""A plan is made from real rows: layers that int8 damages stay float, weights do not change."""

from __future__ import annotations

from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from rarefy.exporters.passes import embeddings
from rarefy.pipeline.model import checkpoint
from rarefy.pipeline.model.quantization import four_bits
from rarefy.pipeline.model.quantization import plan as quantization
from rarefy.pipeline.stage import Requirements
from rarefy.pipeline.store.artifact import Kind
from rarefy.pipeline.terms.digests import file_sha256
from rarefy.pipeline.terms.errors import RecipeError
from rarefy.pipeline.terms.recipe_parts import Target
from rarefy.stages.adapt import Adapt
from rarefy.stages.adapt.merge import Merge
from rarefy.stages.quantization import sensitivity, smoothing
from rarefy.stages.quantize import Quantize
from tests.models import artifact_of

ALONE = 1e-12
"""Of damage, less than any layer does: each is tried alone, and stays float."""


def planned(stage, context, model):
    draft = stage.run(context, model)
    plan = quantization.read(context.output)
    assert plan is not None
    return plan, draft


def test_the_weights_stay_and_the_plan_names_every_layer_but_the_last(tuned, make_context):
    context = make_context()
    plan, draft = planned(Quantize(calibration_rows=32), context, tuned)
    for entry in tuned.manifest.files:
        assert file_sha256(context.output / entry.path) == entry.sha256
    network = checkpoint.load(context.output)
    linear = [n for n, m in network.named_modules() if isinstance(m, torch.nn.Linear)]
    assert list(plan.linears) == sorted(linear[:-1])
    assert linear[-1] == "classifier"
    assert draft.roles["quantization.json"] == "plan"
    assert {metric.name for metric in draft.metrics} == {"integer_layers", "quantization_kl"}
    assert all(layer.low is None for layer in plan.linears.values())


def test_static_records_what_each_layer_is_fed(tuned, make_context):
    context = make_context()
    plan, _ = planned(Quantize(mode="static", calibration_rows=32), context, tuned)
    network = checkpoint.load(context.output)
    tokenizer = checkpoint.load_tokenizer(context.output)
    rows = context.task.encoder.encode(tokenizer, context.split("train"), range(0, 64, 2))
    name = "bert.encoder.layer.1.output.dense"
    seen = []
    network.get_submodule(name).register_forward_hook(lambda m, x, y: seen.append(x[0]))
    with torch.no_grad():
        for row in rows:
            network(**{key: torch.tensor([ids]) for key, ids in row.items()})
    layer = plan.linears[name]
    assert layer.low == pytest.approx(min(float(x.min()) for x in seen))
    assert layer.high == pytest.approx(max(float(x.max()) for x in seen))


def test_a_layer_that_int8_ruins_stays_float(tuned, make_context, tmp_path):
    """One input is 1000 times the others, which round to zero; its outputs cancel."""
    network = checkpoint.load(tuned.directory)
    tokenizer = checkpoint.load_tokenizer(tuned.directory)
    name = "bert.encoder.layer.2.output.dense"
    with torch.no_grad():
        intermediate = network.bert.encoder.layer[2].intermediate.dense
        intermediate.bias[0] = 3000.0
        network.get_submodule(name).weight.mul_(20)
        network.get_submodule(name).weight[:, 0] = 0
        network.classifier.weight.mul_(0.3)  # saturated answers would hide the damage
    checkpoint.save(network, tokenizer, tmp_path / "ruined")
    ruined = artifact_of(tmp_path / "ruined", Kind.CHECKPOINT)
    plan, _ = planned(Quantize(max_damage=ALONE), make_context(), ruined)
    damages = {layer: entry.damage for layer, entry in plan.linears.items()}
    worst = damages.pop(name)
    assert worst > 10 * max(damages.values())
    strict = Quantize(calibration_rows=32, max_damage=worst / 2)
    plan, draft = planned(strict, make_context(), ruined)
    assert plan.linears[name].precision == "float"
    assert plan.integer_modules == sorted(damages)
    metrics = {metric.name: metric.value for metric in draft.metrics}
    assert metrics["integer_layers"] == len(damages)
    assert metrics["quantization_kl"] < worst


def test_excluded_layers_stay_float_and_unknown_ones_are_said(tuned, make_context):
    name = "bert.encoder.layer.0.attention.self.query"
    stage = Quantize(calibration_rows=16, exclude=(name,))
    plan, _ = planned(stage, make_context(), tuned)
    assert plan.linears[name].precision == "float"
    with pytest.raises(RecipeError, match=r"quantize\.exclude: no linear layer 'bert\.query'"):
        Quantize(exclude=("bert.query",)).run(make_context(), tuned)


def test_an_adapter_is_planned_by_the_names_of_its_base(tuned, make_context):
    adapted = make_context()
    Adapt(rank=2, epochs=1, batch_size=32).run(adapted, tuned)
    model = artifact_of(adapted.output, Kind.ADAPTER)
    context = make_context()
    plan, _ = planned(Quantize(calibration_rows=16), context, model)
    assert (context.output / "adapter/adapter_model.safetensors").is_file()
    alone, _ = planned(Quantize(calibration_rows=16), make_context(), tuned)
    assert list(plan.linears) == list(alone.linears)


def test_fp16_is_a_plan_of_its_own(tuned, make_context):
    plan, _ = planned(Quantize(precision="fp16"), make_context(), tuned)
    assert plan.precision == "fp16"
    assert not plan.linears


GPU, CPU = Target(name="gpu", provider="tensorrt"), Target()
HALF = Target(name="half", provider="cuda")


def test_a_plan_depends_on_the_width_that_is_measured():
    requirements = Requirements(targets=(Target(name="new", isa="vnni"), HALF))
    assert Quantize().environment(requirements) == {"isa": "vnni"}
    assert Quantize(precision="fp16").environment(Requirements(targets=(HALF,))) == {}


@pytest.mark.parametrize(
    ("targets", "wanted"),
    [((GPU,), True), ((GPU, HALF), True), ((GPU, CPU), False), ((HALF,), False), ((), False)],
)
def test_ranges_are_symmetric_if_int8_is_for_tensorrt_alone(targets, wanted, tuned, make_context):
    """A range that TensorRT would widen is not what damage and training were measured with."""
    stage = Quantize(mode="static", calibration_rows=16, sensitivity=False)
    plan, _ = planned(stage, make_context(targets=targets), tuned)
    ratios = [-layer.low / layer.high for layer in plan.integer_layers.values()]
    assert all(ratio == pytest.approx(128 / 127) for ratio in ratios) is wanted
    requirements = Requirements(targets=targets)
    assert (stage.environment(requirements).get("ranges") == "symmetric") is wanted
    ranges_of_merge = Merge().environment(requirements).get("ranges")
    assert stage.environment(requirements).get("ranges") == ranges_of_merge


def test_layers_are_tried_alone_only_if_together_they_do_more_than_one_may(tuned, make_context):
    plan, draft = planned(Quantize(), make_context(), tuned)
    (whole,) = [metric.value for metric in draft.metrics if metric.name == "quantization_kl"]
    assert 0 < whole < Quantize().max_damage
    assert len(plan.integer_modules) == len(plan.linears)
    assert {layer.damage for layer in plan.linears.values()} == {None}
    plan, _ = planned(Quantize(max_damage=whole / 2), make_context(), tuned)
    assert None not in {layer.damage for layer in plan.linears.values()}
    within = [name for name, layer in plan.linears.items() if layer.damage <= whole / 2]
    assert set(plan.integer_modules) <= set(within)


def test_the_width_is_in_the_measured_damage(tuned, make_context):
    """Which is more is left to chance in so small a model."""
    kl = {}
    for isa in ("avx2", "vnni"):
        context = make_context(targets=(Target(isa=isa),))
        plan, _ = planned(Quantize(max_damage=ALONE), context, tuned)
        kl[isa] = sum(layer.damage for layer in plan.linears.values())
    assert kl["vnni"] != kl["avx2"]


def test_layers_that_together_do_too_much_stay_float_the_worst_first(tuned, make_context):
    free = Quantize(calibration_rows=32, max_joint_damage=1e9)
    plan, draft = planned(free, make_context(), tuned)
    (whole,) = [metric.value for metric in draft.metrics if metric.name == "quantization_kl"]
    strict = Quantize(calibration_rows=32, max_joint_damage=whole / 2)
    bounded, draft = planned(strict, make_context(), tuned)
    (left,) = [metric.value for metric in draft.metrics if metric.name == "quantization_kl"]
    assert left <= whole / 2
    kept, lost = set(bounded.integer_modules), set(plan.integer_modules)
    lost -= kept
    assert kept
    assert lost
    plan, _ = planned(Quantize(max_damage=ALONE), make_context(), tuned)
    damage = {name: layer.damage for name, layer in plan.linears.items()}
    assert max(damage[name] for name in kept) <= min(damage[name] for name in lost)


def test_no_layer_is_integer_if_even_the_best_does_too_much(tuned, make_context, monkeypatch):
    monkeypatch.setattr(sensitivity.Sensitivity, "damage", lambda *_: 1.0)
    plan, draft = planned(Quantize(calibration_rows=32), make_context(), tuned)
    assert plan.integer_modules == []
    assert {metric.name for metric in draft.metrics} == {"integer_layers"}


def test_a_vocabulary_in_4_bits_is_measured_with_the_layers(tuned, make_context, monkeypatch):
    monkeypatch.setattr(embeddings, "WHOLE", 8)  # the tiny model's tables are small
    damage = {}
    for bits in ("int8", "int4"):
        stage = Quantize(embeddings=bits, max_damage=9, max_joint_damage=9)
        plan, draft = planned(stage, make_context(), tuned)
        assert plan.embeddings == bits
        damage[bits] = {metric.name: metric.value for metric in draft.metrics}
    assert damage["int4"]["quantization_kl"] != damage["int8"]["quantization_kl"]


@pytest.mark.parametrize("limits", [(1e-3, 9), (9, 1e-3)])
def test_a_vocabulary_that_4_bits_ruin_is_in_8(tuned, make_context, monkeypatch, caplog, limits):
    monkeypatch.setattr(embeddings, "WHOLE", 8)
    _, exact = planned(Quantize(max_damage=9, max_joint_damage=9), make_context(), tuned)
    monkeypatch.setattr(four_bits.Blocks, "values", lambda self: 0 * self.codes.astype("f4"))
    alone, joint = limits
    stage = Quantize(embeddings="int4", max_damage=alone, max_joint_damage=joint)
    monkeypatch.setattr(
        Quantize, "_tolerant", lambda _, __, seen, layers: (layers, layers, seen.damage(layers))
    )
    plan, draft = planned(stage, make_context(), tuned)
    assert plan.embeddings == "int8"
    assert "in int4 their error alone is" in caplog.text
    # What was tried is not left in the network that layers are measured in.
    damage = [{metric.name: metric.value for metric in each.metrics} for each in (draft, exact)]
    assert damage[0]["quantization_kl"] == damage[1]["quantization_kl"]


def test_weights_in_4_bits_are_written_beside_the_float_ones(tuned, make_context):
    context = make_context()
    stage = Quantize(weights="int4", calibration_rows=32, max_damage=9, max_joint_damage=9)
    plan, draft = planned(stage, context, tuned)
    assert plan.int4_modules == plan.integer_modules == list(plan.linears)
    assert draft.roles[four_bits.FILE] == "int4"
    network = checkpoint.load(context.output)  # the float weights, which stay
    held = four_bits.read(context.output)
    assert sorted(held) == plan.int4_modules
    for name, made in held.items():
        weight = network.get_submodule(name).weight.detach().numpy()
        # Columns take up the errors of those before them, so a few steps are possible.
        assert np.abs(made.values() - weight).mean() < made.scales.mean()
    metrics = {metric.name: metric.value for metric in draft.metrics}
    assert metrics["int4_layers"] == len(held)
    assert metrics["integer_layers"] == len(held)
    again = make_context()
    planned(Quantize(), again, artifact_of(context.output, Kind.CHECKPOINT))
    assert not (again.output / four_bits.FILE).exists()


def test_layers_that_4_bits_ruin_stay_in_int8(chain, make_context):
    """What is kept has the least damage, measured beside the others in int8."""
    layers = partial(Quantize, weights="int4", embeddings="float", max_damage=9)
    _, free = planned(layers(max_joint_damage=9), make_context(), chain["finetune"])
    (whole,) = [metric.value for metric in free.metrics if metric.name == "quantization_kl"]
    context = make_context()
    plan, draft = planned(layers(max_joint_damage=0.5 * whole), context, chain["finetune"])
    metrics = {metric.name: metric.value for metric in draft.metrics}
    assert metrics["quantization_kl"] <= 0.5 * whole
    assert 0 < len(plan.int4_modules) < len(plan.integer_modules) == len(plan.linears)
    assert sorted(four_bits.read(context.output)) == plan.int4_modules


def test_ranges_of_inputs_stay_with_4_bits(tuned, make_context):
    loose = {"calibration_rows": 32, "max_damage": 9, "max_joint_damage": 9}
    four, _ = planned(Quantize(weights="int4", mode="static", **loose), make_context(), tuned)
    eight, _ = planned(Quantize(mode="static", **loose), make_context(), tuned)
    assert four.int4_modules == list(four.linears)
    for name, layer in four.linears.items():
        assert (layer.low, layer.high) == (eight.linears[name].low, eight.linears[name].high)


def test_without_sensitivity_all_are_in_4_bits(tuned, make_context):
    plan, draft = planned(Quantize(weights="int4", sensitivity=False), make_context(), tuned)
    assert plan.int4_modules == list(plan.linears)
    assert {metric.name for metric in draft.metrics} == {"integer_layers", "int4_layers"}


def test_if_4_bits_ruin_every_layer_all_are_in_int8(tuned, make_context, monkeypatch):
    monkeypatch.setattr(
        sensitivity.Sensitivity,
        "damage",
        lambda _, layers: (
            0.004 + 0.002 * sum(layer.precision == "int4" for layer in layers.values())
        ),
    )
    context = make_context()
    stage = Quantize(weights="int4", max_damage=0.1, max_joint_damage=0.005)
    plan, draft = planned(stage, context, tuned)
    metrics = {metric.name: metric.value for metric in draft.metrics}
    assert metrics["quantization_kl"] == 0.004  # that of int8, not of nothing
    assert plan.int4_modules == []
    assert plan.integer_modules == list(plan.linears)
    assert four_bits.FILE not in draft.roles


def test_a_search_asks_whether_4_bits_are_tolerated(tuned, make_context, monkeypatch, caplog):
    monkeypatch.setattr(embeddings, "WHOLE", 8)
    monkeypatch.setattr(four_bits.Blocks, "values", lambda self: 0 * self.codes.astype("f4"))

    class Seen(Exception):  # noqa: N818
        """The search would begin."""

    def begin(search):
        raise Seen(search.embeddings)

    monkeypatch.setattr("rarefy.stages.quantize.search.Search.run", begin)
    with pytest.raises(Seen, match="int8"):
        Quantize(mode="search", embeddings="int4").run(make_context(), tuned)
    assert "in int4 their error alone is" in caplog.text


def test_smooth_layers_have_factors_that_are_equal_in_a_group(tuned, make_context, monkeypatch):
    monkeypatch.setattr(smoothing, "WORTH", float("inf"))
    stage = Quantize(mode="static", smooth=True, calibration_rows=32)
    plan, _ = planned(stage, make_context(), tuned)
    for name in plan.integer_modules:
        module, layer = checkpoint.load(tuned.directory).get_submodule(name), plan.linears[name]
        assert len(layer.factors) == module.weight.shape[1]
    first = "bert.encoder.layer.0.attention.self."
    assert plan.linears[first + "query"].factors == plan.linears[first + "value"].factors
    assert plan.linears[first + "query"].low == plan.linears[first + "value"].low


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"mode": "search", "max_damage": 0.1}, "'max_damage' is chosen by 'mode: search'"),
        ({"mode": "search", "smooth": True}, "'smooth' is chosen by 'mode: search'"),
        ({"seconds": 3}, "'seconds' needs 'mode: search'"),
        ({"weights": "int4", "mode": "search"}, "leave 'weights' out"),
        ({"weights": "int4", "smooth": True}, "'smooth' is for weights in int8"),
        ({"weights": "int4", "precision": "fp16"}, "'weights' does not apply to 'precision: fp16'"),
        ({"precision": "fp16", "exclude": ["x"]}, "'exclude' does not apply to 'precision: fp16'"),
        ({"precision": "fp16", "mode": "search"}, "'mode' does not apply to 'precision: fp16'"),
        ({"calibration": "mse"}, "'calibration' needs 'mode: static'"),
        ({"sensitivity": False, "max_joint_damage": 0.1}, "'max_joint_damage' needs 'sensitivity'"),
    ],
)
def test_a_parameter_that_would_do_nothing_is_refused(parameters, message):
    with pytest.raises(ValidationError, match=message):
        Quantize(**parameters)


def test_a_search_needs_a_cpu_and_is_of_its_machine():
    with pytest.raises(RecipeError, match=r"quantize\.mode: search times int8 on a CPU"):
        Quantize(mode="search").environment(Requirements(targets=(Target(provider="cuda"),)))
    found = Quantize(mode="search").environment(Requirements(targets=(Target(threads=2),)))
    assert found["threads"] == 2
    assert found["machine"]["cpu"]


def test_a_vocabulary_that_int8_damages_stays_float_and_the_layers_do_not(
    tuned, make_context, monkeypatch, caplog
):
    """Its damage is of no layer: those are tried with exact tables."""
    monkeypatch.setattr(sensitivity.embeddings, "rounded", lambda table, _: -table)
    plan, _ = planned(Quantize(max_damage=1, max_joint_damage=1), make_context(), tuned)
    assert plan.embeddings == "float"
    assert "in int8 their error alone is" in caplog.text
    assert plan.integer_modules == list(plan.linears)


@pytest.mark.parametrize(
    ("given", "kept"), [({}, "float"), ({"mode": "search", "max_joint_damage": 0.05}, "int8")]
)
def test_a_search_has_one_limit_for_the_vocabulary_too(given, kept, caplog):
    measured = SimpleNamespace(damage=lambda _: 0.01)
    assert Quantize(**given)._tolerated(measured) == kept
    assert ("more than max_damage or max_joint_damage (0.005)" in caplog.text) is (not given)
