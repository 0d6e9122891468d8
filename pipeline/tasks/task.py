"""A task: what a model learns to predict. Its identity, and six parts that do the work."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from rarefy.pipeline.tasks.encoder import Encoder, Requests
from rarefy.pipeline.tasks.head import Head
from rarefy.pipeline.tasks.objective import Objective
from rarefy.pipeline.tasks.part import Part
from rarefy.pipeline.tasks.presenter import Presenter
from rarefy.pipeline.tasks.reader import Reader
from rarefy.pipeline.tasks.scorer import Scorer
from rarefy.pipeline.terms.own_metric import OwnMetric
from rarefy.pipeline.terms.threshold import Threshold

if TYPE_CHECKING:
    from rarefy.pipeline.data.split import Split

PARTS = (Reader, Encoder, Head, Objective, Scorer, Presenter)
"""The classes that a task is made of; each has its interface, and defaults, in a file."""


@dataclass(frozen=True)
class Task:
    """A task. An installed one has no labels yet; ``bind`` gives it those of a recipe's data."""

    name: str
    reader: Reader
    encoder: Encoder
    head: Head
    objective: Objective
    scorer: Scorer
    presenter: Presenter
    version: int = 1
    """Raised when the same rows and model give other targets, losses, predictions or scores."""
    for_texts_alone: Task | None = None
    """The task of rows without labels, if that is another one."""
    unlabelled: bool = False
    """Whether rows have no labels, so that predictions of the recipe's model are the truth."""

    labels: tuple[str, ...] = ()
    """In the order of the model's outputs; empty if the task has none."""
    max_length: int = 0
    """The number of tokens to which a row is cut."""
    text_columns: tuple[str, ...] = ()
    windows: bool = False
    """Whether longer texts are predicted in windows; see ``Encoder.no_windows``."""
    threshold: Threshold | None = None
    """What the rows must keep that a bundle decides; see ``Head.abstains``."""
    settings: Mapping[str, Any] = field(default_factory=dict, hash=False)
    """What the config.json of one model says to the task, such as thresholds."""

    def __post_init__(self) -> None:
        """Let each part read the options of this task."""
        for name in ("reader", "encoder", "head", "objective", "scorer", "presenter"):
            part: Part = getattr(self, name)
            object.__setattr__(self, name, part.bound_to(self))

    def bind(
        self,
        labels: Sequence[str],
        max_length: int,
        text_columns: Sequence[str] = (),
        windows: bool = False,
    ) -> Task:
        """Return the task for the rows of a recipe."""
        return replace(
            self,
            labels=tuple(labels),
            max_length=max_length,
            text_columns=tuple(text_columns),
            windows=windows,
        )

    def of_model(self, config: Mapping[str, Any]) -> Task:
        """Return the task with what was chosen for the model that has this config.json."""
        return replace(self, settings=self.head.settings(config))

    def scoring(self, metric: OwnMetric) -> Task:
        """Return the task with a metric of one's own among its scores."""
        scorer = copy.copy(self.scorer)
        scorer.own = metric
        return replace(self, scorer=scorer)


def timed_requests(task: Task, split: Split) -> Requests:
    """Return those of the ``requests`` that reach a server one at a time: what is timed.

    Of texts that models read ``singly``, the first of each row: a search embeds a query when it
    comes, but its documents long before.
    """
    if task.reader.singly:
        return split.texts, None
    return task.encoder.requests(split)


def groups_of_blocks(task: Task, split: Split) -> list[int]:
    """Return the number of each block's group by ``data.group``; empty if no two share one.

    What a model predicts for the blocks of a group, such as a user's rows, tends to be correct and
    wrong together.
    """
    first_rows = task.scorer.blocks(split)
    groups = list(split.group_numbers)
    if groups and first_rows is not None:
        groups = [groups[row] for row in first_rows]
    if len(set(groups)) == len(groups):
        return []
    return groups


def count_predictions(task: Task, truth: Sequence[Any]) -> int:
    """Return the number of predictions that the truth asks for: one for each unit."""
    blocks = task.scorer.block_of_unit(truth)
    return len(truth if blocks is None else blocks)
