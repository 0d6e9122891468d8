import numpy as np

from pipeline.measure.drift import found


def _session(processes=6, calls=60, seed=0):
    """Calls on rows of very different lengths, in a new random order in each process."""
    generator = np.random.default_rng(seed)
    lengths = generator.lognormal(0, 0.7, calls)
    rows = [generator.permutation(calls) for _ in range(processes)]
    times = [
        lengths[order] * generator.lognormal(0, 0.02) * generator.lognormal(0, 0.1, calls)
        for order in rows
    ]
    return times, rows


def test_a_steady_machine_is_never_called_throttled():
    assert all(found(*_session(seed=seed)) is None for seed in range(200))


def test_a_machine_that_becomes_slower_or_faster_is_found():
    times, rows = _session()
    slower = [process * (1.5 if number >= 3 else 1) for number, process in enumerate(times)]
    faster = [process * (1 if number >= 3 else 1.5) for number, process in enumerate(times)]
    assert "times as long in the last 50% of the session as in the first 50%" in found(slower, rows)
    assert "times as long in the first 50% of the session as in the last 50%" in found(faster, rows)


def test_a_change_within_one_process_is_found_too():
    times, rows = _session(processes=2, calls=200)
    times[1][100:] *= 2
    assert "times as long in the last " in found(times, rows)
