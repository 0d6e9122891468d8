"""A search over variants: an optuna study in a file of the sweep's folder. Needs optuna.

A trial runs until its branch is done or was stopped; optuna takes one without a result for a bad
one. A trial that repeats an earlier variant fails. The sampler of each question has a seed of its
own, so a search that was killed goes on, with one worker, as if it had not been. (Not if latency is
a goal: the batch of branches between two timings begins anew.)

Of several goals, TPE models the front (Ozaki et al. 2022, "Multiobjective tree-structured Parzen
estimator"). NSGA-II would draw its first generation of fifty at random: all trials of most sweeps.
"""

from __future__ import annotations

import json
import math
import sys
import warnings
from pathlib import Path
from typing import Final

import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.samplers import BruteForceSampler, TPESampler
from optuna.storages import BaseStorage, InMemoryStorage, JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, Trial, TrialState

from flows.sweep_job import STUDY
from pipeline.sweep.branch import Branch
from pipeline.sweep.sweep_file import Choices, Range, SweepFile
from pipeline.sweep.variants import Variant, variant
from pipeline.terms.digests import value_sha256

ATTEMPTS: Final = 10
"""How often TPE is asked for a new variant: it draws near the best that it knows."""

MEASURED: Final = (TrialState.COMPLETE, TrialState.PRUNED)
"""The states of trials that the study has a result of."""

optuna.logging.set_verbosity(optuna.logging.ERROR)
warnings.filterwarnings("ignore", "BruteForceSampler is experimental")


class Trials:
    """The trials of a sweep's search.

    Args:
        file: The sweep.
        folder: The sweep's folder. If there is none, nothing is written.
    """

    def __init__(self, file: SweepFile, folder: Path) -> None:
        assert file.search is not None
        self._search, self._vary = file.search, file.vary
        self._variants = min(file.combinations, sys.maxsize)
        self._space = {path: _distribution(choices) for path, choices in file.vary.items()}
        self._storage = _storage(folder)
        self._open()

    def _open(self) -> None:
        """Open the study of these goals, a new one if there is none."""
        self._study = optuna.create_study(
            study_name=", ".join(self._search.goals),
            storage=self._storage,
            directions=["minimize" for _ in self._search.goals],
            load_if_exists=True,
        )

    @property
    def variants(self) -> list[Variant]:
        """The variants of the trials, in order."""
        return [self._variant(trial) for trial in self._trials(TrialState.RUNNING, *MEASURED)]

    @property
    def measured(self) -> set[str]:
        """The names of those that the study has a result of."""
        return {self._variant(trial).name for trial in self._trials(*MEASURED)}

    def _trials(self, *states: TrialState) -> list[FrozenTrial]:
        return self._study.get_trials(deepcopy=False, states=states)

    @property
    def left(self) -> int:
        """How many trials may still be asked for."""
        most = min(self._search.trials, self._variants)
        return max(0, most - len(self.variants))

    def ask(self) -> Variant | None:
        """Return a new variant; None if all were tried, or all trials are used."""
        if not self.left:
            return None
        names = {one.name for one in self.variants}
        for attempt in range(ATTEMPTS):
            trial = self._ask(last=attempt == ATTEMPTS - 1)
            one = self._variant(trial)
            if one.name not in names:
                return one
            self._study.tell(trial, state=TrialState.FAIL)
        return None

    def _ask(self, last: bool) -> Trial:
        """Return a new trial; the last attempt takes one that was not asked for yet, if it can."""
        number = len(self._study.get_trials(deepcopy=False))
        digest = value_sha256([self._search.seed, number])
        seed = int(digest[:8], 16)
        tpe = TPESampler(
            seed=seed,
            multivariate=len(self._vary) > 1,
            n_startup_trials=min(10, max(4, self._search.trials // 4)),
            constant_liar=True,  # what runs already is not asked for by another worker
        )
        self._study.sampler = tpe
        if last and self._variants < sys.maxsize:
            self._study.sampler = BruteForceSampler(seed=seed)
        trial = self._study.ask(self._space)
        self._study.sampler = tpe  # the other would end the study at its last result
        return trial

    def tell(self, branch: Branch) -> None:
        """Tell the study what became of a branch, once its goals are known or it was stopped."""
        costs = [branch.cost(goal) for goal in self._search.goals]
        measured = branch.state == "done" and all(map(math.isfinite, costs))
        if not measured and branch.state != "stopped":
            return
        for trial in self._trials(TrialState.RUNNING):
            if self._variant(trial).name == branch.name:
                state = TrialState.COMPLETE if measured else TrialState.PRUNED
                self._study.tell(trial.number, costs if measured else None, state)

    def restart(self) -> None:
        """Begin a new study: the results of the old one count no more."""
        optuna.delete_study(study_name=self._study.study_name, storage=self._storage)
        self._open()

    def _variant(self, trial: Trial | FrozenTrial) -> Variant:
        """Return the variant of a trial, with its values in the order of the sweep's file."""
        values = {}
        for path, choices in self._vary.items():
            parameter = trial.params[path]
            values[path] = parameter if isinstance(choices, Range) else json.loads(parameter)
        return variant(values)


def _storage(folder: Path) -> BaseStorage:
    """Return the file of a sweep's study; without a folder, a study in memory."""
    if not folder.is_dir():
        return InMemoryStorage()
    path = folder / STUDY
    return JournalStorage(JournalFileBackend(str(path)))


def _distribution(choices: Choices) -> BaseDistribution:
    """Return what optuna draws from; values of a list are drawn as their JSON."""
    if not isinstance(choices, Range):
        return CategoricalDistribution([json.dumps(value) for value in choices])
    kind = IntDistribution if choices.whole else FloatDistribution
    return kind(choices.low, choices.high, log=choices.log)
