"""What a task decides for each model on the development split, such as thresholds."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Final

from rarefy.pipeline.data.development_split import NAME
from rarefy.pipeline.stage import Context
from rarefy.pipeline.store.artifact import HEADED, Kind

CONFIG: Final = "config.json"


def choose(context: Context, kind: Kind, directory: Path) -> None:
    """Decide for the model that a stage wrote to a directory, and write it to its config.json.

    Does nothing for a task that decides nothing, for rows without labels, and for models without a
    head; for a bundle, its export decides. A model whose own answers are the truth does not receive
    the rows: it keeps what it has.
    """
    task = context.task
    if not task.head.chooses or kind not in HEADED:
        return
    split = context.splits.get(NAME)
    if split is None or split.labels is None:
        return
    from rarefy.pipeline.measure.predictions import predict as accuracy

    outputs = accuracy.checkpoint_outputs(directory, task, split, context.progress, context.device)
    decisions = task.head.choose(outputs, split)
    path = directory / CONFIG
    config = json.loads(path.read_text(encoding="utf-8"))
    text = json.dumps(config | decisions, indent=2, sort_keys=True)
    path.write_text(text + "\n", encoding="utf-8")
