"""Throughput as it is recorded: rows a second of models on a target, with their intervals."""

from __future__ import annotations

import math

from pydantic import BaseModel, ConfigDict, Field

from rarefy.pipeline.terms.interval import Interval
from rarefy.pipeline.terms.wording import plural

Samples = dict[str, list[list[float]]]
"""Model -> process after process -> numbers."""


class Throughput(BaseModel):
    """Rows a second on one target while all its workers are busy, from text to raw outputs.

    ``samples[model][process]`` holds ms for a row, one number for each block of rows: the time of
    all workers together, so 1,000 divided by it is rows a second. Entry i is the same rows for
    every model. ``cpu`` has the same layout: CPU ms for a row, which is CPU s for a thousand.
    ``batch`` is how many rows share a call of a model, and ``tried`` the rows a second of each
    size that was timed to choose it. Models of ``interact`` answer a row otherwise beside others,
    so only single rows keep the scores that were measured, and no size is chosen for them.
    ``lists`` holds the ms in which a single worker answers whole lists of candidates, each the
    rows of one query.

    A "process" is a round here: as many processes at once as there are workers. Sampling may have
    stopped at any of ``looks`` looks; see ``Latency``.
    """

    model_config = ConfigDict(extra="forbid", ser_json_inf_nan="strings")

    samples: Samples
    cpu: Samples
    lists: Samples = Field(default_factory=dict)
    batch: dict[str, int]
    tried: dict[str, dict[int, float]] = Field(default_factory=dict)
    interact: list[str] = Field(default_factory=list)
    workers: int
    threads: int
    provider: str
    rows: int = Field(description="how many rows the blocks were drawn from")
    spread: float = Field(
        default=0.0, description="relative standard error of the mean length of such rows"
    )
    corpus: int = Field(default=0, description="how many documents are searched, if any are")
    busy: list[str] = Field(default_factory=list, description="why the machine was not quiet")
    throttled: str | None = Field(
        default=None, description="how the machine's speed changed during timing"
    )
    looks: int = 1
    seconds: float = 0.0
    stopped: str = Field(default="", description="why timing stopped")

    def rate(self, model: str) -> Interval:
        """Return a model's rows a second.

        The rows are a sample too, and other ones are longer or shorter: a row is taken to cost as
        much as it has tokens, which is a little too much.
        """
        value, low, high = self._per_row(self.samples[model])
        return Interval(1e3 / value, 1e3 / high, 1e3 / low)

    def ratio(self, over: str, under: str) -> Interval:
        """Return the rows a second of one model divided by those of another."""
        ours, theirs = self.samples[over], self.samples[under]
        ratios = []
        for our_blocks, their_blocks in zip(ours, theirs, strict=True):
            ratio = _mean(their_blocks) / _mean(our_blocks)
            ratios.append(ratio)
        whole = _mean(_all(theirs)) / _mean(_all(ours))
        return self._over_processes(whole, ratios)

    def cost(self, model: str) -> Interval:
        """Return the CPU seconds of a thousand rows, of all workers and threads."""
        return self._per_row(self.cpu[model])

    def corpus_seconds(self, model: str) -> Interval | None:
        """Return the seconds in which a model embeds the whole corpus; None if there is none."""
        if not self.corpus:
            return None
        value, low, high = self.rate(model)
        return Interval(self.corpus / value, self.corpus / high, self.corpus / low)

    def list_time(self, model: str) -> Interval | None:
        """Return the median ms of a whole list of candidates; None if too few were timed."""
        from rarefy.pipeline.measure.statistics import intervals

        times = self.lists.get(model, [])
        count = sum(map(len, times))
        if not intervals.carries(50, count):
            return None
        return intervals.percentile_interval(times, 50, looks=self.looks)

    def setting(self, model: str) -> str:
        """Return in words how a model answered: ``2 workers × 1 thread, batches of 8``.

        Of a model whose predictions depend on the batch, it says so.
        """
        workers = plural(self.workers, "worker")
        threads = plural(self.threads, "thread")
        size = self.batch[model]
        rows = "single rows"
        if size > 1:
            rows = f"batches of {size}"
        elif model in self.interact:
            rows = "single rows, not batches"
        if model in self.interact:
            rows += ", which change its predictions"
        return f"{workers} × {threads}, {rows}"

    def _per_row(self, times: list[list[float]]) -> Interval:
        """Return the mean of times for a row, by process and block."""
        means = [_mean(blocks) for blocks in times]
        return self._over_processes(_mean(_all(times)), means, self.spread)

    def _over_processes(self, value: float, values: list[float], spread: float = 0.0) -> Interval:
        """Return the interval of a mean or of a ratio of two, from its value in each process.

        As for latencies, the process is the unit, and the interval is Student's on a log scale
        (``statistics.intervals``). It takes two processes at least.

        Args:
            value: Of all processes.
            values: Of each process.
            spread: The standard error, on a log scale, that all processes have in common.
        """
        import numpy as np
        from scipy.stats import t

        count = len(values)
        deviation = float(np.std(np.log(values), ddof=1))
        error = math.hypot(deviation / math.sqrt(count), spread)
        confidence = 1 - 0.025 / self.looks
        quantile = float(t.ppf(confidence, count - 1))
        factor = math.exp(quantile * error)
        return Interval(value, value / factor, value * factor)


def _mean(numbers: list[float]) -> float:
    return sum(numbers) / len(numbers)


def _all(processes: list[list[float]]) -> list[float]:
    numbers = []
    for process in processes:
        numbers += process
    return numbers
