"""What is pruned is gone for real, and the rest answers as the masked original does."""

import copy

import pytest
import torch
import transformers
from torch.nn import functional

from pipeline.model import checkpoint
from pipeline.store.artifact import Kind
from pipeline.terms.errors import ModelError
from stages import calibration, fisher, rescaling, surgery
from stages.prune import Prune, least_needed_layers
from tests.models import BAD, FILL, GOOD, LABELS, artifact_of, write_encoder

IDS = torch.tensor([[2, 8, 9, 20, 11, 3], [2, 6, 21, 3, 0, 0]])
MASK = torch.tensor([[1] * 6, [1, 1, 1, 1, 0, 0]])
SIZES = {
    "bert": {
        "hidden_size": 32,
        "num_attention_heads": 4,
        "intermediate_size": 64,
        "num_hidden_layers": 3,
    },
    "distilbert": {"dim": 32, "n_heads": 4, "hidden_dim": 64, "n_layers": 3},
}
PATHS = {  # written from the modelling source, not from the code under test
    "bert": ("bert.encoder.layer.{}.attention.output.dense", "bert.encoder.layer.{}.output.dense"),
    "roberta": (
        "roberta.encoder.layer.{}.attention.output.dense",
        "roberta.encoder.layer.{}.output.dense",
    ),
    "electra": (
        "electra.encoder.layer.{}.attention.output.dense",
        "electra.encoder.layer.{}.output.dense",
    ),
    "distilbert": (
        "distilbert.transformer.layer.{}.attention.out_lin",
        "distilbert.transformer.layer.{}.ffn.lin2",
    ),
    "mpnet": ("mpnet.encoder.layer.{}.attention.attn.o", "mpnet.encoder.layer.{}.output.dense"),
}


def classifier(kind: str, attention: str = "sdpa", **sizes):
    torch.manual_seed(1)
    values = SIZES.get(kind, SIZES["bert"]) | sizes
    config = transformers.AutoConfig.for_model(
        kind, **({"vocab_size": 29, "max_position_embeddings": 64, "pad_token_id": 0} | values)
    )
    config.id2label = dict(enumerate(LABELS))
    model = transformers.AutoModelForSequenceClassification.from_config(
        config, attn_implementation=attention
    )
    with torch.no_grad():  # fresh weights of 0.02 make all logits alike
        for parameter in model.parameters():
            parameter.mul_(4) if parameter.dim() == 2 else parameter.add_(
                0.1 * torch.randn_like(parameter)
            )
    return model.eval()


def masked_logits(model, masks):
    """Logits with some inputs of named linear layers set to zero."""
    handles = [
        model.get_submodule(name).register_forward_pre_hook(lambda _, x, m=mask: (x[0] * m,))
        for name, mask in masks.items()
    ]
    with torch.no_grad():
        logits = model(input_ids=IDS, attention_mask=MASK).logits
    for handle in handles:
        handle.remove()
    return logits


def one_where(kept, size, width=1):
    mask = torch.zeros(size)
    mask[kept] = 1
    return mask.repeat_interleave(width)


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
@pytest.mark.parametrize("kind", ["bert", "roberta", "electra", "distilbert"])
def test_uneven_removal_equals_masking_in_every_architecture(kind, attention, tmp_path):
    model = classifier(kind, attention)
    heads, neurons = [[0], [1, 2, 3], [0, 1, 2, 3]], [range(16), range(5, 53), range(64)]
    masks = {PATHS[kind][0].format(i): one_where(kept, 4, 8) for i, kept in enumerate(heads)}
    masks |= {PATHS[kind][1].format(i): one_where(list(kept), 64) for i, kept in enumerate(neurons)}
    expected = masked_logits(model, masks)
    assert (expected - masked_logits(model, {})).abs().max() > 1e-2
    for unit, kept in (("heads", heads), ("neurons", neurons)):
        for part, units in zip(surgery.parts(model, unit), kept, strict=True):
            surgery.keep_units(part, torch.tensor(list(units)))
    torch.testing.assert_close(masked_logits(model, {}), expected, atol=1e-4, rtol=0)

    tokenizer = checkpoint.load_tokenizer(write_encoder(tmp_path / "tokenizer"))
    checkpoint.save(model, tokenizer, tmp_path / "pruned")
    again = checkpoint.load(tmp_path / "pruned")
    again.set_attn_implementation(attention)
    torch.testing.assert_close(masked_logits(again, {}), expected, atol=1e-4, rtol=0)
    told = checkpoint.describe(again)
    assert (told["heads"], told["intermediate"]) == ([1, 3, 4], [16, 48, 64])


