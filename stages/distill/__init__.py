"""The stage ``distill``."""

from rarefy.stages.distill.stage import Distill

__all__ = ["Distill"]
