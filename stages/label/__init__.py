"""The stage ``label``, and the mathematics beside."""

from rarefy.stages.label.stage import Label

__all__ = ["Label"]
