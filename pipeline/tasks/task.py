"""What the rest of the house asks a task: its tokens, its model, its losses, its answers."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

from rarefy.pipeline.data.task_rows import FileRows
from rarefy.pipeline.model.tokens.words import FIRST
from rarefy.pipeline.tasks.presentation import Shown
from rarefy.pipeline.tasks.shared import heads

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor

    from rarefy.pipeline.data.split import Split
    from rarefy.pipeline.tasks.shared.formulas import Formula
    from rarefy.pipeline.terms.recipe_parts import Data

Row = dict[str, Any]
"""A tokenized row, unpadded: lists of ids by the model's input names, and ``labels``."""
NOT_INPUTS = frozenset({"labels", "row", FIRST, "group"})
"""The keys of a batch that the model does not take."""
NOT_A_NUMBER = "not a number"
"""What an answer that is NaN is called in words."""


@dataclass(frozen=True)
class Task(FileRows, Shown):
    """One task. A **unit** is what gets one answer: a row here; a word, or a text, elsewhere.

    A model's raw **outputs** are units × width, e.g. the logits of rows. Its **answers** are what
    the outputs mean, e.g. probabilities, of the same shape or another width. The **truth** is a
    split's targets, in a form that JSON can hold.

    ``labels`` are in the order of the model's outputs; empty if the task has none.
    """

    labels: tuple[str, ...]
    max_length: int
    text_columns: tuple[str, ...]
    windows: bool = False
    """Whether texts longer than ``max_length`` are answered in windows; see ``no_windows``."""

    version: ClassVar[int] = 1
    """Raised when the same rows and model give other targets, losses, answers or scores."""
    output: ClassVar[str] = "logits"
    """The name of an exported graph's output."""
    body_only: ClassVar[bool] = False
    """Whether its model is a body without a head, which an import takes out of any model."""
    unit_per_row: ClassVar[bool] = True
    """Whether each row is one unit; if not, ``units`` says how many."""
    smooths: ClassVar[bool] = True
    """Whether its targets are labels, which ``label_smoothing`` and ``temperature`` soften."""
    unlabelled: ClassVar[bool] = False
    """Whether its rows have no labels, so that the answers of the recipe's model are the truth."""
    own_form: ClassVar[type[Any] | None] = None
    """What rows without labels change in it: a class put before it (see ``unlabelled.of``)."""
    probable: ClassVar[bool] = False
    """Whether answers are probabilities, so that two models' have a divergence; see ``nats``."""
    no_windows: ClassVar[str | None] = "its texts are cut"
    """Why the recipe cannot ask for windows; None if it can."""
    of_words: ClassVar[bool] = False
    """Whether a unit is a word of a text, which is words joined by single spaces."""
    linear: ClassVar[Literal["classes", "flags", "scores"] | None] = None
    """What a linear model on words would answer: one of ``labels``, several, or a score."""
    scores: ClassVar[Mapping[str, Formula]]
    """The metrics that score its answers, the main one first; see ``formulas``."""

    # Rows as tokens

    @abstractmethod
    def encode(
        self, tokenizer: Any, split: Split, rows: Sequence[int] | None = None
    ) -> list[dict[str, list[int]]]:
        """Tokenize rows (default: all), truncated to ``max_length``, unpadded: one dict per row."""

    @abstractmethod
    def lengths(self, tokenizer: Any, split: Split, rows: Sequence[int]) -> list[int]:
        """Return the number of tokens in each row before ``encode`` truncates it."""

    @abstractmethod
    def examples(self, tokenizer: Any, split: Split, rows: Sequence[int]) -> list[Row]:
        """Return rows to train on: tokenized, and with their targets as ``labels``."""

    def lessons(self, tokenizer: Any, split: Split, rows: Sequence[int]) -> list[Row]:
        """Return the rows of plain training, if they are others than a teacher answers."""
        return self.examples(tokenizer, split, rows)

    # Its model

    @classmethod
    @abstractmethod
    def head(cls, config: Mapping[str, Any]) -> list[str] | None:
        """Return the labels of the head that a model's config.json describes.

        None if the model has no head for this task, so that training must give it one.
        """

    @abstractmethod
    def load_model(self, directory: str) -> Any:
        """Load the body in ``directory`` with a new head, or with its own if the labels match."""

    def start(self, network: Any, split: Split) -> None:
        """Prepare a new head for the rows that it will be trained on; by default, nothing."""

    def check_head(self, network: Any, where: str) -> None:
        """Raise ModelError, beginning with ``where``, unless a model has this task's head.

        By default: unless its labels are the task's, in the same order.
        """
        heads.check_labels(network, self.labels, where)

    def units(self, row: Row) -> int:
        """Return the number of units of a tokenized row."""
        return 1

    def width_of(self, model: Any) -> int:
        """Return the number of a model's raw outputs for a unit."""
        return int(model.config.num_labels)

    def raw(self, output: Any, inputs: Mapping[str, Tensor], config: Any) -> Tensor:
        """Return what an exported graph gives: for a batch, from the output of a model.

        ``config``: the model's own, which may say how its output is read, e.g. pooled.
        """
        logits: Tensor = output.logits
        return logits

    def select(self, output: Any, batch: Mapping[str, Tensor], config: Any) -> Tensor:
        """Return the raw outputs of a batch's units (units × width) from a model's output."""
        return self.raw(output, batch, config)

    def forward(self, model: Any, batch: Mapping[str, Tensor]) -> Any:
        """Run a model on a batch, and return its output."""
        return model(**inputs_of(batch))

    def outputs(self, model: Any, batch: Mapping[str, Tensor]) -> Tensor:
        """Run a model on a batch, and return the raw outputs: units × width."""
        return self.select(self.forward(model, batch), batch, model.config)

    # Its losses

    @abstractmethod
    def loss(
        self, outputs: Tensor, batch: Mapping[str, Tensor], *, total: bool, smoothing: float = 0.0
    ) -> Tensor:
        """Return the loss of raw outputs against a batch's ``labels``, a scalar.

        The mean over units with a target (0 if there are none), or with ``total`` their sum.
        """

    @abstractmethod
    def imitation(self, outputs: Tensor, goal: Tensor, temperature: float) -> Tensor:
        """Return the loss of a student's raw outputs against its teacher's, a scalar."""

    def fitting(self, outputs: Tensor, width: int) -> Tensor | None:
        """Return what brings a teacher's outputs (units × its width) to that of its student.

        A matrix, the teacher's width × ``width``; None if they are learned as they are.
        """
        return None

    @abstractmethod
    def divergence(self, outputs: Tensor, other: Tensor) -> Tensor:
        """Return how far each unit's other outputs are from these: units; 0 if they are equal."""

    def training(self, smoothing: float = 0.0) -> Callable[[Any, dict[str, Tensor]], Tensor]:
        """Return the loss function of plain training: ``loss(model, batch)``, a scalar."""

        def loss(model: Any, batch: dict[str, Tensor]) -> Tensor:
            return self.loss(self.outputs(model, batch), batch, total=False, smoothing=smoothing)

        return loss

    def summed(self) -> Callable[[Any, dict[str, Tensor]], Tensor]:
        """Return ``loss(model, batch)`` summed over the rows of a batch, for their gradients."""

        def loss(model: Any, batch: dict[str, Tensor]) -> Tensor:
            return self.loss(self.outputs(model, batch), batch, total=True)

        return loss

    # What is chosen for each model

    chooses: ClassVar[bool] = False
    """Whether something, such as thresholds, is chosen for each model on the development split."""

    def choose(self, outputs: NDArray[np.floating[Any]], split: Split) -> Self:
        """Return the task with what is best for a model, by its raw outputs for a split's rows."""
        return self

    def chosen(self) -> dict[str, Any]:
        """Return what was chosen, as it is kept in the model's config.json."""
        return {}

    def of_model(self, config: Mapping[str, Any]) -> Self:
        """Return the task with what was chosen for the model that has this config.json."""
        return self

    # Its answers

    counted: ClassVar[bool] = False
    """Whether its scores count right rows, so that accuracy's exact intervals bound them."""

    by_class: ClassVar[bool] = False
    """Whether an answer is one of ``labels`` with its probability, so that it has an ECE."""

    def requests(self, split: Split) -> tuple[Sequence[str], Sequence[str] | None]:
        """Return the texts, and their pairs if there are any, that a model is asked for a split."""
        return split.texts, split.pairs

    def served(self, split: Split) -> tuple[Sequence[str], Sequence[str] | None]:
        """Return those of the ``requests`` that reach a server one at a time: what is timed.

        Of texts that models read ``singly``, the first of each row: a search embeds a query when
        it comes, but its documents long before.
        """
        return (split.texts, None) if self.singly else self.requests(split)

    def asked(self, tokenizer: Any, split: Split) -> list[Row]:
        """Return the tokenized ``requests`` of a split."""
        return list(self.encode(tokenizer, split))

    def merged(self, outputs: NDArray[np.float64], rows: Sequence[Row]) -> NDArray[np.float64]:
        """Return the raw outputs of a split's units from those of the ``asked`` rows' units."""
        return outputs

    def truth(self, split: Split) -> list[Any]:
        """Return what a split's answers are scored by."""
        return list(split.labels or [])

    def blocks(self, split: Split) -> Sequence[int] | None:
        """Return the row that stands for each block; None if each row is a block of its own.

        Blocks are what ``right`` decides on and a bootstrap draws, e.g. queries.
        """
        return None

    def groups(self, split: Split) -> list[int]:
        """Return the number of each block's group by ``data.group``; empty if no two share one.

        What a model answers to the blocks of a group, such as a user's rows, tends to be right and
        wrong together.
        """
        stand_for, found = self.blocks(split), list(split.group_numbers)
        if found and stand_for is not None:
            found = [found[row] for row in stand_for]
        return found if len(set(found)) < len(found) else []

    @classmethod
    def block(cls, truth: Sequence[Any]) -> str:
        """Return what a block of such truth is called, such as a query; by default a row."""
        return "row"

    @classmethod
    def block_of_unit(cls, truth: Sequence[Any]) -> NDArray[np.int64] | None:
        """Return the number of each unit's block, from 0; None if a unit is a block of its own."""
        return None

    trivial: ClassVar[str] = ""
    """The answer that ``floor`` scores, in words: the most frequent label."""

    @classmethod
    def floor(cls, truth: Sequence[Any]) -> float | None:
        """Return the main score of the best answer that does not look at the rows; None: unknown.

        A model that is not better has learned nothing, and a share of its score means nothing.
        """
        return None

    @classmethod
    def uniform(cls, truth: Sequence[Any]) -> bool:
        """Return whether the truth asks for the same answer everywhere, which one can guess."""
        return all(target == truth[0] for target in truth)

    @classmethod
    def beside(cls, truth: Sequence[Any]) -> tuple[str, float] | None:
        """Return the name and main score of what needs no model, to stand beside the models'."""
        return None

    @classmethod
    def formulas(cls, truth: Sequence[Any]) -> Mapping[str, Formula]:
        """Return the metrics for answers to this truth, the main one first."""
        return cls.scores

    @classmethod
    def scored(cls, data: Data) -> Collection[str]:
        """Return the names that ``formulas`` has for such data; empty if only its truth tells."""
        return getattr(cls, "scores", ())

    @classmethod
    def expected(cls, truth: Sequence[Any]) -> int:
        """Return the number of answers that the truth asks for."""
        return len(truth)

    def answers(self, outputs: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
        """Return what raw outputs (units × width) mean, as numbers: units × columns.

        By default, the outputs themselves.
        """
        import numpy as np

        return outputs.astype(np.float64)

    def kept(self, answers: NDArray[np.float64], split: Split) -> NDArray[np.float64]:
        """Return what of the answers for a split is stored, compared and scored; default: all.

        ``right``, ``same``, ``said``, ``sureness`` and the formulas are given this.
        """
        return answers

    @classmethod
    @abstractmethod
    def right(cls, answers: NDArray[np.float64], truth: Sequence[Any]) -> NDArray[np.bool_]:
        """Return for each row whether it is answered rightly; NaN is wrong.

        It decides what a flip is: a row that only one of two models has right.
        """

    @classmethod
    def missed(
        cls, answers: NDArray[np.float64], truth: Sequence[Any]
    ) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Return a row for each label that is rightly found there, and an answer that misses it.

        This tells how far one answer may move a score in which a rare label weighs as much as any
        other. Default: none, for scores in which all answers weigh about the same.
        """
        import numpy as np

        return np.zeros(0, np.int64), answers[:0]

    @classmethod
    def found(
        cls, answers: NDArray[np.float64], truth: Sequence[Any]
    ) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Return a row for each label that occurs, and an answer that finds it before all others.

        It is to ``missed`` what a score of 0 is to a perfect one. Default: none.
        """
        import numpy as np

        return np.zeros(0, np.int64), answers[:0]

    @classmethod
    @abstractmethod
    def same(cls, ours: NDArray[np.float64], theirs: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Return for each unit whether two models give the same answer."""

    def targets_of(self, answers: NDArray[np.float64], split: Split) -> list[Any]:
        """Return a split's targets if a model's answers (units × columns) are the truth.

        JSON can hold them. Only if the task ``answers_itself``.
        """
        raise NotImplementedError

    @classmethod
    def nats(cls, ours: NDArray[np.float64], theirs: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return each row's Kullback-Leibler divergence in nats, of ``probable`` answers."""
        raise NotImplementedError

    @classmethod
    def alike(cls, exact: NDArray[np.float64], rough: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Return for each unit whether rounding has kept its answer; default: ``same``."""
        return cls.same(exact, rough)

    def gradual(self, answers: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the columns of answers that change little if outputs do: all but decisions."""
        return answers

    def decided(self, answers: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Return for which units rounding must not change the answer; by default for none."""
        import numpy as np

        return np.zeros(len(answers), bool)


def inputs_of(batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the model's own inputs in a batch."""
    return {key: value for key, value in batch.items() if key not in NOT_INPUTS}
