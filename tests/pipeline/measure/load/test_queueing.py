"""Checked against queueing theory and Lindley's recursion, independently of the code."""

from __future__ import annotations

import math

import numpy as np
import pytest

from rarefy.pipeline.measure.load.queueing import arrivals, fifo

MANY = 200_000


def lindley(sent, service):
    """Return the waits at one server: W' = max(0, W + S - A) (Lindley 1952)."""
    waits, wait = [], 0.0
    for index in range(len(sent)):
        if index:
            wait = max(0.0, wait + service[index - 1] - (sent[index] - sent[index - 1]))
        waits.append(wait)
    return np.array(waits)


def test_one_server_is_lindleys_recursion():
    generator = np.random.default_rng(0)
    sent = arrivals(50, 20, seed=3)
    service = generator.exponential(1 / 60, len(sent)).tolist()
    waits = fifo(sent, service, 1) - sent - service
    np.testing.assert_allclose(waits, lindley(sent, service), atol=1e-9)


@pytest.mark.parametrize("utilisation", [0.5, 0.7])
def test_a_constant_service_waits_as_m_d_1(utilisation):
    """Pollaczek–Khinchine: the mean wait is ρ/(2(1 − ρ)) service times."""
    sent = arrivals(utilisation, MANY, seed=1)
    waits = fifo(sent, [1.0] * len(sent), 1) - sent - 1
    expected = utilisation / (2 * (1 - utilisation))
    assert np.mean(waits) == pytest.approx(expected, rel=0.05)


def test_an_exponential_service_answers_as_m_m_1():
    """The response time is exponential with rate μ − λ: its p99 is ln 100/(μ − λ)."""
    sent = arrivals(0.6, MANY, seed=1)
    service = np.random.default_rng(2).exponential(1, len(sent)).tolist()
    response = fifo(sent, service, 1) - sent
    assert np.percentile(response, 99) == pytest.approx(math.log(100) / 0.4, rel=0.08)


def test_two_servers_wait_as_erlang_says():
    """M/M/2 at ρ = 0.7: a request waits with the probability 2ρ²/(1 + ρ)."""
    sent = arrivals(1.4, MANY / 2, seed=1)
    service = np.random.default_rng(2).exponential(1, len(sent)).tolist()
    waits = fifo(sent, service, 2) - sent - service
    assert np.mean(waits > 1e-9) == pytest.approx(2 * 0.49 / 1.7, rel=0.05)


def test_users_come_at_their_rate_and_a_clock_evenly():
    sent = arrivals(100, 200, seed=0)
    assert sent == arrivals(100, 200, seed=0) != arrivals(100, 200, seed=1)
    assert len(sent) == pytest.approx(20_000, rel=0.03)
    gaps = np.diff(sent)
    assert gaps.min() >= 0
    assert np.std(gaps) == pytest.approx(np.mean(gaps), rel=0.05)  # exponential
    assert arrivals(4, 1, seed=0, kind="constant") == [0, 0.25, 0.5, 0.75]
