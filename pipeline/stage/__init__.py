"""The API for stage authors: ``from rarefy.pipeline.stage import Stage, Context, Draft``."""

from rarefy.pipeline.stage.contract import Asked, Context, Draft, Quantization, Stage

__all__ = ["Asked", "Context", "Draft", "Quantization", "Stage"]
