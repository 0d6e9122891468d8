"""The latencies of a sweep's bundles: timed together, alone on the machine, in one place.

Branches run at the same time, so none of them can time itself. A session times several bundles in
blocks that take turns. Bundles of different sessions compare because each session has the same
reference, to whose first time all others are scaled.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from rarefy.pipeline.data.development_split import NAME
from rarefy.pipeline.measure import exclusive, machine
from rarefy.pipeline.measure.latency import session as latency
from rarefy.pipeline.measure.measurements import Latency
from rarefy.pipeline.measure.row_lengths import rows_to_time
from rarefy.pipeline.recipe.recipe import LoadedRecipe
from rarefy.pipeline.run.plan.plan import Plan
from rarefy.pipeline.store import disk
from rarefy.pipeline.terms.digests import value_sha256
from rarefy.pipeline.terms.interval import Interval
from rarefy.pipeline.terms.progress import Progress, silent
from rarefy.pipeline.terms.recipe_parts import Target
from rarefy.pipeline.terms.wording import plural
from rarefy.stages.validate import Validate

FILE: Final = "timing.json"
SESSION: Final = 8
"""Bundles of a session at most: each of its processes loads them all."""
USUAL: Final = 4
"""Models that the recipe's own time limit is meant for; more of them get more time."""


@dataclass
class Clock:
    """Times bundles by the recipe's own parameters of ``validate``, and keeps the times on disk."""

    path: Path
    target: Target
    texts: list[str]
    pairs: list[str] | None
    settings: Validate
    seed: int
    directory: Callable[[str], Path]
    """digest -> the folder of a bundle, with its files."""
    measure: Callable[..., Latency] = field(default_factory=lambda: latency.measure)
    """What times bundles; looked up when a clock is made, so that tests can replace it."""
    certain: dict[str, Interval] = field(default_factory=dict)
    """digest -> median ms. The first of it is the reference."""
    doubtful: dict[str, Interval] = field(default_factory=dict)
    """Times that something disturbed again and again: they are not kept on disk."""

    @classmethod
    def for_recipe(
        cls, loaded: LoadedRecipe, plan: Plan, folder: Path, directory: Callable[[str], Path]
    ) -> Clock:
        """Return the clock of a recipe, which times development rows on its first target.

        Eval rows take no part in what is chosen, not even by their lengths.

        Args:
            loaded: The recipe.
            plan: That of a branch, which has the rows: the recipe's own model may not be there.
            folder: The sweep's.
            directory: digest -> the folder of a bundle.
        """
        settings = Validate()
        for step in loaded.steps:
            if isinstance(step.stage, Validate):
                settings = step.stage
        seed = loaded.recipe.seed
        # Timing asks for no answers to them.
        texts, pairs = rows_to_time(plan.task, plan.rows[NAME], settings.rows, seed)
        target = loaded.recipe.targets[0]
        return cls(folder / FILE, target, texts, pairs, settings, seed, directory)

    def __post_init__(self) -> None:
        """Take the times that are on disk, if what they depend on is the same."""
        if self.path.exists() and disk.read(self.path, "key") == self.key:
            for digest, times in disk.read(self.path, "ms").items():
                self.certain[digest] = Interval(*times)

    @property
    def key(self) -> str:
        """What times depend on besides the bundles."""
        target = self.target.as_json()
        settings = self.settings.model_dump(mode="json")
        return value_sha256([machine.fingerprint(), target, settings, self.texts, self.pairs])

    @property
    def times(self) -> Mapping[str, Interval]:
        """All times, in doubt or not."""
        return self.doubtful | self.certain

    @property
    def notes(self) -> list[str]:
        """What is wrong with the times."""
        if not self.doubtful:
            return []
        bundles = plural(len(self.doubtful), "bundle")
        return [
            f"the latencies of {bundles} are in doubt: something slowed this machine down each "
            "time; the same command takes them again"
        ]

    def time(
        self,
        digests: Iterable[str],
        progress: Progress = silent,
        say: Callable[[str], None] = lambda _: None,
    ) -> None:
        """Time the bundles that have no time yet, in as many sessions as they need.

        Args:
            digests: The bundles.
            progress: Shows how far it is.
            say: Is told what is timed, and if another run has the machine.
        """
        times = self.times
        new = [digest for digest in dict.fromkeys(digests) if digest not in times]
        if not new:
            return
        say(f"timing {plural(len(new), 'bundle')} together")
        with exclusive.measuring(lambda why: say(f"{why}; waiting for it to finish")):
            while new:
                reference = list(self.certain)[:1]
                count = SESSION - len(reference)
                self._session(reference, new[:count], progress, say)
                new = new[count:]

    def _session(
        self,
        reference: Sequence[str],
        new: Sequence[str],
        progress: Progress,
        say: Callable[[str], None],
    ) -> None:
        """Time some bundles, again if something slowed the machine down."""
        timed = latency.undisturbed(lambda: self._measured([*reference, *new], progress))
        times = {digest: timed.percentile(digest, 50) for digest in new}
        for first in reference:
            now = timed.percentile(first, 50)
            for digest, time in times.items():
                times[digest] = _scaled(time, now, self.certain[first])
        if timed.throttled:
            say(f"{timed.throttled}; these times count for now, and are taken again next time")
            self.doubtful |= times
            return
        self.certain |= times
        disk.write(self.path, {"key": self.key, "ms": self.certain})

    def _measured(self, digests: Sequence[str], progress: Progress) -> Latency:
        share = max(1.0, len(digests) / USUAL)
        directories = {digest: self.directory(digest) for digest in digests}
        return self.measure(
            directories,
            self.texts,
            self.pairs,
            provider=self.target.provider,
            alike=True,  # whatever each was exported for
            threads=self.target.threads,
            processes=self.settings.processes,
            seconds=self.settings.seconds * share,
            seed=self.seed,
            progress=progress,
        )


def _scaled(time: Interval, now: Interval, before: Interval) -> Interval:
    """Return a time as it would be had the reference, ``now``, taken as long as ``before``.

    The three are measured apart, so their relative errors add up in squares.
    """
    value = time.value * before.value / now.value
    errors = [math.log(measured.high / measured.low) / 2 for measured in (time, now, before)]
    factor = math.exp(math.hypot(*errors))
    return Interval(value, value / factor, value * factor)
