"""Stages and keys that rarefy no longer has, or calls by another name, with what to write instead.

A name is that of a stage, ``stage.parameter``, or ``key.key`` in the file of a sweep.
"""

from __future__ import annotations

from typing import Final

REMOVED: Final = {
    "write": "make the texts with any language model and name the file in `augment: {texts: …}`",
    "rewrite": "make the texts with any language model and name the file in `augment: {texts: …}`",
    "augment.transfer": "give the file with the texts as `texts: [{file: …}]`",
    "qat": "leave it out; `quantize` plans int8 without training",
    "adapt.qat": "leave it out; `quantize` after `merge` plans int8 without training",
    "distill.relation_weight": "remove it; training on the predictions is as effective",
    "distill.attention_weight": "remove it; training on the predictions is as effective",
    "distill.relation_heads": "leave it out; relations and attention are no longer compared",
    "augment.noised": "leave it out; noise gave no more than chance does",
    "distill.activation": "leave it out; ReLU gave no more than chance does",
    "distill.answer_loss": "remove it; predictions are compared by their divergence",
    "label.confidence": "remove it; a student also learns from uncertain predictions",
    "distill.hidden_weight": "leave it out; write `augment` and `label` before, or more `epochs`",
    "distill.hidden_loss": "leave it out; hidden states are no longer learned",
    "distill.hidden_map": "leave it out; hidden states are no longer learned",
    "distill.dropout": "leave it out; the teacher's soft predictions regularize a student",
    "adapt.method": "leave it out; adapters are LoRA, and DoRA gave no more",
    "factorize.embeddings": "write `quantize: {embeddings: int4}`, which keeps more at equal bytes",
    "factorize.speedup": "write `prune: {speedup: …, table: …}`, and `keep_weights` here, after it",
    "factorize.table": "write `prune: {speedup: …, table: …}`, and `keep_weights` here, after it",
    "inject.templates": "leave it out; a query is the subject with its relation",
    "inject.text_share": "leave it out; facts are learned as pairs of texts, alone",
    "inject.head_epochs": "leave it out; facts are learned without a head",
    "finetune.fit_head": "leave it out; the new head of a classifier is always fitted first",
    "finetune.label_smoothing": "leave it out; nothing shows that it helps",
    "quantize.percentile": "write `calibration: mse`, which is nearer to fp32",
    "quantize.correct_bias": "leave it out; it made results worse",
}
"""What to do, by the name of what is gone."""
RENAMED: Final = {
    "static": "'bag_of_tokens'",
    "prune.heads": "'remove_heads', the share to remove",
    "prune.neurons": "'remove_neurons', the share to remove",
    "prune.layers": "'remove_layers', the share or the layers to remove",
    "prune.macs": "'remove_macs', the share to remove",
    "prune.parameters": "'keep_parameters', the number to keep",
    "prune.rescale": "'repair'",
    "prune.least_count": "'min_count'",
    "distill.layers": "'keep_layers', the number or the layers to keep",
    "factorize.ratio": "'keep_weights', the share to keep",
    "augment.most": "'max_texts'",
    "quantize.minutes": "'seconds', 60 times the number",
    "adapt.target": "'modules'",
    "validate.examples": "'show_texts'",
    "ask.most": "'maximize'",
    "ask.least": "'minimize'",
}
"""What to write, by the old name."""


def advise_instead(stage: str, parameter: str | None = None) -> str | None:
    """Return an error text for a stage or one of its keys if it was removed or renamed, else None.

    A list in the file of a sweep counts as a stage.
    """
    name = stage if parameter is None else f"{stage}.{parameter}"
    if name in RENAMED:
        return f"{name!r} was renamed before 0.1.0: write {RENAMED[name]}"
    if name in REMOVED:
        return f"{name!r} was removed before 0.1.0: {REMOVED[name]}"
    return None
