"""Random classifiers of every architecture, and their answers under masks."""

from __future__ import annotations

import torch
import transformers

from tests.models import LABELS

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
_OTHER_IDS = {"bos_token_id": 2, "eos_token_id": 3, "cls_token_id": 2, "sep_token_id": 3}
_RELATIVE = {"relative_attention": True, "pos_att_type": ["p2c", "c2p"]}
_V3 = {"position_buckets": 4, "norm_rel_ebd": "layer_norm", "share_att_key": True}
FURTHER: dict[str, dict] = {
    # Windows and buckets are shorter than the rows, or they would change nothing.
    "modernbert": {"local_attention": 4, "global_attn_every_n_layers": 2, **_OTHER_IDS},
    "deberta": _RELATIVE | {"max_relative_positions": 4, "type_vocab_size": 0},
    "deberta-v2": _RELATIVE | {"position_buckets": 4, "conv_kernel_size": 3, "embedding_size": 16},
    "deberta-v3": _RELATIVE | _V3 | {"position_biased_input": False},
}
"""What a family's config has besides ``SIZES``. DeBERTa-v3 has the model type of v2."""


PATHS = {  # taken from transformers' modelling code, not from the code under test
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
    "modernbert": ("model.layers.{}.attn.Wo", "model.layers.{}.mlp.Wo"),
}
for _kind in ("xlm-roberta", "camembert"):
    PATHS[_kind] = PATHS["roberta"]
for _kind, _prefix in {
    "ernie": "ernie",
    "data2vec-text": "data2vec_text",
    "roberta-prelayernorm": "roberta_prelayernorm",
    "deberta": "deberta",
    "deberta-v2": "deberta",
    "deberta-v3": "deberta",
}.items():
    PATHS[_kind] = tuple(path.replace("bert", _prefix, 1) for path in PATHS["bert"])


def classifier(kind: str, attention: str = "sdpa", **sizes):
    torch.manual_seed(1)
    values = SIZES.get(kind, SIZES["bert"]) | FURTHER.get(kind, {}) | sizes
    config = transformers.AutoConfig.for_model(
        kind.replace("v3", "v2"),
        **({"vocab_size": 29, "max_position_embeddings": 64, "pad_token_id": 0} | values),
    )
    config.id2label = dict(enumerate(LABELS))
    model = transformers.AutoModelForSequenceClassification.from_config(
        config, attn_implementation=attention
    )
    with torch.no_grad():  # initial weights of 0.02 make all logits alike
        for parameter in model.parameters():
            parameter.mul_(4) if parameter.dim() == 2 else parameter.add_(
                0.1 * torch.randn_like(parameter)
            )
    return model.eval()


def masked_logits(model, masks):
    """Return the logits with some inputs of named linear layers set to zero."""
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
