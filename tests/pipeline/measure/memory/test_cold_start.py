import numpy as np
import pytest

from rarefy.pipeline.measure.memory import cold_start
from rarefy.pipeline.terms.errors import EvidenceError, ProviderError
from tests.pipeline.measure import bundles


@pytest.mark.slow
def test_each_model_is_started_in_every_round_and_the_parts_add_up(tmp_path):
    made = {name: bundles.make(tmp_path / name) for name in ("a", "b")}
    notes = []
    found = cold_start.measure(
        made, bundles.texts(5), runs=2, progress=lambda *told: notes.append(told)
    )
    assert {name: len(starts) for name, starts in found.items()} == {"a": 2, "b": 2}
    for start in found["a"]:
        assert start.total == pytest.approx(start.imports + start.load + start.answer)
        assert min(start) > 0
    assert len(notes) == 6  # the first start of each is not counted
    assert [done for done, _, _ in notes] == list(range(6))


def test_nothing_but_the_runtime_is_imported(tmp_path):
    """A cold start must not include imports that a service does not need."""
    import subprocess
    import sys

    code = (
        "import sys, rarefy.pipeline.measure.memory.cold_start_worker\n"
        "print({m.partition('.')[0] for m in sys.modules} & "
        "{'torch', 'transformers', 'pydantic', 'scipy', 'onnx', 'psutil', 'datasets'})"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert said.stdout.strip() == "set()"


def test_a_provider_that_is_not_there_is_a_provider_error(tmp_path):
    made = {"a": bundles.make(tmp_path / "a")}
    with pytest.raises(ProviderError, match="'cuda' is not active"):
        cold_start.measure(made, bundles.texts(2), provider="cuda", runs=1)


def test_the_pair_of_median_length_is_that_of_both_texts(tmp_path, monkeypatch):
    asked = []

    def call(_module, request, **_named):
        asked.append((request["texts"], request["pairs"]))
        return {"imported": 0, "loaded": 0, "answered": 0}

    monkeypatch.setattr(cold_start.fresh_process, "call", call)
    pairs = ["a passage of many words", "", "word"]
    cold_start.measure({"candidate": tmp_path}, ["a", "aa", "aaa"], pairs, runs=1)
    assert asked == [(["aaa"], ["word"])] * 2


def test_no_rows_is_an_error(tmp_path):
    with pytest.raises(EvidenceError, match="at least one row to answer"):
        cold_start.measure({"a": tmp_path}, [])


@pytest.mark.parametrize(("n", "coverage"), [(6, 0.96875), (8, 0.9921875), (9, 0.9609375)])
def test_the_interval_holds_the_median_as_often_as_it_says(n, coverage):
    """From the binomial distribution: with 9 values, the smallest and largest are left out."""
    generator = np.random.default_rng(0)
    held = 0
    for _ in range(2000):
        low, high = cold_start.median(generator.exponential(1, n).tolist())[1:]
        held += low <= np.log(2) <= high
    assert held / 2000 == pytest.approx(coverage, abs=0.015)


def test_five_values_carry_no_interval():
    with pytest.raises(ValueError, match="5 values"):
        cold_start.median([1.0, 2.0, 3.0, 4.0, 5.0])


def test_what_slows_a_whole_round_leaves_the_ratio():
    rounds = np.array([1.0, 1.0, 7.0, 1.0, 1.2, 3.0])
    found = cold_start.ratio((240 * rounds).tolist(), (200 * rounds).tolist())
    assert found == pytest.approx((1.2, 1.2, 1.2))
