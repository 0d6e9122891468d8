"""A task: what a model learns to predict. Its identity, and six parts that do the work."""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Collection, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, ClassVar, Final, Literal, NamedTuple, Protocol, Self

from rarefy.pipeline.data import repeats
from rarefy.pipeline.data.table import given_text, is_missing, is_unicode
from rarefy.pipeline.tasks.shared import heads
from rarefy.pipeline.terms.errors import DataError
from rarefy.pipeline.terms.metrics import OwnMetric
from rarefy.pipeline.terms.recipe_parts import Threshold
from rarefy.pipeline.terms.wording import plural

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor

    from rarefy.pipeline.data.split import Split
    from rarefy.pipeline.data.table import Source
    from rarefy.pipeline.tasks.shared.formulas import Formula
    from rarefy.pipeline.terms.recipe_parts import Data


FEW_GROUPS = 20
"""With fewer groups, hardly a budget on a score can be decided."""
WITHOUT_TEXT = "without text"
ALL_SPLITS = ("train", "dev", "eval")
FIRST: Final = "first"
"""The key of a row under which the places of its words' tokens are."""
NOT_INPUTS = frozenset({"labels", "row", FIRST, "group"})
"""The keys of a batch that the model does not take."""
NOT_A_NUMBER = "not a number"
"""What a prediction that is NaN is called in words."""


class Part(ABC):
    """A part of a task. It has no options of its own: it reads those of its ``task``."""

    task: Task

    def bound_to(self, task: Task) -> Self:
        """Return the same part of another task."""
        part = copy.copy(self)
        part.task = task
        return part

    def __eq__(self, other: object) -> bool:
        """Return whether the other part does the same, whatever the options of its task."""
        return type(self) is type(other)

    def __hash__(self) -> int:
        """Return the hash of what decides equality."""
        return hash(type(self))


def no_text(value: Any) -> str:
    """Return in a few words why a row without text, or with something else, is left out."""
    if is_missing(value):
        return WITHOUT_TEXT
    if isinstance(value, str):
        return "whose text is not valid Unicode"
    return f"whose text is of type {type(value).__name__}"


