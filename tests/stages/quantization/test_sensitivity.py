"""The effect of rounding on a layer."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn
from transformers import AlbertModel, BertModel

from rarefy.pipeline.data.split import Split
from rarefy.pipeline.model import checkpoint
from rarefy.pipeline.model.quantization.plan import LinearPlan
from rarefy.pipeline.tasks.token_classification.task import TOKEN_CLASSIFICATION
from rarefy.pipeline.terms.progress import silent
from rarefy.stages.quantization import sensitivity
from rarefy.stages.quantization.sensitivity import Replay, layers_of
from tests.breadth import broad
from tests.families import FAMILIES, write_family
from tests.models import write_model
from tests.stages.classifiers import classifier

ROWS = [{"input_ids": [2, *range(5, 5 + length), 3]} for length in (3, 3, 9, 1)]
CLASSIFIER = "AutoModelForSequenceClassification"


def test_fake_quantization_is_pytorchs():
    """Checked against torch's own affine quantization."""
    values = torch.from_numpy(np.random.default_rng(0).normal(size=500).astype(np.float32))
    low, high = values.min(), values.max()
    step = float(high - low) / 255
    want = torch.quantize_per_tensor(values, step, round(-float(low) / step), torch.quint8)
    got = sensitivity.fake_quantize(values, low, high)
    clear = ((values / step).remainder(1) - 0.5).abs() > 1e-3  # halves are rounded to either side
    torch.testing.assert_close(got[clear], want.dequantize()[clear], atol=1e-5, rtol=0)
    assert clear.float().mean() > 0.99
    inside = (values > low + step) & (values < high - step)
    assert (got - values)[inside].abs().max() <= step * 0.501
    wide = sensitivity.fake_quantize(torch.tensor([2.0, 3.0]), torch.tensor(2.0), torch.tensor(3.0))
    torch.testing.assert_close(wide, torch.tensor([170.0, 255.0]) * 3 / 255)  # zero is in it


@pytest.mark.parametrize(("precision", "most"), [("float", 0), ("int8", 1 / 127), ("int4", 2 / 15)])
def test_tables_are_rounded_as_a_bundle_stores_them_inside_the_block_only(precision, most):
    torch.manual_seed(0)
    large, small = torch.nn.Embedding(2000, 64), torch.nn.Embedding(2, 64)
    model = torch.nn.ModuleList([large, small])
    exact = [table.weight.detach().clone() for table in (large, small)]
    with sensitivity.rounded_tables(model, precision):
        error = (large.weight - exact[0]).abs().max() / exact[0].abs().max()
        assert most / 3 <= error <= most
        assert torch.equal(small.weight, exact[1])
    assert all(torch.equal(t.weight, e) for t, e in zip((large, small), exact, strict=True))


def test_words_that_are_cut_off_do_not_dilute_the_damage(tmp_path):
    """Taggers answer them with NaN in training's rows, whatever is rounded."""
    task = TOKEN_CLASSIFICATION.bind(("O", "B-X"), 12, ("text",))
    text = "good food bad food good food bad food good food"
    model = write_model(tmp_path, "bert", "AutoModelForTokenClassification", task.labels)
    tokenizer = checkpoint.load_tokenizer(tmp_path)
    names = sensitivity.linear_layers(model)
    layers = dict.fromkeys(names, LinearPlan(precision="int8"))
    damages = []
    for more in (0, 30):  # words that are cut off
        split = Split("dev", "dev.jsonl", "0" * 64, [text + " bad" * more], None, None)
        rows = task.encoder.encode(tokenizer, split)
        measured = sensitivity.Sensitivity(task, model, rows, "avx2")
        assert int(measured.exact.isnan().any(-1).sum()) == more
        damages.append(measured.damage(layers))
    assert damages[0] == pytest.approx(damages[1])
    assert damages[0] > 0


def test_the_pooler_of_a_body_is_left_out_whatever_it_is():
    """ALBERT's is a linear layer of that name, BERT's has one."""
    for kind, model in (("albert", AlbertModel), ("bert", BertModel)):
        names = sensitivity.linear_layers(model(classifier(kind, "eager").config))
        assert names
        assert not [name for name in names if "pooler" in name]


