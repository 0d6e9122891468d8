"""Stages and parameters that rarefy no longer has, with what a recipe should use instead."""

from __future__ import annotations

REMOVED = {
    "write": "make the texts with any language model and name the file in `augment: {texts: …}`",
    "rewrite": "make the texts with any language model and name the file in `augment: {texts: …}`",
    "augment.transfer": "give the file with the texts as `texts: [{file: …}]`",
    "qat": "leave it out; `quantize` plans int8 without training",
    "adapt.qat": "leave it out; `quantize` after `merge` plans int8 without training",
    "distill.relation_weight": "remove it; training on the predictions is as effective",
    "distill.attention_weight": "remove it; training on the predictions is as effective",
    "distill.relation_heads": "leave it out; relations and attention are no longer compared",
    "augment.noised": "leave it out; noise gave no more than chance does",
    "distill.answer_loss": "remove it; predictions are compared by their divergence",
    "label.confidence": "remove it; a student also learns from uncertain predictions",
    "distill.hidden_loss": "leave it out; states are compared by their squared difference",
    "distill.hidden_map": "leave it out; layers learn from those at the same share of the depth",
    "quantize.correct_bias": "leave it out; it made results worse",
}
"""What to do, by the name of a stage or by ``stage.parameter``."""


def advise_instead(stage: str, parameter: str | None = None) -> str | None:
    """Return an error text for a stage or one of its parameters if it was removed, else None."""
    name = stage if parameter is None else f"{stage}.{parameter}"
    if name not in REMOVED:
        return None
    return f"{name!r} was removed before 0.1.0: {REMOVED[name]}"
