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

MOST = 4000
"""Training rows at most: embedding them takes most of the time."""
MOST_DEV = 1000
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

    import numpy as np
    from sklearn.preprocessing import StandardScaler

    started = timer.seconds()
    parts = []
    for split, most in ((train, MOST), (dev, MOST_DEV)):
        order = np.random.default_rng(seed).permutation(len(split))[:most]
        parts.append(picked(split, order.tolist(), split.name, split.sha256))
    embedder = _Embedder(task, directory, device, sum(map(len, parts)) + len(evaluated), progress)
    vectors, held_out = map(embedder.embed, parts)
    scaler = StandardScaler().fit(vectors)
    targets, truth = (linear_model.targets_of(task, part, range(len(part))) for part in parts)
    model, task = linear_model.fit(
        task, (scaler.transform(vectors), targets), (scaler.transform(held_out), truth), parts[1]
    )
    seconds = timer.seconds() - started
    features = scaler.transform(embedder.embed(evaluated))
    answers = task.head.predictions(linear_model.outputs(task, model, features))
    return Linear(
        size=len(pickle.dumps((scaler, model))),
        seconds=seconds,
        rows=len(parts[0]),
        milliseconds=[],
        answers=answers.tolist(),
    )


class _Embedder:
    """The frozen model; ``total``: how many rows it will embed."""

    def __init__(
        self, task: Task, directory: Path, device: str, total: int, progress: Progress
    ) -> None:
        from rarefy.pipeline.model import checkpoint

        network = checkpoint.load(directory)
        self.body = network.base_model.to(device).eval()
        self.tokenizer = checkpoint.load_tokenizer(directory)
        self.task, self.device, self.total, self.progress = task, device, total, progress
        self.done = 0

    def embed(self, split: Split) -> NDArray[np.float64]:
        """Return the mean of the last hidden states of each row's tokens: rows × width."""
        import numpy as np
        import torch

        rows = self.task.encoder.encode(self.tokenizer, split)
        lengths = [len(row["input_ids"]) for row in rows]
        vectors: dict[int, NDArray[np.float64]] = {}
        with torch.inference_mode():
            for places in batches_by_length(lengths, BATCH):
                tokens = [rows[place] for place in places]
                batch = self.tokenizer.pad(tokens, return_tensors="pt", padding_side="right")
                batch = batch.to(self.device)
                hidden = self.body(**batch).last_hidden_state.float()
                mask = batch["attention_mask"][..., None].float()
                means = (hidden * mask).sum(dim=1) / mask.sum(dim=1)
                vectors |= dict(zip(places, means.double().cpu().numpy(), strict=True))
                self.done += len(places)
                self.progress(self.done, self.total, "embedding rows")
        return np.stack([vectors[row] for row in range(len(split))])
