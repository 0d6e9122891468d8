"""Branches as tasks of a Prefect flow, in threads, processes, on Dask and on Ray.

Each runs as a process of its own: Prefect reads its settings when it is imported.
"""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from pipeline.sweep import variants
from tests.flows import sweeps
from tests.project import Project

RUN = """
import json, os, signal, sys, time
from concurrent.futures import wait
from pathlib import Path

from flows import branches_on
from flows.workers import Where
from pipeline.store.home import Home

if __name__ == "__main__":
    on, home, given, kill = sys.argv[1], Path(sys.argv[2]), json.loads(sys.argv[3]), sys.argv[4]

    def killed(folder):
        \"\"\"Kill the first worker that says that it runs.\"\"\"
        while True:
            for path in Path(folder).glob("branches/*.json"):
                branch = json.loads(path.read_text())
                if branch["state"] == "running" and branch["step"] == "head":
                    os.kill(int(branch["worker"].split(":")[1]), signal.SIGKILL)
                    return branch["name"]
            time.sleep(0.02)

    def body(workers):
        futures = {workers.submit(each): each for each in given}
        if kill == "kill":
            killed(given[0]["folder"])
        made = []
        for future, each in list(futures.items()):
            try:
                made.append(future.result())
            except Exception as error:
                print(f"{type(error).__name__}: {error}", file=sys.stderr)
                made.append(workers.submit(each).result())
        return made

    made = branches_on.run(Where(on, 2), Home(home), "trial", 1, body)
    print(json.dumps(made))
"""


def assignments(project: Project) -> list[dict[str, Any]]:
    sweep = sweeps.load(project)
    return [sweeps.assignment(project, sweep, one) for one in variants.grid(sweep)]


def run(project: Project, on: str, *, kill: bool = False) -> tuple[list[dict[str, Any]], str]:
    """Run both branches of the sweep at once; return what became of them, and stderr."""
    script = project.folder / "run.py"
    script.write_text(RUN)
    given = json.dumps(assignments(project))
    paths = (Path(__file__).parents[2], os.environ.get("PYTHONPATH", ""))
    done = subprocess.run(
        [sys.executable, str(script), on, str(project.home), given, "kill" if kill else ""],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(map(str, paths)), "PREFECT_API_URL": ""},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1]), done.stderr


def inline(project: Project, folder: Path) -> list[str]:
    """Return the digests of the bundles that one process makes, in a home of its own."""
    from flows import branch

    return [
        branch.run(given | {"home": str(folder), "folder": None})["bundle"]
        for given in assignments(project)
    ]


def check(project: Project, on: str, kill: bool) -> None:
    made, said = run(project, on, kill=kill)
    assert [each["state"] for each in made] == ["done", "done"], said
    imported = [step for each in made for step in each["steps"] if step["id"] == "model"]
    assert len({step["digest"] for step in imported}) == 1
    assert [each["bundle"] for each in made] == inline(project, project.folder / "alone")
    assert len({each["worker"] for each in made} | {f":{os.getpid()}"}) >= 2


@pytest.mark.slow
def test_threads_start_a_process_for_each_branch(project: Project) -> None:
    check(project, "threads", kill=False)


@pytest.mark.slow
def test_of_two_processes_one_is_killed_and_the_other_goes_on(project: Project) -> None:
    check(project, "processes", kill=True)


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("prefect_dask") is None, reason="needs the extra dask")
def test_dask_replaces_a_worker_that_is_killed(project: Project) -> None:
    check(project, "dask", kill=True)


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("prefect_ray") is None, reason="needs the extra ray")
def test_ray_replaces_a_worker_that_is_killed(project: Project) -> None:
    check(project, "ray", kill=True)


INTERRUPTED = """
import sys
from pathlib import Path

from flows import branches_on
from flows.workers import Where
from pipeline.store.home import Home

if __name__ == "__main__":
    def body(workers):
        workers.submit({"name": "a", "wrong": True})
        raise KeyboardInterrupt

    try:
        branches_on.run(Where("processes", 2), Home(Path(sys.argv[1])), "trial", 1, body)
    except KeyboardInterrupt:
        print("interrupted")
"""


@pytest.mark.slow
def test_what_interrupts_the_sweep_reaches_its_caller_and_ends_the_workers(
    project: Project,
) -> None:
    script = project.folder / "interrupted.py"
    script.write_text(INTERRUPTED)
    paths = (Path(__file__).parents[2], os.environ.get("PYTHONPATH", ""))
    began = time.monotonic()
    done = subprocess.run(
        [sys.executable, str(script), str(project.home)],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(map(str, paths)), "PREFECT_API_URL": ""},
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert done.stdout == "interrupted\n", done.stderr
    assert time.monotonic() - began < 120