class Reader(Part):
    """Reads data files in this order, so that a method may rely on those before it.

    ``target_columns``; for each split ``check_column`` and, row by row, ``read_row``; then
    ``labels`` of train, and for each split ``index_targets`` and ``check_groups``. None of them
    may read the labels of the task, which are not known yet.
    """

    searches: ClassVar[bool] = False
    """Whether ``data.corpus`` and ``data.negatives`` mean something to the task."""
    singly: ClassVar[bool] = False
    """Whether models read each text of a pair alone, so that rows with one in common leak.

    What a server is asked is then the first text of a row; see ``timed_requests``.
    """
    queries: ClassVar[bool] = False
    """Whether the rows of a group are those of one query, so that every row must name its group."""
    correlates: ClassVar[bool] = False
    """Whether the scores of rows without groups are correlations, which need several rows."""
    fewest: ClassVar[int] = 1
    """The fewest rows of eval."""
    self_labelled: ClassVar[Collection[str]] = ()
    """The splits whose targets a model's own predictions may be, if rows have no labels.

    ``Objective.targets`` makes targets of predictions. Empty if rows must have labels.
    """

    def lacks_labels(self, data: Data) -> bool:
        """Return whether rows of such data have no labels, so that the recipe's model labels them.

        Raises DataError if the recipe names columns that the task cannot have.
        """
        if data.label is not None or not self.self_labelled:
            return False
        return not self.target_columns(data)

    def target_columns(self, data: Data) -> tuple[str, ...]:
        """Return the columns that hold a row's target; empty for data without labels.

        Raises DataError if the recipe names columns that the task cannot have.
        """
        if len(data.label_columns) > 1:
            raise DataError(f"data.label: {self.task.name} takes one column")
        return data.label_columns

    @abstractmethod
    def check_column(self, values: Iterable[Any], column: str, source: Source) -> None:
        """Raise DataError, before rows are read, if a target column holds something else."""

    def read_row(
        self, texts: tuple[Any, ...], values: tuple[Any, ...], source: Source, number: int
    ) -> tuple[tuple[str, ...], Any] | str:
        """Read a row.

        Args:
            texts: the values in the columns of texts.
            values: the values in ``target_columns``; empty if the row is unlabelled.
            source: the file, for errors.
            number: the row's place in the file, from 1, for errors.

        Returns:
            The row's texts and its target, None for an unlabelled row; or in a few words why the
            row is left out.

        Raises:
            DataError: the row is wrong rather than incomplete.
        """
        for text in texts:
            if is_missing(text) or not isinstance(text, str) or not is_unicode(text):
                return no_text(text)
        if not values:
            return texts, None
        target = self.target(values)
        if target is None:
            return "without a label"
        return texts, target

    @abstractmethod
    def target(self, values: tuple[Any, ...]) -> Any | None:
        """Return a row's target from its values in ``target_columns``; None if it has none."""

    def stratum(self, target: Any) -> Hashable:
        """Return what a development split has in the same shares as train; None: nothing."""
        return None

    def labels(self, targets: Iterable[Any], source: Source) -> list[str]:
        """Return the labels that occur in the training split, in a stable order; default: none.

        Raises DataError if nothing can be learned from them.
        """
        return []

    def index_targets(
        self, targets: Sequence[Any], names: Sequence[str], source: Source
    ) -> list[Any]:
        """Return targets as numbers; default: as they are. ``names``: the labels.

        Raises DataError for a label that is not in ``names``, or if the split teaches nothing.
        """
        return list(targets)

    def check_groups(
        self, targets: Sequence[Any], groups: Sequence[str], source: Source
    ) -> list[str]:
        """Return warnings about the groups of a split's rows, by the targets of ``index_targets``.

        Raises DataError if nothing can be learned from them, or they cannot be scored.
        """
        many = len(set(groups))
        if source.name != "eval" or many >= FEW_GROUPS or many == len(groups):
            return []
        return [
            f"{source.reference}: its rows are in only {plural(many, 'group')}; intervals draw "
            "whole groups, so they are wide"
        ]

    def count_labels(self, targets: Iterable[Any], names: Sequence[str]) -> dict[str, int]:
        """Return how often each label occurs; default: empty, for a task without labels."""
        return {}

    def count_marked(self, indices: Iterable[Any], names: Sequence[str]) -> dict[str, int]:
        """Return how many rows have each label, or how many entities are of each type.

        Args:
            indices: of the labels of each row, as ``index_targets`` returns them.
            names: of all labels; empty for a task without.
        """
        if not names:
            return {}
        counts = Counter[int]()
        for row in indices:
            of_row = row if isinstance(row, Iterable) else [row]
            counts.update(of_row)
        return {name: counts[index] for index, name in enumerate(names)}


Row = dict[str, Any]
"""A tokenized row, unpadded: lists of ids by the model's input names, and ``labels``."""
Requests = tuple[Sequence[str], Sequence[str] | None]
"""Texts, and their pairs if there are any."""


class Encoder(Part):
    """Tokenizes rows. A **unit** is what gets one prediction.

    A unit is a row here; a word, or a text, elsewhere. ``tokenizer`` is one of transformers.
    """

    unit_per_row: ClassVar[bool] = True
    """Whether each row is one unit; if not, ``count_units`` says how many."""
    of_words: ClassVar[bool] = False
    """Whether a unit is a word of a text, which is words joined by single spaces."""
    no_windows: ClassVar[str | None] = "its texts are cut"
    """Why the recipe cannot ask for windows; None if it can."""

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

    def training_rows(self, tokenizer: Any, split: Split, rows: Sequence[int]) -> list[Row]:
        """Return the rows of training without a teacher; default: the ``examples``."""
        return self.examples(tokenizer, split, rows)

    def count_units(self, row: Row) -> int:
        """Return the number of units of a tokenized row."""
        return 1

    def requests(self, split: Split) -> Requests:
        """Return the texts, and their pairs if there are any, that a model predicts for a split."""
        return split.texts, split.pairs

    def encode_requests(self, tokenizer: Any, split: Split) -> list[Row]:
        """Return the tokenized ``requests`` of a split; a long text may be several windows."""
        return list(self.encode(tokenizer, split))

    def merge_windows(
        self, outputs: NDArray[np.float64], rows: Sequence[Row]
    ) -> NDArray[np.float64]:
        """Return the raw outputs of a split's units.

        Args:
            outputs: those of the units of ``rows``, (units of rows, width).
            rows: as ``encode_requests`` returns them.

        Returns:
            (units, width).
        """
        return outputs


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


