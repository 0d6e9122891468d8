"""The latencies of a sweep's bundles: timed beside each other, alone on the machine, in one place.

Branches run beside each other, so none of them can time itself. A session times several bundles in
blocks that take turns. Bundles of different sessions compare because each session has the same
reference, to whose first time all others are scaled.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from pipeline.measure import alone, latency, machine, memory
from pipeline.measure.measurements import Latency
from pipeline.recipe.recipe import LoadedRecipe
from pipeline.run import check_machine
from pipeline.run.plan import Plan
from pipeline.stage.development import NAME
from pipeline.store import disk
from pipeline.terms.digests import value_sha256
from pipeline.terms.interval import Interval
from pipeline.terms.progress import Progress, silent
from pipeline.terms.vocabulary import Target
from stages.validate import Validate

FILE: Final = "timing.json"
SESSION: Final = 16
"""Bundles of a session at most: each of its processes loads them all."""
SHARE: Final = 0.3
"""Of the memory, what the files of a session's bundles may have: loaded, they take more."""
USUAL: Final = 4
"""Models that the recipe's own time limit is meant for; more of them get more time."""


@dataclass
class Clock:
    """Times bundles by the recipe's own parameters of ``validate``; known times are on disk.

    ``known``: digest -> median ms. The first of it is the reference.
    """

    path: Path
    target: Target
    texts: Sequence[str]
    pairs: Sequence[str] | None
    settings: Validate
    seed: int
    directory: Callable[[str], Path]
    """digest -> the folder of a bundle, with its files."""
    known: dict[str, Interval] = field(default_factory=dict)
    doubtful: set[str] = field(default_factory=set)
    """Bundles whose times something disturbed again and again: they are not kept on disk."""
    asked: frozenset[str] = frozenset()
    """The bundles of the last call of ``together``, or of the first of ``also``."""

    @classmethod
    def of(
        cls, loaded: LoadedRecipe, plan: Plan, folder: Path, directory: Callable[[str], Path]
    ) -> Clock:
        """Return the clock of a recipe, which times development rows on its first target.

        Rows come from ``plan``, that of a branch: the recipe's own model, which may be another,
        need not be there. Eval rows take no part in what is chosen, not even by their lengths.
        """
        import numpy as np

        own = [s.stage for s in loaded.steps if isinstance(s.stage, Validate)]
        settings = own[-1] if own else Validate()
        texts, pairs = plan.task.served(plan.rows[NAME])  # timing asks for no answers to them
        seed = loaded.recipe.seed
        count = min(settings.rows, len(texts))
        rows = np.random.default_rng(seed).choice(len(texts), count, replace=False)
        clock = cls(
            path=folder / FILE,
            target=loaded.recipe.targets[0],
            texts=[texts[row] for row in rows],
            pairs=None if pairs is None else [pairs[row] for row in rows],
            settings=settings,
            seed=seed,
            directory=directory,
        )
        clock.read()
        return clock

    def read(self) -> None:
        """Take the times that were kept, if what they depend on is the same."""
        if self.path.exists() and disk.read(self.path, "key") == self.key:
            found = disk.read(self.path, "ms")
            self.known = {digest: Interval(*times) for digest, times in found.items()}
            self.asked = frozenset(disk.read(self.path, "asked"))

    @property
    def key(self) -> str:
        """What times depend on besides the bundles."""
        about: list[Any] = [
            machine.fingerprint(),
            self.target.model_dump(mode="json"),
            self.settings.model_dump(mode="json"),
            list(self.texts),
            self.pairs if self.pairs is None else list(self.pairs),
        ]
        return value_sha256(about)

    def also(
        self,
        digests: Sequence[str],
        progress: Progress = silent,
        say: Callable[[str], None] = lambda _: None,
    ) -> Mapping[str, Interval]:
        """Time the bundles among these that are not known yet; return all times.

        ``say`` is told what is timed, and if another run has the machine.
        """
        new = [digest for digest in dict.fromkeys(digests) if digest not in self.known]
        if new:
            self.asked = frozenset() if self.known else frozenset(new)
            self._time(new, progress, say)
        return self.known

    def together(
        self,
        digests: Sequence[str],
        progress: Progress = silent,
        say: Callable[[str], None] = lambda _: None,
    ) -> Mapping[str, Interval]:
        """Time all these bundles again, unless exactly they were timed so before.

        If that was interrupted, only those are timed that are left.
        """
        if self.asked != frozenset(digests):
            self.known, self.asked, self.doubtful = {}, frozenset(digests), set()
        new = [digest for digest in dict.fromkeys(digests) if digest not in self.known]
        if new:
            self._time(new, progress, say)
        return self.known

    def _time(self, new: Sequence[str], progress: Progress, say: Callable[[str], None]) -> None:
        """Time bundles in as many sessions as they need, and keep the times after each."""
        say(f"timing {len(new)} bundles beside each other")
        with alone.measuring(lambda why: say(f"{why}; waiting for it to finish")):
            while new:
                reference = next(iter(self.known), None)
                beside = [reference] if reference else []
                count = self._that_fit(beside, new)
                self._session([*beside, *new[:count]], progress, say)
                new = new[count:]
                disk.write(self.path, self._kept())

    def _that_fit(self, beside: Sequence[str], new: Sequence[str]) -> int:
        """Return how many of the first bundles one process can load, one at least."""
        sizes = [memory.size(self.directory(digest)) for digest in (*beside, *new)]
        most = SHARE * check_machine.total_memory()
        totals = itertools.accumulate(sizes, initial=max(sizes))  # one of them is loaded twice
        count = sum(total <= most for total in totals) - 1 - len(beside)
        return max(1, min(count, SESSION - len(beside)))

    def _kept(self) -> dict[str, Any]:
        """Return what goes to disk: nothing if the reference's own time is in doubt."""
        sure = {digest: ms for digest, ms in self.known.items() if digest not in self.doubtful}
        if self.doubtful.intersection(list(self.known)[:1]):
            sure = {}
        return {"key": self.key, "ms": sure, "asked": sorted(self.asked)}

    def _session(
        self, digests: Sequence[str], progress: Progress, say: Callable[[str], None]
    ) -> None:
        """Time some bundles, again if something slowed the machine down."""
        timed = latency.undisturbed(lambda: self._measured(digests, progress))
        if timed.throttled:
            say(f"{timed.throttled}; these times count for now, and are taken again next time")
            self.doubtful.update(digests if not self.known else digests[1:])
        elif self.doubtful.intersection(list(self.known)[:1]):  # to whose time others are scaled
            self.doubtful.update(digests[1:])
        medians = {digest: timed.percentile(digest, 50) for digest in digests}
        first = digests[0]
        reference = self.known.get(first)
        for digest, median in medians.items():
            if digest not in self.known:
                self.known[digest] = (
                    _scaled(median, medians[first], reference) if reference else Interval(*median)
                )

    def _measured(self, digests: Sequence[str], progress: Progress) -> Latency:
        return latency.measure(
            {digest: self.directory(digest) for digest in digests},
            self.texts,
            self.pairs,
            provider=self.target.provider,
            alike=True,  # whatever each was exported for
            threads=self.target.threads,
            processes=self.settings.processes,
            seconds=self.settings.seconds * max(1.0, len(digests) / USUAL),
            seed=self.seed,
            progress=progress,
        )


def _scaled(time: Interval, now: Interval, before: Interval) -> Interval:
    """Return a time as it would be had the reference, ``now``, taken as long as ``before``.

    The three are measured apart, so their relative errors add up in squares.
    """
    value = time.value * before.value / now.value
    # What makes the result smaller: time and ``before`` at their low ends, ``now`` at its high one.
    less = (time.value / time.low, before.value / before.low, now.high / now.value)
    more = (time.high / time.value, before.high / before.value, now.value / now.low)
    return Interval(value, value / _together(less), value * _together(more))


def _together(factors: Sequence[float]) -> float:
    return math.exp(math.hypot(*(math.log(factor) for factor in factors)))
