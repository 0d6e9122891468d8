"""A search over variants with optuna, replayed from what is known of the earlier ones.

Nothing of optuna is kept: before each question, a new study is told all finished trials. So a
search that was killed goes on, and with one worker it asks for the same variants as if it had not
been: the generator of each question has a seed of its own. (Not if latency is a goal: the batch of
branches between two timings begins anew.)

Of several goals, TPE models the front (Ozaki et al. 2022, "Multiobjective tree-structured Parzen
estimator"). NSGA-II would draw its first generation of fifty at random: all trials of most sweeps.
"""

from __future__ import annotations

import itertools
import json
import math
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any, Final

from pipeline.store import disk
from pipeline.sweep.branch import TRIALS, Branch
from pipeline.sweep.sweep_file import Choices, Range, Search
from pipeline.sweep.variants import Variant, variant
from pipeline.terms.digests import value_sha256
from pipeline.terms.errors import IntegrityError, ProviderError

if TYPE_CHECKING:
    import optuna

ATTEMPTS: Final = 10
"""How often optuna is asked for a variant that was not asked for yet, before one is drawn."""
EXTRA: Final = "pip install 'rarefy[sweep]'"


def check() -> None:
    """Raise ProviderError if optuna is not installed."""
    try:
        import optuna
    except ImportError:
        raise ProviderError(f"a search needs optuna: {EXTRA}") from None
    optuna.logging.set_verbosity(optuna.logging.ERROR)


@dataclass
class Trials:
    """The variants that a search has asked for, in order, in a file of the sweep's folder."""

    path: Path
    search: Search
    vary: Mapping[str, Choices]
    asked: list[Variant]

    @classmethod
    def open(cls, folder: Path, search: Search, vary: Mapping[str, Choices]) -> Trials:
        """Read the earlier trials. Raises IntegrityError if the file is damaged."""
        path = folder / TRIALS
        known: list[dict[str, Any]] = disk.read(path, "trials") if path.exists() else []
        try:
            # In the order of today, which no branch has begun with if it is another one.
            asked = [variant({name: values[name] for name in vary}) for values in known]
        except (KeyError, TypeError):
            raise IntegrityError(f"{path}: the file is damaged; delete it") from None
        return cls(path, search, vary, asked)

    @property
    def left(self) -> int:
        """How many trials may still be asked for."""
        return max(0, int(min(self.search.trials, self.different)) - len(self.asked))

    @property
    def different(self) -> float:
        """How many variants there are; infinite if a range has numbers between whole ones."""
        return math.prod(_count(choices) for choices in self.vary.values())

    def ask(self, branches: Mapping[str, Branch]) -> Variant | None:
        """Return a new variant and note it; None if all were tried, or all trials are used.

        ``branches``: what is known of the variants so far, by name. TPE draws near the best that it
        knows: if it gives nothing new, a variant is drawn at random from those that are left.
        """
        if not self.left:
            return None
        names = {one.name for one in self.asked}
        suggested = (self._suggested(branches, attempt) for attempt in range(ATTEMPTS))
        for one in map(variant, itertools.chain(suggested, self._drawn())):
            if one.name not in names:
                self.asked.append(one)
                disk.write(self.path, {"trials": [each.values for each in self.asked]})
                return one
        return None

    def _drawn(self) -> Iterator[dict[str, Any]]:
        """Return one combination more than were asked for, in random order; none of endless many.

        They are drawn by their number, in which the places of the values are the digits.
        """
        if self.different > sys.maxsize:
            return
        random = Random(self._seed("drawn"))  # noqa: S311
        for number in random.sample(range(int(self.different)), len(self.asked) + 1):
            values, rest = {}, number
            for path, choices in self.vary.items():
                rest, place = divmod(rest, int(_count(choices)))
                values[path] = choices.low + place if isinstance(choices, Range) else choices[place]
            yield values

    def _seed(self, attempt: int | str) -> int:
        return int(value_sha256([self.search.seed, len(self.asked), attempt])[:8], 16)

    def _suggested(self, branches: Mapping[str, Branch], attempt: int) -> dict[str, Any]:
        import optuna

        goals = self.search.goals
        study = optuna.create_study(
            directions=["maximize" if goal == "accuracy" else "minimize" for goal in goals],
            sampler=optuna.samplers.TPESampler(
                seed=self._seed(attempt),
                multivariate=len(self.vary) > 1,
                n_startup_trials=min(10, max(4, self.search.trials // 4)),
                constant_liar=True,  # what runs already is not asked for by another worker
            ),
        )
        for one in self.asked:
            study.add_trial(self._trial(one, branches.get(one.name)))
        found = study.ask(self._space).params
        return {path: self._value(path, found[path]) for path in self.vary}

    def _trial(self, one: Variant, branch: Branch | None) -> optuna.trial.FrozenTrial:
        """Return a variant as a trial: finished, pruned, failed or running."""
        import optuna

        state = optuna.trial.TrialState
        known = {"done": state.COMPLETE, "stopped": state.PRUNED, "failed": state.FAIL}
        now = state.RUNNING if branch is None else known.get(branch.state, state.RUNNING)
        values = None
        if now is state.COMPLETE and branch is not None:
            named = [(goal, branch.cost(goal)) for goal in self.search.goals]
            if all(math.isfinite(cost) for _, cost in named):
                values = [-cost if goal == "accuracy" else cost for goal, cost in named]
            else:
                now = state.RUNNING  # it is not timed yet
        steps: dict[int, float] = {}
        # Among stopped trials, optuna takes these for the goal: of size, accuracy says nothing.
        if now is state.PRUNED and branch is not None and self.search.goals == ("accuracy",):
            scores = [step.accuracy.value for step in branch.steps if step.accuracy is not None]
            steps = dict(enumerate(scores))
        return optuna.trial.create_trial(
            state=now,
            params={path: self._parameter(path, one.values[path]) for path in self.vary},
            distributions=self._space,
            values=values,
            intermediate_values=steps,
        )

    @property
    def _space(self) -> dict[str, optuna.distributions.BaseDistribution]:
        return {path: _distribution(choices) for path, choices in self.vary.items()}

    def _parameter(self, path: str, value: Any) -> Any:
        return value if isinstance(self.vary[path], Range) else json.dumps(value)

    def _value(self, path: str, parameter: Any) -> Any:
        return parameter if isinstance(self.vary[path], Range) else json.loads(parameter)


def _count(choices: Choices) -> float:
    if not isinstance(choices, Range):
        return len(choices)
    low, high = choices.low, choices.high
    return high - low + 1 if isinstance(low, int) and isinstance(high, int) else math.inf


def _distribution(choices: Choices) -> optuna.distributions.BaseDistribution:
    """Return what optuna draws from; values of a list are drawn as their JSON."""
    import optuna

    if not isinstance(choices, Range):
        return optuna.distributions.CategoricalDistribution([json.dumps(c) for c in choices])
    low, high = choices.low, choices.high
    if isinstance(low, int) and isinstance(high, int):
        return optuna.distributions.IntDistribution(low, high, log=choices.log)
    return optuna.distributions.FloatDistribution(float(low), float(high), log=choices.log)
