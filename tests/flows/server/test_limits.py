"""Prefect's limit of the machine that measures: one holder, strict, and waiting is said."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.fleet import ROOT, Fleet

WITHOUT = """
from rarefy.flows.server import limits as machine_limit
print(machine_limit.name("Rack 7"), machine_limit.limit_of(None))
"""
WITH = """
import threading
from rarefy.flows.server import limits as machine_limit

limit = machine_limit.limit_of("rack-7")
waits, free, order = threading.Event(), threading.Event(), []

def other():
    with limit(lambda _: waits.set()):
        order.append("other")
    free.set()

with limit(lambda: order.append("waited")):
    threading.Thread(target=other).start()
    assert waits.wait(60)
    order.append("first")
assert free.wait(60)
print(order)
"""

STUCK = """
import re, subprocess, sys
from rarefy.flows.server import limits as machine_limit

def free(why):
    words = re.search(r"\\(if none is: prefect (.*)\\)$", why)[1].split()
    subprocess.run([sys.executable, "-m", "prefect", *words], check=True, capture_output=True)

with machine_limit.limit_of("rack-7")(free):
    print("measured")
"""


AWAY = """
import contextlib, httpx
from rarefy.flows.server import limits as machine_limit

class Away(contextlib.ExitStack):
    def __exit__(self, *_):
        raise error

machine_limit.create = lambda _: None
machine_limit._slot = lambda *_: Away()
error = httpx.ConnectError("refused")
with machine_limit.limit_of("rack-7")(print):
    print("measured")
"""


def run(code: str, environment: dict[str, str]) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=environment | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_without_a_server_there_is_no_limit(tmp_path: Path) -> None:
    environment = {name: value for name, value in os.environ.items() if "PREFECT" not in name}
    said = run(WITHOUT, environment | {"PREFECT_HOME": str(tmp_path)})
    assert said == "rarefy-measures-rack-7 None\n"


def test_a_server_that_is_away_when_a_measurement_ends_does_not_cost_it(tmp_path: Path) -> None:
    environment = {"PREFECT_HOME": str(tmp_path), "PREFECT_API_URL": "http://127.0.0.1:9/api"}
    assert run(AWAY, os.environ | environment) == "measured\n"


@pytest.mark.slow
def test_a_server_lets_one_measure_and_the_other_wait(
    tmp_path: Path, prefect_home: Callable[[Path], object]
) -> None:
    fleet = Fleet(tmp_path)
    prefect_home(tmp_path / "server" / "prefect")
    try:
        fleet.start_server()
        assert run(WITH, fleet.environment("desk")) == "['first', 'other']\n"
        limit = fleet.ask("v2/concurrency_limits/rarefy-measures-rack-7")
        assert (limit["limit"], limit["active_slots"]) == (1, 0)
        # As a server that has forgotten who held it.
        fleet.prefect("gcl", "update", "rarefy-measures-rack-7", "--active-slots", "1")
        assert run(STUCK, fleet.environment("desk")) == "measured\n"
    finally:
        fleet.stop("server")
