"""The stage ``augment``, and the mathematics beside."""

from rarefy.stages.augment.stage import Augment

__all__ = ["Augment"]
