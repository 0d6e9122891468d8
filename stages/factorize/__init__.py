"""The stage ``factorize``, and the mathematics beside."""

from rarefy.stages.factorize.stage import Factorize

__all__ = ["Factorize"]
