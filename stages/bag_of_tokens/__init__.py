"""The stage ``bag_of_tokens``, and the mathematics beside."""

from rarefy.stages.bag_of_tokens.stage import BagOfTokens

__all__ = ["BagOfTokens"]
