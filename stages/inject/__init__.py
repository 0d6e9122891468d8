"""The stage ``inject``, and the mathematics beside."""

from rarefy.stages.inject.stage import Inject

__all__ = ["Inject"]
