import numpy as np
import pytest

from rarefy.pipeline.measure.latency.drift import find_drift, find_warming


def _session(processes=6, calls=60, seed=0, rows=60):
    """Calls on rows of very different lengths, in a new random order in each process."""
    generator = np.random.default_rng(seed)
    lengths = np.ceil(20 * generator.lognormal(0, 0.7, rows)).astype(int)
    sizes = [lengths[np.resize(generator.permutation(rows), calls)] for _ in range(processes)]
    times = [
        own * generator.lognormal(0, 0.02) * generator.lognormal(0, 0.1, calls) for own in sizes
    ]
    return times, sizes


FEW = {"processes": 5, "calls": 40, "rows": 200}
"""What a large model has time for: most rows are timed once."""


@pytest.mark.parametrize("session", [{}, FEW, FEW | {"rows": 2000}, FEW | {"rows": 1}])
def test_a_steady_machine_is_never_called_throttled(session):
    assert all(find_drift(*_session(seed=seed, **session)) is None for seed in range(200))


@pytest.mark.parametrize("session", [FEW, FEW | {"rows": 2000}, FEW | {"rows": 1}])
@pytest.mark.parametrize("at", [50, 100, 150])
def test_rows_that_are_timed_once_do_not_hide_a_change(session, at):
    """Divided by its own row's median, each was 1, however slow the machine had become."""
    missed = 0
    for seed in range(50):
        times, sizes = _session(seed=seed, **session)
        flat = np.concatenate(times)
        flat[at:] *= 1.5
        missed += find_drift([flat], [np.concatenate(sizes)]) is None
    assert missed == 0


def test_a_machine_that_becomes_slower_or_faster_is_found():
    times, sizes = _session()
    slower = [process * (1.5 if number >= 3 else 1) for number, process in enumerate(times)]
    faster = [process * (1 if number >= 3 else 1.5) for number, process in enumerate(times)]
    assert "times as long in the last 50% of the session as in the first 50%" in find_drift(
        slower, sizes
    )
    assert "times as long in the first 50% of the session as in the last 50%" in find_drift(
        faster, sizes
    )


def test_a_change_within_one_process_is_found_too():
    times, sizes = _session(processes=2, calls=200, rows=200)
    times[1][100:] *= 2
    assert "times as long in the last " in find_drift(times, sizes)


def test_processes_that_were_not_warm_are_found():
    """The first fifth of each process's calls, and more, take a fifth longer."""
    times, sizes = _session(processes=5, calls=100, rows=100)
    assert find_warming({"a": times, "b": times}, sizes, 10) is None
    cold = [process * np.where(np.arange(100) < 50, 1.2, 1) for process in times]
    sentence = find_warming({"a": times, "b": cold}, sizes, 10)
    assert sentence is not None
    assert sentence.startswith("calls of b took 1.")
    assert "warm-up was too short" in sentence


@pytest.mark.parametrize("session", [{}, FEW, FEW | {"rows": 2000}, FEW | {"rows": 1}])
def test_warm_processes_are_never_called_cold(session):
    for seed in range(200):
        times, sizes = _session(seed=seed, **session)
        assert find_warming({"a": times}, sizes, 10) is None


def test_a_few_blocks_say_nothing_of_a_warm_up():
    """Calls of a block share what disturbs them, so two blocks are no forty samples."""
    times, sizes = _session(processes=3, calls=40, rows=40)
    cold = [process * np.where(np.arange(40) < 20, 1.5, 1) for process in times]
    assert find_warming({"a": cold}, sizes, 10) is None
    assert find_warming({"a": cold}, sizes, 4) is not None
