"""What a stage author needs: ``from pipeline.stage import Stage, Context, Draft``."""

from pipeline.stage.contract import Asked, Context, Draft, Quantization, Stage

__all__ = ["Asked", "Context", "Draft", "Quantization", "Stage"]
