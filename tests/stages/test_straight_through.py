"""Training sees the rounding that ships, and its gradients do not."""

from __future__ import annotations

import copy

import peft
import pytest
import torch
from torch import nn

from pipeline.model import checkpoint
from pipeline.model.quantization import LinearPlan
from stages import ranges, sensitivity, straight_through
from stages.trainer import collate
from tests.stages.classifiers import classifier

DYNAMIC = LinearPlan(precision="int8")
STATIC = LinearPlan(precision="int8", low=-1.0, high=2.0)
WHOLE = LinearPlan(
    precision="int8",
    low=-1.0,
    high=2.0,
    factors=(0.5, 1.0, 2.0, 4.0),
    correction=(0.1, -0.2, 0.3),
)


@pytest.fixture
def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 3), nn.Tanh(), nn.Linear(3, 2))


@pytest.mark.parametrize("layer", [DYNAMIC, STATIC, WHOLE])
@pytest.mark.parametrize("isa", ["avx2", "vnni"])
def test_the_forward_pass_is_that_of_the_simulation(layer, isa, network):
    inputs = torch.randn(5, 7, 4)
    with sensitivity.quantized(network, {"0": layer}, isa), torch.no_grad():
        wanted = network(inputs)
    with straight_through.rounding(network, {"0": layer}, isa), torch.no_grad():
        torch.testing.assert_close(network(inputs), wanted)
    assert "forward" not in vars(network[0])


@pytest.mark.parametrize("layer", [DYNAMIC, STATIC, WHOLE])
def test_a_table_of_positions_is_rounded_as_in_the_simulation(layer):
    network = classifier("deberta-v3", "eager", share_att_key=True, pos_att_type=["c2p", "p2c"])
    names = [name for name in sensitivity.linear_layers(network) if name.endswith("key_proj")]
    if layer is WHOLE:
        layer = layer.model_copy(update={"factors": (2.0,) * 32, "correction": (0.5,) * 32})
    layers, rows = dict.fromkeys(names, layer), {"input_ids": torch.tensor([[5, 6, 7, 8]])}
    with sensitivity.quantized(network, layers, "avx2"), torch.no_grad():
        wanted = network(**rows).logits
    with straight_through.rounding(network, layers, "avx2"), torch.no_grad():
        torch.testing.assert_close(network(**rows).logits, wanted)


def test_mixed_precision_rounds_no_further(network):
    inputs = torch.randn(5, 7, 4)
    with sensitivity.quantized(network, {"0": STATIC}, "vnni"), torch.no_grad():
        wanted = network[0](inputs)
    with straight_through.rounding(network, {"0": STATIC}, "vnni"), torch.autocast("cpu"):
        torch.testing.assert_close(network[0](inputs), wanted)


def test_gradients_are_those_of_the_rounded_numbers_and_pass_through_the_rounding(network):
    inputs = torch.randn(6, 4, requires_grad=True)
    with straight_through.rounding(network, {"0": DYNAMIC}, "vnni"):
        network(inputs).sum().backward()
    plain = copy.deepcopy(network)
    weight = sensitivity.fake_quantize_weight(plain[0].weight.data, "vnni")
    plain[0].weight.data, plain[0].weight.grad = weight, None
    rounded = sensitivity.rounded_inputs(inputs.detach(), DYNAMIC).requires_grad_()
    plain(rounded).sum().backward()
    torch.testing.assert_close(network[0].weight.grad, plain[0].weight.grad)
    torch.testing.assert_close(inputs.grad, rounded.grad)


def test_inputs_outside_a_static_range_have_no_gradient(network):
    inputs = torch.tensor([[-3.0, -0.5, 1.5, 5.0]], requires_grad=True)
    with straight_through.rounding(network, {"0": STATIC}, "vnni"):
        network(inputs).sum().backward()
    assert (inputs.grad[0] != 0).tolist() == [False, True, True, False]


def test_an_adapter_is_rounded_with_the_weight_it_is_merged_into(network):
    config = peft.LoraConfig(r=2, target_modules=["0"], init_lora_weights=False)
    adapted = peft.get_peft_model(copy.deepcopy(network), config)
    inputs = torch.randn(5, 4)
    with straight_through.rounding(adapted.get_base_model(), {"0": DYNAMIC}, "avx2"):
        given = adapted(inputs)
        given.sum().backward()
    trained = {name for name, value in adapted.named_parameters() if value.grad is not None}
    assert {name.split(".")[-3] for name in trained} == {"lora_A", "lora_B"}
    merged = adapted.merge_and_unload()
    with sensitivity.quantized(merged, {"0": DYNAMIC}, "avx2"), torch.no_grad():
        torch.testing.assert_close(given.detach(), merged(inputs))


@pytest.mark.parametrize("adapter", [False, True])
def test_padding_does_not_change_what_a_row_is_trained_under(adapter, tuned, make_context):
    tokenizer = checkpoint.load_tokenizer(tuned.directory)
    network = trained = checkpoint.load(tuned.directory)
    names = sensitivity.linear_layers(network)
    if adapter:
        trained = peft.get_peft_model(network, peft.LoraConfig(target_modules=["query"]))
        network = trained.get_base_model()
    rows = ranges.rows(make_context(), tokenizer, "train", 8)
    rows = [{key: row[key] for key in ("input_ids", "attention_mask")} for row in rows]
    assert len({len(row["input_ids"]) for row in rows}) > 1
    layers = dict.fromkeys(names, DYNAMIC)
    padding = tokenizer.pad_token_id
    with straight_through.rounding(network, layers, "avx2", padding), torch.no_grad():
        together = trained(**collate(rows, tokenizer)).logits
        alone = [trained(**collate([row], tokenizer)).logits for row in rows]
    alone = torch.cat(alone)
    torch.testing.assert_close(together, alone)
    with straight_through.rounding(network, layers, "avx2"), torch.no_grad():
        padded = trained(**collate(rows, tokenizer)).logits
    assert (padded - alone).abs().max() > 10 * (together - alone).abs().max()
