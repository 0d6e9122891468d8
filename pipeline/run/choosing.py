"""What a task chooses for each model on the development split, such as thresholds."""

from __future__ import annotations

import json
from pathlib import Path

from pipeline.stage import Context
from pipeline.stage.development import NAME
from pipeline.store.artifact import Kind

HEADED = (Kind.CHECKPOINT, Kind.ADAPTER)
"""The kinds of models with a head, for which it is chosen; a bundle's is chosen by its export."""
CONFIG = "config.json"


def choose(context: Context, kind: Kind, directory: Path) -> None:
    """Choose for the model that a stage wrote to ``directory``, and write it to its config.json.

    Does nothing for a task that chooses nothing, for rows without labels, and for other kinds. A
    model whose own answers are the truth does not receive the rows: it keeps what it has.
    """
    from pipeline.measure import accuracy

    task, split = context.task, context.splits.get(NAME)
    if not task.chooses or kind not in HEADED or split is None or split.labels is None:
        return
    outputs = accuracy.checkpoint_outputs(directory, task, split, context.progress, context.device)
    config = json.loads((directory / CONFIG).read_text(encoding="utf-8"))
    text = json.dumps(config | task.choose(outputs, split).chosen(), indent=2, sort_keys=True)
    (directory / CONFIG).write_text(text + "\n", encoding="utf-8")
