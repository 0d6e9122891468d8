"""Measurements of a candidate and a reference whose differences are known."""

from __future__ import annotations

import numpy as np

from rarefy.pipeline.terms.budget import Budget
from rarefy.pipeline.terms.recipe_parts import Target
from rarefy.pipeline.verdict.judge import judge

CPU = (Target(),)
ROWS = 1000


def answers_where(right, labels=2):
    """The truth is always 0; a row is answered 0 where ``right``, else 1."""
    found = np.full((len(right), labels), 0.1)
    found[np.arange(len(right)), np.where(right, 0, 1)] = 0.9
    return found.tolist()


def answers_right(share):
    return answers_where(np.arange(ROWS) < share * ROWS)


def calls_of(ms, processes=3, calls=150, seed=0):
    """Rows of different lengths, equal for equal seeds, with 1 % noise on each call."""
    rows = np.random.default_rng(seed).lognormal(0, 0.4, (processes, calls))
    noise = np.random.default_rng([seed, int(ms * 1e6)]).lognormal(0, 0.01, (processes, calls))
    return (ms * rows * noise).tolist()


def one(measurements, targets=CPU, **budget):
    verdict = judge([Budget(**budget)], targets, measurements)
    assert len(verdict.budgets) == 1
    return verdict.budgets[0]