@pytest.mark.parametrize("factors", [False, True])
def test_a_table_of_positions_is_rounded_as_in_a_bundle(factors):
    """There it is a constant that products with rounded weights take: no range cuts it."""
    network = classifier("deberta-v3", "eager", share_att_key=True, pos_att_type=["c2p", "p2c"])
    names = [name for name in sensitivity.linear_layers(network) if name.endswith("query_proj")]
    divided = tuple(np.linspace(0.5, 2, network.config.hidden_size).tolist()) if factors else None
    layer = LinearPlan(precision="int8", low=-0.1, high=0.1, factors=divided)
    weights = {
        name: sensitivity.rounded_weight(sensitivity.linear(network, name), layer, "avx2")
        for name in names
    }
    given: dict[str, list[torch.Tensor]] = {name: [] for name in names}
    made: dict[str, list[torch.Tensor]] = {name: [] for name in names}
    with torch.no_grad(), sensitivity.quantized(network, dict.fromkeys(names, layer), "avx2"):
        for name in names:  # after the hooks that round
            sensitivity.linear(network, name).register_forward_pre_hook(
                lambda _, inputs, name=name: given[name].append(inputs[0])
            )
            sensitivity.linear(network, name).register_forward_hook(
                lambda *seen, name=name: made[name].append(seen[-1])
            )
        network(input_ids=torch.full((2, 7), 5))
    for name in names:
        text, table = given[name]
        assert text.abs().max() <= 0.11
        assert table.abs().max() > 0.2
        bias = sensitivity.linear(network, name).bias
        torch.testing.assert_close(made[name][0], text @ weights[name].T + bias)
        torch.testing.assert_close(made[name][1], table @ weights[name].T + bias)


def calls(model: nn.Module) -> list[int]:
    """Return a list that grows with every linear layer that is computed."""
    found: list[int] = []
    for module in model.modules():
        if isinstance(module, nn.Linear):
            module.register_forward_hook(lambda *_: found.append(1))
    return found


@pytest.mark.parametrize("family", broad(FAMILIES, "bert", "deberta-v3", "llama"))
def test_layers_do_the_same_damage_as_in_whole_passes(family, tmp_path, make_context):
    model = write_family(tmp_path, family, CLASSIFIER)
    measured = sensitivity.Sensitivity(make_context().task, model, ROWS, "vnni")
    plan = {
        name: LinearPlan(precision="int8") for name in reversed(sensitivity.linear_layers(model))
    }
    seen = calls(model)
    whole = {name: measured.damage({name: layer}) for name, layer in plan.items()}
    computed = len(seen)
    for order in (list(plan), list(reversed(plan))):
        seen.clear()
        found = measured.damages({name: plan[name] for name in order}, silent)
        assert found == whole
    assert max(whole.values()) > 0
    if layers_of(model):
        assert len(seen) < 0.9 * computed
    assert torch.equal(measured._answers(), measured.exact)


def test_a_model_runs_whole_outside_and_after_an_error(tmp_path):
    model = write_family(tmp_path, "bert", CLASSIFIER)
    seen = calls(model)

    def run() -> None:
        with torch.no_grad():
            model(input_ids=torch.tensor([ROWS[0]["input_ids"]]))

    run()
    whole = len(seen)
    replay = Replay(model)
    replay.before(model.bert.encoder.layer[2].output.dense, run)
    with pytest.raises(RuntimeError, match="stop"), replay.skipping():
        raise RuntimeError("stop")
    seen.clear()
    run()
    assert len(seen) == whole
    seen.clear()
    with replay.skipping():
        run()
    assert len(seen) == whole - 2 * 6


@pytest.mark.parametrize("family", ["albert", "llama"])
def test_nothing_is_skipped_in_families_that_are_not_described(family, tmp_path):
    assert layers_of(write_family(tmp_path, family, CLASSIFIER)) == []
