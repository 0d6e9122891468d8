"""Random classifiers of many families, and rows up to 512 tokens."""

from __future__ import annotations

from typing import Any

from rarefy.pipeline.model.quantization.plan import Calibration, LinearPlan, Plan

DECODER = {"num_key_value_heads": 2, "head_dim": 8}
DISENTANGLED = {
    "relative_attention": True,
    "pos_att_type": ["p2c", "c2p"],
    "position_biased_input": False,
    "max_relative_positions": -1,
}
# What a family needs besides the sizes that all have. Windows and buckets are far shorter than 512.
FAMILIES: dict[str, dict[str, Any]] = {
    "bert": {},
    "roberta": {"max_position_embeddings": 513},
    "xlm-roberta": {"max_position_embeddings": 513},
    "camembert": {"max_position_embeddings": 513},
    "electra": {"embedding_size": 16},
    "distilbert": {"n_layers": 2, "dim": 32, "n_heads": 4, "hidden_dim": 64},
    "mpnet": {"max_position_embeddings": 514},
    "deberta": DISENTANGLED,
    "deberta-v2": DISENTANGLED
    | {"position_buckets": 8, "norm_rel_ebd": "layer_norm", "share_att_key": True},
    "modernbert": {"local_attention": 16, "global_attn_every_n_layers": 2},
    "albert": {"embedding_size": 16},
    "gpt2": {},
    "llama": DECODER,
    "qwen3": DECODER,
    "gemma3_text": DECODER | {"sliding_window": 16},
}
PAD = 0
MASKS = {"modernbert": 1, "deberta": 0, "deberta-v2": 0, "gpt2": 0}
MASKS |= dict.fromkeys(("llama", "qwen3", "gemma3_text"), 0)
"""How many layers have a padding mask that the mask pass may replace; the others have two."""


def classifier(kind: str, **changes: Any) -> Any:
    """Return a random classifier with three labels, whose answers to rows differ much."""
    import torch
    import transformers

    sizes: dict[str, Any] = {"vocab_size": 100, "max_position_embeddings": 512}
    sizes |= {"pad_token_id": PAD, "bos_token_id": 2, "eos_token_id": 3}
    if kind != "distilbert":
        sizes |= {"num_hidden_layers": 2, "hidden_size": 32, "num_attention_heads": 4}
        sizes |= {"intermediate_size": 64}
    settings = sizes | FAMILIES.get(kind, {}) | changes
    config = transformers.AutoConfig.for_model(kind, num_labels=3, **settings)
    torch.manual_seed(3)
    model = transformers.AutoModelForSequenceClassification.from_config(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() == 2:
                parameter.mul_(40 if len(parameter) == 3 else 4)
            else:
                parameter.add_(0.1 * torch.randn_like(parameter))
    return model


def integer(model: Any, mode: str) -> Plan:
    """Return a plan with every linear layer but the last in int8."""
    from rarefy.stages.quantization import ranges, sensitivity

    names = sensitivity.linear_layers(model)
    rows = [{name: ids[name] for name in ("input_ids", "attention_mask")} for ids in SHORT + LONG]
    limits = {}
    if mode == "static":
        found = ranges.measure(model, names, rows, Calibration(rows=len(rows)))
        limits = {name: each._asdict() for name, each in found.items()}
    linears = {name: LinearPlan(precision="int8", **limits.get(name, {})) for name in names}
    return Plan(mode=mode, linears=linears)


def row(length: int) -> dict[str, list[int]]:
    """Return a row of random tokens between a first and a last special one."""
    import random

    ids = [2, *random.Random(length).choices(range(5, 100), k=length), 3][:length]
    return {"input_ids": ids, "attention_mask": [1] * length, "token_type_ids": [0] * length}


SHORT = [row(length) for length in (8, 3, 12, 5, 20, 7, 9, 15)]
LONG = [row(length) for length in (16, 17, 18, 33, 300, 511, 512)]
