"""A run is refused for what certainly does not fit: weights on the disk or in memory."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from rarefy.pipeline.run import checks
from rarefy.pipeline.run.plan.plan import Plan
from rarefy.pipeline.terms.errors import ProviderError
from tests.conftest import Workshop

TUNE: dict[str, Any] = {"finetune": {"epochs": 1}}


@pytest.fixture
def workshop(empty_workshop: Workshop) -> Workshop:
    """Its model has not been written to the store yet."""
    return empty_workshop


def check(plan: Plan) -> None:
    checks.check_size(plan, plan.steps())


def weights_of(workshop: Workshop) -> int:
    """Return the bytes of the recipe's model's weights."""
    return sum(path.stat().st_size for path in workshop.open(TUNE).plan.located.weights)


@pytest.fixture
def free(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return a function that sets the free bytes of the disk."""

    def set_free(size: int) -> None:
        usage = SimpleNamespace(total=2**50, free=size)
        monkeypatch.setattr("shutil.disk_usage", lambda _: usage)

    return set_free


@pytest.fixture
def memory(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return a function that sets the bytes of memory and of swap."""

    def set_memory(size: int, swap: int = 0) -> None:
        monkeypatch.setattr("psutil.virtual_memory", lambda: SimpleNamespace(total=size))
        monkeypatch.setattr("psutil.swap_memory", lambda: SimpleNamespace(total=swap))
        monkeypatch.setattr("rarefy.pipeline.measure.machine.memory_limit", lambda: None)

    return set_memory


def test_a_disk_without_room_for_the_weights_is_refused(workshop, free):
    size = weights_of(workshop)
    free(size)
    check(workshop.open(TUNE).plan)
    free(size - 1)
    with pytest.raises(ProviderError, match=r"^model: writes at least .* to the disk of ") as error:
        check(workshop.open(TUNE).plan)
    assert error.value.exit_code == 5
    assert "\n" not in str(error.value)


def test_a_model_that_is_stored_already_is_not_written_again(workshop, free):
    workshop.open(TUNE).execute("model")
    free(0)
    with pytest.raises(ProviderError, match=r"^finetune: writes at least "):
        check(workshop.open(TUNE).plan)
    check(workshop.open("quick:Head").plan)


def test_training_all_weights_needs_memory_for_four_times_as_many(workshop, memory):
    size = weights_of(workshop)
    memory(4 * size)
    check(workshop.open(TUNE).plan)
    memory(4 * size - 1)
    with pytest.raises(ProviderError, match=r"^finetune: needs at least .* of memory, but this"):
        check(workshop.open(TUNE).plan)
    check(workshop.open("quick:Head").plan)
    memory(size - 1)
    with pytest.raises(ProviderError, match=r"^model: needs at least .* of memory, but this"):
        check(workshop.open("quick:Head").plan)


def test_a_step_after_one_of_unknown_size_is_not_refused(workshop, memory):
    """The stage may have made a smaller model."""
    memory(2 * weights_of(workshop))
    check(workshop.open("quick:Head", TUNE).plan)


def test_the_memory_of_a_gpu_is_not_this_machine_s(workshop, memory):
    plan = workshop.open(TUNE).plan
    plan.device = "cuda"
    memory(1)
    check(plan)


def test_cached_steps_need_nothing(workshop, free, memory):
    workshop.run(TUNE)
    free(0)
    memory(0)
    check(workshop.open(TUNE).plan)


def test_a_disk_that_does_not_say_its_size_refuses_nothing(workshop, monkeypatch):
    """As on some network file systems, which report no size and no free space."""
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(total=0, used=0, free=0))
    check(workshop.open(TUNE).plan)


def test_swap_counts_as_memory(workshop, memory):
    size = weights_of(workshop)
    memory(2 * size, swap=2 * size)
    check(workshop.open(TUNE).plan)
