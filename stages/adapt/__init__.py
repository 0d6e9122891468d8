"""The stages ``adapt`` and ``merge``, and the mathematics beside."""

from rarefy.stages.adapt.merge import Merge
from rarefy.stages.adapt.stage import Adapt

__all__ = ["Adapt", "Merge"]
