"""The stage ``static``, and the mathematics beside."""

from rarefy.stages.static.stage import Static

__all__ = ["Static"]