LossFunction = Callable[[Any, dict[str, "Tensor"]], "Tensor"]
"""``loss(model, batch)``, a scalar."""


class Objective(Part):
    """The losses of a task. ``outputs`` are a batch's raw outputs, (units, width)."""

    of_labels: ClassVar[bool] = True
    """Whether its targets are labels, which ``temperature`` softens."""
    linear: ClassVar[Literal["classes", "flags", "scores"] | None] = None
    """What a linear model on words would predict: one of the labels, several, or a score."""

    @abstractmethod
    def loss(self, outputs: Tensor, batch: Mapping[str, Tensor], *, total: bool) -> Tensor:
        """Return the loss of raw outputs against a batch's ``labels``, a scalar.

        Args:
            outputs: (units, width).
            batch: with the targets as ``labels``.
            total: return the sum over units instead of the mean over units with a target, which
                is 0 if there are none.
        """

    @abstractmethod
    def imitation(self, outputs: Tensor, goal: Tensor, temperature: float) -> Tensor:
        """Return the loss of a student's raw outputs against its teacher's, a scalar.

        Args:
            outputs: the student's, (units, width).
            goal: the teacher's, (units, width).
            temperature: softens both, where they are logits of labels.
        """

    def projection(self, outputs: Tensor, width: int) -> Tensor | None:
        """Return what brings a teacher's outputs (units, its width) to that of its student.

        A matrix, (its width, ``width``); None if they are learned as they are.
        """
        return None

    @abstractmethod
    def divergence(self, outputs: Tensor, other: Tensor) -> Tensor:
        """Return how far each unit's other outputs are from these: (units,), 0 if equal."""

    def training_loss(self) -> LossFunction:
        """Return the loss function of training without a teacher."""

        def loss(model: Any, batch: dict[str, Tensor]) -> Tensor:
            outputs = self.task.head.outputs(model, batch)
            return self.loss(outputs, batch, total=False)

        return loss

    def summed_loss(self) -> LossFunction:
        """Return the loss function summed over the rows of a batch, for their gradients."""

        def loss(model: Any, batch: dict[str, Tensor]) -> Tensor:
            outputs = self.task.head.outputs(model, batch)
            return self.loss(outputs, batch, total=True)

        return loss

    def targets(self, predictions: NDArray[np.float64], split: Split) -> list[Any]:
        """Return a split's targets if a model's predictions (units, columns) are the truth.

        JSON can hold them. Only for the splits that are ``Reader.self_labelled``.
        """
        raise NotImplementedError


RareRows = tuple["NDArray[np.int64]", "NDArray[np.float64]"]
"""Rows, and another prediction for each of them: (rows,) and (rows, columns)."""


