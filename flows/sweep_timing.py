"""The latencies of a sweep's bundles: timed beside each other, alone on the machine, in one place.

Branches run beside each other, so none of them can time itself. A session times several bundles in
blocks that take turns. Bundles of different sessions compare because each session has the same
reference, to whose first time all others are scaled.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from pipeline.measure import alone, latency, machine
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
"""Bundles of a session: each of its processes loads them all."""
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
    at_once: bool = False
    """Whether all known bundles were timed by one call of ``together``."""

    @classmethod
    def of(cls, plan: Plan, folder: Path, directory: Callable[[str], Path]) -> Clock:
        """Return the clock of a recipe, which times development rows on its first target.

        Eval rows take no part in what is chosen, not even by their lengths.
        """
        import numpy as np

        own = [s.stage for s in plan.loaded.steps if isinstance(s.stage, Validate)]
        settings = own[-1] if own else Validate()
        texts, pairs = plan.task.requests(plan.splits[NAME])
        seed = plan.loaded.recipe.seed
        count = min(settings.rows, len(texts))
        rows = np.random.default_rng(seed).choice(len(texts), count, replace=False)
        clock = cls(
            path=folder / FILE,
            target=plan.loaded.recipe.targets[0],
            texts=[texts[row] for row in rows],
            pairs=None if pairs is None else [pairs[row] for row in rows],
            settings=settings,
            seed=seed,
            directory=directory,
        )
        if clock.path.exists() and disk.read(clock.path, "key") == clock.key:
            found = disk.read(clock.path, "ms")
            clock.known = {digest: Interval(*times) for digest, times in found.items()}
            clock.at_once = disk.read(clock.path, "at_once")
        return clock

    @property
    def key(self) -> str:
        """What times depend on besides the bundles."""
        about: list[Any] = [
            machine.fingerprint(),
            self.target.model_dump(mode="json"),
            self.settings.model_dump(mode="json"),
            list(self.texts),
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
        if not new:
            return self.known
        before = len(self.known)
        say(f"timing {len(new)} bundles beside each other")
        with alone.measuring(lambda: say(f"{alone.WHY}; waiting for it to finish")):
            while new:
                reference = next(iter(self.known), None)
                beside = [reference] if reference else []
                part, new = new[: SESSION - len(beside)], new[SESSION - len(beside) :]
                self._session([*beside, *part], progress)
        self.at_once = not before
        disk.write(self.path, {"key": self.key, "ms": self.known, "at_once": self.at_once})
        return self.known

    def together(
        self,
        digests: Sequence[str],
        progress: Progress = silent,
        say: Callable[[str], None] = lambda _: None,
    ) -> Mapping[str, Interval]:
        """Time all these bundles again, unless exactly they were timed so before."""
        if not self.at_once or set(digests) != set(self.known):
            self.known = {}
        return self.also(digests, progress, say)

    def _session(self, digests: Sequence[str], progress: Progress) -> None:
        timed = latency.measure(
            {digest: self.directory(digest) for digest in digests},
            self.texts,
            self.pairs,
            provider=self.target.provider,
            threads=self.target.threads,
            processes=self.settings.processes,
            seconds=self.settings.seconds * max(1.0, len(digests) / USUAL),
            seed=self.seed,
            progress=progress,
        )
        medians = {digest: timed.percentile(digest, 50) for digest in digests}
        first = digests[0]
        scale = self.known[first].value / medians[first].value if first in self.known else 1.0
        for digest, median in medians.items():
            if digest not in self.known:
                self.known[digest] = Interval(*(scale * each for each in median))