def test_mpnet_loses_neurons_and_layers_but_no_heads():
    model = classifier("mpnet", "eager")
    with pytest.raises(ModelError, match="relative positions"):
        surgery.parts(model, "heads")
    expected = masked_logits(model, {PATHS["mpnet"][1].format(0): one_where([3, 5, 8], 64)})
    surgery.keep_units(surgery.parts(model, "neurons")[0], torch.tensor([3, 5, 8]))
    torch.testing.assert_close(masked_logits(model, {}), expected, atol=1e-4, rtol=0)
    with surgery.skipped([checkpoint.encoder_layers(model)[1]]):
        expected = masked_logits(model, {})
    surgery.keep_layers(model, [0, 2])
    torch.testing.assert_close(masked_logits(model, {}), expected)


@pytest.fixture
def fresh(tmp_path):
    """A classifier as a checkpoint artifact."""
    tokenizer = checkpoint.load_tokenizer(write_encoder(tmp_path / "encoder"))
    checkpoint.save(classifier("bert"), tokenizer, tmp_path / "model")
    return artifact_of(tmp_path / "model", Kind.CHECKPOINT)


@pytest.mark.parametrize("method", ["fisher", "taylor", "magnitude"])
def test_stage_removes_the_share_and_equals_the_masked_original(fresh, make_context, method):
    context = make_context()
    stage = Prune(heads="25 %", neurons="50 %", method=method, rescale=False)
    draft = stage.run(context, fresh)
    original, pruned = checkpoint.load(fresh.directory), checkpoint.load(context.output)
    assert sum(draft.model["heads"]) == 9
    assert sum(draft.model["intermediate"]) == pytest.approx(96, abs=24)
    assert all(count % 16 == 0 for count in draft.model["intermediate"])
    assert draft.model["parameters"] < checkpoint.describe(original)["parameters"]
    masks = {}
    layers = zip(original.bert.encoder.layer, pruned.bert.encoder.layer, strict=True)
    for i, (old, new) in enumerate(layers):
        rows, kept = old.intermediate.dense.weight, new.intermediate.dense.weight
        found = [int((rows - row).abs().sum(1).argmin()) for row in kept]
        masks[PATHS["bert"][1].format(i)] = one_where(found, 64)
        rows, kept = old.attention.self.query.weight, new.attention.self.query.weight
        found = [int((rows - row).abs().sum(1).argmin()) for row in kept]
        masks[PATHS["bert"][0].format(i)] = one_where(found, 32)
    expected = masked_logits(original, masks)
    torch.testing.assert_close(masked_logits(pruned, {}), expected, atol=1e-4, rtol=0)


def test_same_seed_same_bytes(fresh, make_context):
    outputs = []
    for _ in range(2):
        context = make_context()
        Prune(heads=0.25, neurons=0.5, layers=0.34, vocabulary=True).run(context, fresh)
        outputs.append({p.name: p.read_bytes() for p in sorted(context.output.iterdir())})
    assert outputs[0] == outputs[1]
    assert "shapes.json" in outputs[0]


def test_every_layer_keeps_a_head_and_some_neurons(fresh, make_context):
    draft = Prune(heads=0.95, neurons=0.95).run(make_context(), fresh)
    assert draft.model["heads"] == [1, 1, 1]
    assert draft.model["intermediate"] == [16, 16, 16]


def test_layers_by_index_and_by_importance(fresh, make_context):
    context = make_context()
    Prune(layers=[1]).run(context, fresh)
    original = checkpoint.load(fresh.directory)
    with surgery.skipped([original.bert.encoder.layer[1]]):
        expected = masked_logits(original, {})
    torch.testing.assert_close(masked_logits(checkpoint.load(context.output), {}), expected)
    for wrong in ([3], [0, 1, 2]):
        with pytest.raises(ModelError, match=r"prune\.layers"):
            Prune(layers=wrong).run(make_context(), fresh)


def test_a_layer_that_does_nothing_goes_first():
    model = classifier("bert")
    idle = model.bert.encoder.layer[1]
    with torch.no_grad():
        idle.attention.output.dense.weight.zero_()
        idle.attention.output.dense.bias.zero_()
        idle.output.dense.weight.zero_()
        idle.output.dense.bias.zero_()
        before = model.bert.encoder.layer[0].output.LayerNorm
        for norm in (idle.attention.output.LayerNorm, idle.output.LayerNorm):
            norm.weight.fill_(1), norm.bias.zero_()
        before.weight.fill_(1), before.bias.zero_()
    batch = {"input_ids": IDS, "attention_mask": MASK}
    assert least_needed_layers(model, 1, [batch], lambda *_: None) == {1}


def test_mask_gradients_are_those_of_finite_differences():
    model = classifier("bert").double()
    parts = [surgery.parts(model, "heads")[1], surgery.parts(model, "neurons")[0]]
    labels = torch.tensor([0, 1])
    batch = {"input_ids": IDS, "attention_mask": MASK, "labels": labels}
    torch.set_default_dtype(torch.float64)
    try:
        heads, neurons = fisher.mask_gradients(model, parts, batch)
    finally:
        torch.set_default_dtype(torch.float32)

    def loss(name, mask):
        logits = masked_logits(model, {name: mask})
        return functional.cross_entropy(logits, labels, reduction="none")

    for gradient, name, size, width, unit in (
        (heads, PATHS["bert"][0].format(1), 4, 8, 2),
        (neurons, PATHS["bert"][1].format(0), 64, 1, 17),
    ):
        step = torch.zeros(size, dtype=torch.float64)
        step[unit] = 1e-5
        up = loss(name, (1 + step).repeat_interleave(width))
        down = loss(name, (1 - step).repeat_interleave(width))
        torch.testing.assert_close(gradient[:, unit], (up - down) / 2e-5, atol=1e-7, rtol=1e-5)


