"""The API for stage authors: ``from pipeline.stage import Stage, Context, Draft``."""

from pipeline.stage.contract import Context, Draft, Policy, Requirements, Stage, StageCheck

__all__ = ["Context", "Draft", "Policy", "Requirements", "Stage", "StageCheck"]
