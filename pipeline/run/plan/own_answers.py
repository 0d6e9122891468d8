"""The answers of the recipe's model to its own rows: the truth, if the data has no labels.

They are computed once for each split and kept in the store as targets: for 100,000 rows, as many
class indices.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from pydantic import BaseModel

from rarefy.pipeline.data.split import Split
from rarefy.pipeline.recipe.recipe import LoadedRecipe
from rarefy.pipeline.store.artifact import Artifact, Kind
from rarefy.pipeline.store.store import Store
from rarefy.pipeline.tasks import Task
from rarefy.pipeline.terms.digests import value_sha256
from rarefy.pipeline.terms.errors import EvidenceError, RarefyError
from rarefy.pipeline.terms.progress import Progress

VERSION = 2


def check(loaded: LoadedRecipe, task: Task, imported: Kind) -> None:
    """Raise RecipeError if data without labels has no model that can label it.

    ``imported``: the kind of the recipe's model.
    """
    if not task.unlabelled:
        if loaded.recipe.data.label is None and not task.reader.searches:
            raise loaded.where.say(
                ("data", "label"),
                f"data.label is null, but the predictions of {task.name} cannot serve as labels; "
                "give a label column",
            )
        return
    if imported is not Kind.CHECKPOINT:
        raise loaded.where.say(
            ("data", "label"),
            "data.label is null, so the model's own predictions serve as labels, but the model "
            f"has no head for {task.name}; give a label column, or a fine-tuned model",
        )
    for step in loaded.steps:
        if step.stage.policy.needs_labels:
            raise loaded.error(
                step,
                "data.label is null, and the model would only learn its own predictions; begin "
                "with "
                "distill, prune or quantize, or give a label column",
            )


class Note(BaseModel):
    """What the store keeps of a split: the target of each row."""

    targets: list[Any]


@dataclass(frozen=True)
class OwnAnswers:
    """The targets that a model gives to the rows of those splits that it answers.

    Attributes:
        store: keeps the targets.
        model: the recipe's model.
        task: its task.
        splits: the splits by name.
        device: where the model runs.
        about: everything else that its answers depend on: how rows are read, the task, libraries.
    """

    store: Store
    model: Artifact
    task: Task
    splits: Mapping[str, Split]
    device: str
    about: Mapping[str, Any]

    def keep(self, progress: Progress, waiting: Callable[[], None]) -> None:
        """Answer the splits that the model has not answered yet, in fp32 PyTorch.

        Raises RarefyError if an answer is NaN or infinite.
        """
        for split in self._answered().values():
            key = self._key(split)
            if self.store.note(key, Note) is not None:
                continue
            with self.store.lock(key, waiting):
                if self.store.note(key, Note) is None:
                    targets = self._targets(split, progress)
                    self.store.keep_note(key, {"targets": targets})

    def attached(self) -> dict[str, Split]:
        """Return the splits with the answers as their targets.

        Raises EvidenceError if the model has not answered them yet.
        """
        splits = dict(self.splits)
        for name, split in self._answered().items():
            key = self._key(split)
            note = self.store.note(key, Note)
            if note is None:
                raise EvidenceError(
                    f"data.label is null, and the model's own predictions for {split.reference} "
                    "are "
                    "not in this store: run the recipe to create them"
                )
            splits[name] = replace(split, labels=note.targets)
        return splits

    def _answered(self) -> dict[str, Split]:
        answered = self.task.reader.self_labelled
        return {name: split for name, split in self.splits.items() if name in answered}

    def _key(self, split: Split) -> str:
        value = {
            "version": VERSION,
            "model": self.model.digest,
            "split": [split.name, split.sha256],  # train's file may be eval's, cut otherwise
            "device": self.device,
            **self.about,
        }
        return f"answers-{value_sha256(value)}"

    def _targets(self, split: Split, progress: Progress) -> list[Any]:
        import numpy as np

        from rarefy.pipeline.measure.predictions import predict as accuracy

        def report(done: float, total: float, note: str) -> None:
            progress(done, total, f"{split.name}: the model's own predictions")

        directory = self.model.directory
        answers = accuracy.checkpoint_answers(directory, self.task, split, report, self.device)
        finite = np.isfinite(answers).all(axis=1)
        broken = int(np.sum(~finite))
        if broken:
            raise RarefyError(
                f"model: outputs NaN for {broken} of {len(answers)} rows of {split.reference}, so "
                "its predictions cannot serve as labels"
            )
        return self.task.objective.targets(answers, split)