def test_ranking_is_global_with_a_floor_and_multiples():
    importance = [torch.arange(64.0) + 100, torch.arange(64.0)]
    assert fisher.keep_counts(importance, 0.5, least=1) == [63, 1]
    assert fisher.keep_counts(importance, 0.5, least=16, multiple=16) == [48, 16]
    assert fisher.keep_counts(importance, 0.0, least=16, multiple=16) == [64, 64]
    assert fisher.best(torch.tensor([3.0, 9.0, 1.0, 5.0]), 2).tolist() == [1, 3]


def test_rearranging_keeps_one_of_two_twins():
    # Units 0 and 1 do the same; each alone looks cheaper than unit 2, both together are dear.
    gradients = torch.tensor([[1.0, 1.0, 1.2, 9.0], [1.0, 1.0, -1.2, 9.0]])
    block = gradients.T @ gradients
    kept = fisher.rearrange(block, torch.tensor([2, 3]))
    assert 3 in kept.tolist()
    assert len({0, 1} & set(kept.tolist())) == 1


def test_scales_are_the_least_squares_solution():
    torch.manual_seed(0)
    inputs, weight = torch.randn(50, 12), torch.randn(6, 12)
    target = torch.randn(50, 6)
    columns = [
        (inputs[:, u * 3 : u * 3 + 3] @ weight[:, u * 3 : u * 3 + 3].T).flatten() for u in range(4)
    ]
    expected = torch.linalg.lstsq(torch.stack(columns, 1).double(), target.flatten().double())
    gram, right = fisher.normal_equations(inputs, weight, target, 3)
    torch.testing.assert_close(
        fisher.solve_scales(gram, right, damping=1e-12), expected.solution, atol=1e-6, rtol=1e-6
    )
    assert fisher.solve_scales(gram, 1000 * right) is None


def test_rescaling_makes_up_for_a_removed_twin():
    """Two neurons that are copies: with one gone, the other must count twice."""
    model = classifier("bert")
    layer = model.bert.encoder.layer[2]
    with torch.no_grad():
        layer.intermediate.dense.weight[1] = layer.intermediate.dense.weight[0]
        layer.intermediate.dense.bias[1] = layer.intermediate.dense.bias[0]
        layer.output.dense.weight[:, 1] = layer.output.dense.weight[:, 0]
    whole = masked_logits(copy.deepcopy(model), {})
    part = surgery.parts(model, "neurons")[2:]
    rows = torch.randint(5, 29, (64, 8), generator=torch.Generator().manual_seed(0))
    batches = [{"input_ids": rows, "attention_mask": torch.ones_like(rows)}]
    goals = rescaling.streams(model, part, batches)
    surgery.keep_units(part[0], torch.tensor([0, *range(2, 64)]))
    pruned = masked_logits(model, {})
    assert rescaling.rescale(model, part, goals, batches, lambda *_: None) == 0
    scaled = masked_logits(model, {})
    assert (scaled - whole).abs().max() < 0.2 * (pruned - whole).abs().max()


def test_calibration_batches_need_no_padding():
    rows = [{"input_ids": [1] * length, "labels": 0} for length in (3, 5, 3, 5, 5, 9)]
    shapes = [tuple(b["input_ids"].shape) for b in calibration.batches(rows, "cpu", size=2)]
    assert shapes == [(2, 3), (2, 5), (1, 5), (1, 9)]


def test_nothing_to_remove_is_refused():
    with pytest.raises(ValueError, match="nothing to remove"):
        Prune()
    with pytest.raises(ValueError, match="less than or equal"):
        Prune(heads="99 %")


def test_recovery_brings_the_answers_back(fresh, make_context):
    losses = {}
    for epochs in (0, 3):
        context = make_context(rows=128)
        Prune(layers=[0], recover_epochs=epochs, learning_rate=2e-3).run(context, fresh)
        original, pruned = checkpoint.load(fresh.directory), checkpoint.load(context.output)
        tokenizer = checkpoint.load_tokenizer(context.output)
        words = tokenizer([" ".join((*FILL[:5], w)) for w in (*GOOD, *BAD)], return_tensors="pt")
        with torch.no_grad():
            own, theirs = pruned(**words).logits, original(**words).logits
        losses[epochs] = float(
            functional.kl_div(own.log_softmax(-1), theirs.softmax(-1), reduction="batchmean")
        )
    assert losses[3] < losses[0]
