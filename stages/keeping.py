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
LAST, AVERAGE = "last", "average"
State = dict[str, Tensor]


class Keeper:
    """Judges the weights after every epoch, and at the end the average of the late ones as well.

    ``judge(network)`` is a loss, on rows that are not trained on; NaN is as bad as infinity. The
    average is uniform:
    stochastic weight averaging (Izmailov et al. 2018, arXiv 1803.05407).
    """

    def __init__(self, judge: Callable[[Any], float], steps: int, epochs: int) -> None:
        self.judge, self.steps, self.epoch = judge, steps, steps // epochs
        self.epochs, self.every = epochs, max(1, min(EVERY, int(LATE * steps) // MEMBERS))
        self.losses: list[float] = []
        """The loss after each epoch."""
        self.best: State = {}
        self.average: State = {}
        self.counted = 0

    def step(self, network: Any, number: int) -> None:
        """Note the weights after a step; ``number`` counts from 1."""
        if number > (1 - LATE) * self.steps and number % self.every == 0:
            self.counted += 1
            for name, value in _floats(network).items():
                mean = self.average.setdefault(name, torch.zeros_like(value))
                mean += (value - mean) / self.counted
        if number % self.epoch == 0:
            self.losses.append(self._judged(network))
            if not self.waiting():
                self.best = {name: value.clone() for name, value in _floats(network).items()}

    def waiting(self) -> int:
        """Return the number of epochs since the best one."""
        return len(self.losses) - 1 - self.losses.index(min(self.losses)) if self.losses else 0

    def finish(self, network: Any) -> tuple[str, float]:
        """Give the network the best weights; return which they are, and their loss.

        Raises RarefyError if no loss is finite.
        """
        best, name = min(self.losses), str(1 + self.losses.index(min(self.losses)))
        name = LAST if int(name) == len(self.losses) else f"epoch {name}"
        if self.average and len(self.losses) == self.epochs:  # it is of the whole end
            network.load_state_dict(self.average, strict=False)
            loss = self._judged(network)
            if loss < best:
                return AVERAGE, loss
        if best == math.inf:
            raise RarefyError(
                "training diverged: the loss on dev is not finite after any epoch; lower "
                "learning_rate"
            )
        network.load_state_dict(self.best, strict=False)
        return name, best

    def save(self, directory: Path) -> None:
        """Write what a resumed run needs into a checkpoint."""
        numbers = torch.tensor([self.counted, *self.losses], dtype=torch.float64)
        named = {"numbers": numbers}
        named |= {f"best.{name}": value for name, value in self.best.items()}
        named |= {f"average.{name}": value for name, value in self.average.items()}
        save_file({name: value.cpu().clone() for name, value in named.items()}, directory / FILE)

    def load(self, directory: Path, device: Any) -> None:
        """Read what ``save`` wrote."""
        named = load_file(directory / FILE)
        numbers = named.pop("numbers").tolist()
        self.counted, self.losses = int(numbers[0]), numbers[1:]
        for part, state in (("best.", self.best), ("average.", self.average)):
            state |= {
                name.removeprefix(part): value.to(device)
                for name, value in named.items()
                if name.startswith(part)
            }

    def _judged(self, network: Any) -> float:
        was = network.training
        network.eval()
        with torch.no_grad():
            loss = self.judge(network)
        network.train(was)
        return math.inf if math.isnan(loss) else loss


def _floats(network: Any) -> State:
    """Return the network's own weights, which training changes."""
    return {
        name: value.detach()
        for name, value in network.state_dict().items()
        if value.is_floating_point()
    }
