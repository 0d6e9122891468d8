"""The stage ``distill``, and the mathematics beside."""

from rarefy.stages.distill.stage import Distill

__all__ = ["Distill"]
