"""The stages ``profile`` and ``prune``, and the mathematics beside."""

from rarefy.stages.prune.profile import Profile
from rarefy.stages.prune.stage import Prune

__all__ = ["Profile", "Prune"]