class Scorer(Part):
    """Scores predictions, which are (units, columns).

    The **truth** is a split's targets, in a form that JSON can hold. A **block** is what is correct
    or not, and what a bootstrap draws: a row here, a query or a sentence elsewhere.
    """

    scores: ClassVar[Mapping[str, Formula]]
    """The metrics that score predictions, the main one first; see ``formulas``."""
    on_request: ClassVar[Collection[str]] = ()
    """Further metrics, which are computed only for budgets; see ``formula``."""
    own: OwnMetric | None = None
    """A metric of one's own that can be scored too, under its name."""
    counted: bool = False
    """Whether the scores count correct rows, so that accuracy's exact intervals bound them."""
    probable: bool = False
    """Whether predictions are probabilities, so that two models' have a ``divergence``."""
    trivial: str = ""
    """The prediction that ``floor`` scores, in words."""

    def __eq__(self, other: object) -> bool:
        """Return whether the other scorer scores the same."""
        return super().__eq__(other) and self.own == getattr(other, "own", None)

    __hash__ = Part.__hash__

    # The metrics

    def formulas(self, truth: Sequence[Any]) -> Mapping[str, Formula]:
        """Return the metrics for predictions of this truth, the main one first."""
        return self.scores

    def score_names(self, data: Data) -> Collection[str]:
        """Return the names that ``formulas`` has for such data; empty if only its truth tells."""
        return getattr(self, "scores", ())

    def formula(self, name: str, truth: Sequence[Any]) -> Formula | None:
        """Return a metric of ``formulas``, one on request, or the user's own; None for others."""
        if self.own and self.own.name == name:
            from rarefy.pipeline.tasks.shared import own_formula

            return own_formula.of(self.own)
        return self.formulas(truth).get(name) or self.requested(name)

    def requested(self, name: str) -> Formula | None:
        """Return a metric that is computed on request, None if there is none of that name."""
        return None

    def floor(self, truth: Sequence[Any]) -> float | None:
        """Return the main score of the best prediction that does not look at the rows.

        A model that is not better has learned nothing, and a share of its score means nothing.
        None if it is unknown.
        """
        return None

    def baseline(self, truth: Sequence[Any]) -> tuple[str, float] | None:
        """Return the name and main score of what needs no model, to compare the models with."""
        return None

    # The truth

    def truth(self, split: Split) -> list[Any]:
        """Return what a split's predictions are scored by."""
        return list(split.labels or [])

    def is_uniform(self, truth: Sequence[Any]) -> bool:
        """Return whether the truth is the same everywhere, so that one can guess it."""
        return all(target == truth[0] for target in truth)

    def blocks(self, split: Split) -> Sequence[int] | None:
        """Return the row that stands for each block; None if each row is a block of its own."""
        return None

    def block_name(self, truth: Sequence[Any]) -> str:
        """Return what a block of such truth is called, such as a query; by default a row."""
        return "row"

    def block_of_unit(self, truth: Sequence[Any]) -> NDArray[np.int64] | None:
        """Return the number of each unit's block, from 0; None if a unit is a block of its own."""
        return None

    def part(self, truth: Sequence[Any], blocks: Sequence[int]) -> list[Any]:
        """Return the truth of some blocks alone; ``blocks``: their places, in order."""
        return [truth[block] for block in blocks]

    # Predictions and the truth

    def retained(self, predictions: NDArray[np.float64], split: Split) -> NDArray[np.float64]:
        """Return what of a split's predictions is stored, compared and scored; default: all.

        All other methods, and those of the presenter that read a split, are given this.
        """
        return predictions

    @abstractmethod
    def correct(self, predictions: NDArray[np.float64], truth: Sequence[Any]) -> NDArray[np.bool_]:
        """Return which blocks are predicted correctly, (blocks,); NaN is wrong.

        It decides what a flip is: a block that only one of two models has correct.
        """

    def missed_labels(
        self, predictions: NDArray[np.float64], truth: Sequence[Any]
    ) -> RareRows | None:
        """Return a correct row of each label, and a prediction for it that misses the label.

        This tells how far one row may move a score in which a rare label weighs as much as any
        other. Default: None, for scores in which all rows weigh about the same.
        """
        return None

    def new_labels(self, predictions: NDArray[np.float64], truth: Sequence[Any]) -> RareRows | None:
        """Return a row of each label that occurs, and a prediction that ranks the label first.

        It is to ``missed_labels`` what a score of 0 is to a perfect one. Default: None.
        """
        return None

    # Two models

    @abstractmethod
    def agreement(
        self, ours: NDArray[np.float64], theirs: NDArray[np.float64]
    ) -> NDArray[np.bool_]:
        """Return which units two models predict alike, (units,)."""

    def divergence(
        self, ours: NDArray[np.float64], theirs: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        """Return each row's Kullback-Leibler divergence in nats, of ``probable`` predictions."""
        raise NotImplementedError


class Answer(Protocol):
    """What a user reads of one row: a NamedTuple."""

    def _asdict(self) -> dict[str, Any]:
        """Return the fields, which are the keys of the answer as JSON."""

    def columns(self) -> list[str]:
        """Return the answer as the columns of a printed line."""


class LabelTable(NamedTuple):
    """Labels of rows, (rows, ``names``): the ``true`` ones, and those ``predicted`` by each model.

    The rows may be others than a split's, e.g. entities; ``blocks`` has the block of each then.
    """

    names: Sequence[str]
    true: NDArray[np.bool_]
    predicted: Sequence[NDArray[np.bool_]]
    blocks: NDArray[np.int64] | None = None


class Presenter(Part):
    """Turns predictions, which are (units, columns), into what a user reads."""

    answers_like: ClassVar[str] = "text-classification"
    """The task whose file answers in a bundle's own program: ``exporters/bundle/task_*.py``."""
    slice_name: ClassVar[str] = "label"
    """What ``target_slices`` tells the rows apart by."""
    table_rows: ClassVar[str] = "row"
    """What a row of ``label_table`` is: a row, or an entity."""

    # The answers of a bundle

    @abstractmethod
    def answers(self, predictions: NDArray[np.float64]) -> Sequence[Answer]:
        """Return predictions as what a user reads, one for each unit."""

    def bundle_settings(self, split: Split) -> dict[str, Any]:
        """Return how a bundle reads a user's texts, for its config.json; see ``Head.settings``.

        ``split``: rows like those that the bundle will be asked.
        """
        return {}

    def preprocess(self, text: Any) -> str:
        """Return a user's text as a model's request. Raises DataError if it is no text."""
        return given_text(text)

    def user_text(self, request: str) -> Any:
        """Return one of the encoder's ``requests`` as a user would write it."""
        return request

    def postprocess(
        self, texts: Sequence[Any], predictions: NDArray[np.float64]
    ) -> Sequence[Answer]:
        """Return a bundle's answers to the texts that a user wrote, one for each."""
        return self.answers(predictions)

    # Rows in the report

    def target_slices(self, split: Split) -> list[str] | None:
        """Return the slice in which each row is by its target; None if there are none."""
        return None

    @abstractmethod
    def describe_prediction(self, predictions: NDArray[np.float64], split: Split) -> list[str]:
        """Return in words what is predicted for each block of a split."""

    @abstractmethod
    def describe_target(self, split: Split) -> list[str]:
        """Return in words what should be predicted for each block of a split."""

    def confidence(
        self, predictions: NDArray[np.float64], truth: Sequence[Any]
    ) -> NDArray[np.float64] | None:
        """Return how sure the prediction of each block is, from 0 to 1; None: no model says so."""
        return None

    # Labels in the report

    def label_table(
        self, tables: Sequence[NDArray[np.float64]], truth: Sequence[Any], labels: Sequence[str]
    ) -> LabelTable | None:
        """Return the labels of each row, for each label's precision and recall.

        Args:
            tables: the predictions of several models.
            truth: as ``Scorer.truth`` returns it.
            labels: the names of all labels, in the order of the columns.

        Returns:
            None if rows have no labels.
        """
        return None

    def label_names(self, labels: Sequence[str]) -> list[str]:
        """Return the names that ``label_table`` may have; ``labels``: those of the task."""
        return list(labels)

    def recalls(
        self, predictions: NDArray[np.float64], truth: Sequence[Any]
    ) -> NDArray[np.float64] | None:
        """Return each label's recall at 1% false positives; None if labels exclude each other."""
        return None


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
    """Return the number of each block's group; empty if each is its own.

    A group is the blocks of one value of ``data.group``, such as a user's rows, which tend to be
    correct and wrong together, and those of equal texts, which are: see ``repeats.clusters``.
    """
    first_rows = task.scorer.blocks(split)
    groups: Sequence[int] = list(split.group_numbers)
    texts: Sequence[int] = split.text_numbers
    if first_rows is not None:
        if len(set(groups)) == len(first_rows):
            texts = _texts_of_groups(groups, texts)
        else:
            texts = [texts[row] for row in first_rows]
        if groups:
            groups = [groups[row] for row in first_rows]
    count = len(texts)
    if len(set(texts)) < count:
        groups = repeats.clusters(groups or range(count), texts)
    if len(set(groups)) == len(groups):
        return []
    return list(groups)


def _texts_of_groups(groups: Sequence[int], texts: Sequence[int]) -> list[int]:
    """Return the number of each group's texts; ``groups``, ``texts``: those of each row."""
    of_group: dict[int, list[int]] = {}
    for group, text in zip(groups, texts, strict=True):
        together = of_group.setdefault(group, [])
        together.append(text)
    keys = []
    for group in sorted(of_group):
        ordered = sorted(of_group[group])
        keys.append(tuple(ordered))
    return repeats.numbered(keys)


def count_predictions(task: Task, truth: Sequence[Any]) -> int:
    """Return the number of predictions that the truth asks for: one for each unit."""
    blocks = task.scorer.block_of_unit(truth)
    return len(truth if blocks is None else blocks)
