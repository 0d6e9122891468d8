"""Which weights of a training are kept: the last, those of the best epoch, or an average."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from pipeline.terms.errors import RarefyError

LATE = 0.3
"""The share of the steps, at the end, whose weights are averaged."""
EVERY = 10
"""Steps from one weight in the average to the next, or fewer, so that it is of ``MEMBERS``."""
MEMBERS = 10
FILE = "kept.safetensors"
State = dict[str, Tensor]


class Keeper:
    """Judges the weights after every epoch, and at the end the average of the late ones as well.

    The average is uniform: stochastic weight averaging (Izmailov et al. 2018, arXiv 1803.05407).
    """

    def __init__(self, judge: Callable[[Any], float], steps: int, epochs: int) -> None:
        """Begin with no weights.

        Args:
            judge: returns the loss of a network on rows that are not trained on; NaN is as bad as
                infinity.
            steps: of the whole training.
            epochs: of the whole training.
        """
        self.judge = judge
        self.steps = steps
        self.epochs = epochs
        self.epoch = steps // epochs
        """The steps of an epoch."""
        spread = int(LATE * steps) // MEMBERS
        self.every = max(1, min(EVERY, spread))
        """The steps from one member of the average to the next."""
        self.losses: list[float] = []
        """The loss after each epoch."""
        self.best: State = {}
        self.average: State = {}
        self.counted = 0
        """The members of the average so far."""

    def step(self, network: Any, number: int) -> None:
        """Take note of the weights after a step; ``number`` counts from 1."""
        late = number > (1 - LATE) * self.steps
        if late and number % self.every == 0:
            self._add_to_average(network)
        if number % self.epoch == 0:
            self.losses.append(self._judged_loss(network))
            if not self.waiting():
                weights = _trained_weights(network)
                self.best = {name: value.clone() for name, value in weights.items()}

    def _add_to_average(self, network: Any) -> None:
        self.counted += 1
        for name, value in _trained_weights(network).items():
            mean = self.average.setdefault(name, torch.zeros_like(value))
            mean += (value - mean) / self.counted

    def waiting(self) -> int:
        """Return the number of epochs since the best one."""
        if not self.losses:
            return 0
        best = self.losses.index(min(self.losses))
        return len(self.losses) - 1 - best

    def finish(self, network: Any) -> float:
        """Load the best weights into the network; return their loss.

        Raises RarefyError if no loss is finite.
        """
        best_loss = min(self.losses)
        whole = len(self.losses) == self.epochs  # else the average lacks the last steps
        if self.average and whole:
            network.load_state_dict(self.average, strict=False)
            loss = self._judged_loss(network)
            if loss < best_loss:
                return loss
        if best_loss == math.inf:
            raise RarefyError(
                "training diverged: the loss on dev is not finite after any epoch; lower "
                "learning_rate"
            )
        network.load_state_dict(self.best, strict=False)
        return best_loss

    def save(self, directory: Path) -> None:
        """Write what a resumed run needs into a checkpoint."""
        numbers = torch.tensor([self.counted, *self.losses], dtype=torch.float64)
        tensors = {"numbers": numbers}
        for prefix, state in self._states():
            for name, value in state.items():
                tensors[prefix + name] = value.cpu().clone()
        save_file(tensors, directory / FILE)

    def load(self, directory: Path, device: Any) -> None:
        """Read what ``save`` wrote."""
        tensors = load_file(directory / FILE)
        numbers = tensors.pop("numbers").tolist()
        self.counted = int(numbers[0])
        self.losses = numbers[1:]
        for prefix, state in self._states():
            for name, value in tensors.items():
                if name.startswith(prefix):
                    state[name.removeprefix(prefix)] = value.to(device)

    def _states(self) -> tuple[tuple[str, State], ...]:
        """Return the weights that are kept, each set with the prefix of its names in the file."""
        return ("best.", self.best), ("average.", self.average)

    def _judged_loss(self, network: Any) -> float:
        """Return the network's loss in eval mode; infinity if it is NaN."""
        training = network.training
        network.eval()
        with torch.no_grad():
            loss = self.judge(network)
        network.train(training)
        return math.inf if math.isnan(loss) else loss


def _trained_weights(network: Any) -> State:
    """Return the network's own weights, which training changes."""
    state = network.state_dict()
    return {name: value.detach() for name, value in state.items() if value.is_floating_point()}
