"""The stage ``validate``, and the mathematics beside."""

from rarefy.stages.validate.stage import Validate

__all__ = ["Validate"]
