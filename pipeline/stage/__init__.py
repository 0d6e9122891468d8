"""The API for stage authors: ``from rarefy.pipeline.stage import Stage, Context, Draft``."""

from rarefy.pipeline.stage.contract import (
    Context,
    Draft,
    Opened,
    Policy,
    Requirements,
    Stage,
    StageCheck,
)

__all__ = ["Context", "Draft", "Opened", "Policy", "Requirements", "Stage", "StageCheck"]
