"""The stage ``quantize``, and the mathematics beside."""

from rarefy.stages.quantize.stage import Quantize

__all__ = ["Quantize"]
