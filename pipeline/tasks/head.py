"""A task's model: its head, its raw outputs and the predictions that they mean."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

from rarefy.pipeline.tasks.encoder import FIRST
from rarefy.pipeline.tasks.part import Part
from rarefy.pipeline.tasks.shared import heads

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor

    from rarefy.pipeline.data.split import Split

NOT_INPUTS = frozenset({"labels", "row", FIRST, "group"})
"""The keys of a batch that the model does not take."""


class Rounding(NamedTuple):
    """The predictions of a model before (``exact``) and after it is exported or rounded.

    ``exact`` and ``rough`` are the columns that change little if outputs do, (units, columns): all
    but decisions. ``same``: the units with the same prediction, (units,). ``decided``: the units
    whose prediction rounding must not change, (units,).
    """

    exact: NDArray[np.float64]
    rough: NDArray[np.float64]
    same: NDArray[np.bool_]
    decided: NDArray[np.bool_]


class Head(Part):
    """The head that a task's model has on its body.

    A model's raw **outputs** are units × width, e.g. the logits of rows. Its **predictions** are
    what the outputs mean, e.g. probabilities, of the same width or another one.
    """

    output_name: ClassVar[str] = "logits"
    """The name of an exported graph's output."""
    body_only: ClassVar[bool] = False
    """Whether its model is a body without a head, which an import takes out of any model."""
    chooses: ClassVar[bool] = False
    """Whether ``choose`` chooses something, such as thresholds, for each model."""
    abstains: ClassVar[bool] = False
    """Whether ``choose`` has thresholds for a bundle if the task has a ``threshold``.

    Rows below them have no label.
    """

    # The model

    @abstractmethod
    def labels_of(self, config: Mapping[str, Any]) -> list[str] | None:
        """Return the labels of the head that a model's config.json describes.

        None if the model has no head for this task, so that training must give it one.
        """

    @abstractmethod
    def load(self, directory: str) -> Any:
        """Load the body in ``directory`` with a new head, or with its own if the labels match."""

    def initialize(self, network: Any, split: Split) -> None:
        """Prepare a new head for the rows that it will be trained on; by default, nothing."""

    def check(self, network: Any, where: str) -> None:
        """Raise ModelError, beginning with ``where``, unless a model has this task's head.

        By default: unless its labels are the task's, in the same order.
        """
        heads.check_labels(network, self.task.labels, where)

    # Its raw outputs

    def width(self, model: Any) -> int:
        """Return the number of a model's raw outputs for a unit."""
        return int(model.config.num_labels)

    def graph_output(self, output: Any, inputs: Mapping[str, Tensor], config: Any) -> Tensor:
        """Return what an exported graph gives for a batch.

        Args:
            output: what the model returned for the batch.
            inputs: the batch.
            config: the model's own, which may say how its output is read, e.g. pooled.

        Returns:
            By default the logits, (rows, width) or (rows, tokens, width).
        """
        logits: Tensor = output.logits
        return logits

    def select(self, output: Any, batch: Mapping[str, Tensor], config: Any) -> Tensor:
        """Return the raw outputs of a batch's units, (units, width), from a model's output."""
        return self.graph_output(output, batch, config)

    def outputs(self, model: Any, batch: Mapping[str, Tensor]) -> Tensor:
        """Run a model on a batch, and return the raw outputs: (units, width)."""
        output = model(**inputs_of(batch))
        return self.select(output, batch, model.config)

    # What they mean

    def predictions(self, outputs: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
        """Return what raw outputs (units, width) mean, as numbers: (units, columns).

        By default, the outputs themselves.
        """
        import numpy as np

        return outputs.astype(np.float64)

    def rounding(self, exact: NDArray[np.float64], rough: NDArray[np.float64]) -> Rounding:
        """Compare a model's predictions before and after rounding, (units, columns) both.

        By default, the same is what two models agree on, and no unit is decided.
        """
        import numpy as np

        same = self.task.scorer.agreement(exact, rough)
        return Rounding(exact, rough, same, np.zeros(len(exact), bool))

    # What is chosen for each model

    def choose(self, outputs: NDArray[np.floating[Any]], split: Split) -> dict[str, Any]:
        """Return what is best for a model, as it is kept in its config.json.

        Args:
            outputs: the model's raw outputs for the rows of the split, (units, width).
            split: rows with labels, such as the development split.
        """
        return {}

    def settings(self, config: Mapping[str, Any]) -> dict[str, Any]:
        """Return the part of a model's or a bundle's config.json that the task reads.

        The task of the model has them as ``Task.settings``. Raises ModelError if they are wrong.
        """
        return {}


def inputs_of(batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the model's own inputs in a batch."""
    return {key: value for key, value in batch.items() if key not in NOT_INPUTS}
