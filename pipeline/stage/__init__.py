"""The API for stage authors: ``from pipeline.stage import Stage, Context, Draft``."""

from pipeline.stage.contract import Asked, Context, Draft, Quantization, Stage

__all__ = ["Asked", "Context", "Draft", "Quantization", "Stage"]
