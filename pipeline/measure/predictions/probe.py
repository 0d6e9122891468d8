"""A linear probe: a regression on embeddings of the recipe's model, whose weights stay as they are.

It is what many try first, and says what fine-tuning gains (Alain and Bengio 2016, arXiv
1610.01644).
It needs the whole model, so unlike the linear model on words it is no cheaper than the original.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from rarefy.pipeline.data.development_split import picked
from rarefy.pipeline.data.split import Split
from rarefy.pipeline.measure.latency.timer import TIMER, Timer
from rarefy.pipeline.measure.measurements import Linear
from rarefy.pipeline.measure.predictions import linear_model
from rarefy.pipeline.model.batches import batches_by_length
from rarefy.pipeline.tasks import Task
from rarefy.pipeline.terms.progress import Progress, silent

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

MOST = 2000
"""Training rows at most: embedding them takes most of the time."""
MOST_DEV = 500
BATCH = 32


def measure(
    task: Task,
    directory: Path,
    train: Split,
    dev: Split,
    evaluated: Split,
    *,
    seed: int,
    device: str = "cpu",
    progress: Progress = silent,
    timer: Timer = TIMER,
) -> Linear:
    """Embed rows, fit the regression whose strength is best on dev, and answer the eval rows.

    Args:
        task: It must say what its ``linear`` form is.
        directory: The model: an encoder, or a checkpoint whose head is left out.
        train: The rows to learn from, of which ``MOST`` at most are drawn.
        dev: The rows on which the regularization is chosen, ``MOST_DEV`` at most.
        evaluated: The rows to answer.
        seed: Of the draws.
        device: Where the model runs.
        progress: Shows how far it is.
        timer: The clock.
    """
    import pickle

    from sklearn.preprocessing import StandardScaler

    started = timer.seconds()
    train = _drawn(train, MOST, seed)
    dev = _drawn(dev, MOST_DEV, seed)
    total = len(train) + len(dev) + len(evaluated)
    embedder = _Embedder(task, directory, device, total, progress)
    scaler = StandardScaler()
    vectors = scaler.fit_transform(embedder.embed(train))
    targets = linear_model.targets_of(task, train, range(len(train)))
    held_out = scaler.transform(embedder.embed(dev))
    truth = linear_model.targets_of(task, dev, range(len(dev)))
    model, task = linear_model.fit(task, (vectors, targets), (held_out, truth), dev)
    seconds = timer.seconds() - started
    features = scaler.transform(embedder.embed(evaluated))
    outputs = linear_model.outputs(task, model, features)
    answers = task.head.predictions(outputs)
    pickled = pickle.dumps((scaler, model))
    return Linear(
        size=len(pickled),
        seconds=seconds,
        rows=len(train),
        milliseconds=[],
        answers=answers.tolist(),
    )


def _drawn(split: Split, most: int, seed: int) -> Split:
    """Return at most ``most`` rows of a split."""
    import numpy as np

    generator = np.random.default_rng(seed)
    order = generator.permutation(len(split))
    rows = order[:most].tolist()
    return picked(split, rows, split.name, split.sha256)


class _Embedder:
    """The frozen model; ``total``: how many rows it will embed."""

    def __init__(
        self, task: Task, directory: Path, device: str, total: int, progress: Progress
    ) -> None:
        from rarefy.pipeline.model import checkpoint

        network = checkpoint.load(directory)
        body = network.base_model.to(device)
        self.body = body.eval()
        self.tokenizer = checkpoint.load_tokenizer(directory)
        self.task = task
        self.device = device
        self.total = total
        self.progress = progress
        self.done = 0

    def embed(self, split: Split) -> NDArray[np.float64]:
        """Return the mean of the last hidden states of each row's tokens: rows × width."""
        import numpy as np
        import torch

        rows = self.task.encoder.encode(self.tokenizer, split)
        lengths = [len(row["input_ids"]) for row in rows]
        order = list[int]()
        parts = []
        with torch.inference_mode():
            for places in batches_by_length(lengths, BATCH):
                means = self._means([rows[place] for place in places])
                order.extend(places)
                parts.append(means)
                self.done += len(places)
                self.progress(self.done, self.total, "embedding rows")
        back = np.argsort(order)
        joined = np.concatenate(parts)
        return joined[back]

    def _means(self, rows: list[dict[str, list[int]]]) -> NDArray[np.float64]:
        padded = self.tokenizer.pad(rows, return_tensors="pt", padding_side="right")
        batch = padded.to(self.device)
        hidden = self.body(**batch).last_hidden_state
        mask = batch["attention_mask"][..., None]
        total = (hidden.float() * mask).sum(dim=1)
        mean: NDArray[np.float64] = (total / mask.sum(dim=1)).double().cpu().numpy()
        return mean
