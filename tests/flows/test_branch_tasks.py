"""Branches as tasks of a Prefect flow, in threads, processes, on Dask and on Ray.

Each runs as a process of its own: Prefect reads its settings when it is imported.
"""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from pipeline.sweep import variants
from tests.flows import sweeps
from tests.project import Project

RUN = """
import json, os, signal, sys, time
from pathlib import Path

from flows import branches_on, prefect_settings
from flows.workers import Where
from pipeline.store.home import Home


def kill(folder):
    \"\"\"Kill the first worker that says that it trains.\"\"\"
    while True:
        for path in Path(folder).glob("branches/*.json"):
            branch = json.loads(path.read_text())
            if branch["state"] == "running" and branch["step"] == "head":
                os.kill(int(branch["worker"].split(":")[1]), signal.SIGKILL)
                return
        time.sleep(0.02)


def run(on, home, given, killed):
    def body(workers):
        futures = [workers.submit(each) for each in given]
        if killed:
            kill(given[0]["folder"])
        made = []
        for future, each in zip(futures, given):
            try:
                made.append(future.result())
            except Exception as error:
                print(f"{type(error).__name__}: {error}", file=sys.stderr)
                made.append(workers.submit(each).result())
        return made

    return branches_on.run(Where(on, 2), Home(home), "trial", 1, body)


def interrupt(home, given):
    \"\"\"Interrupt the sweep while the processes of its workers still begin.\"\"\"

    def body(workers):
        for each in given:
            workers.submit(each)
        raise KeyboardInterrupt

    try:
        branches_on.run(Where("processes", 2), Home(home), "trial", 1, body)
    except KeyboardInterrupt:
        return [path.name for path in Path(given[0]["folder"]).glob("branches/*")]


if __name__ == "__main__":
    home = Path(sys.argv[1])
    prefect_settings.prepare(home / "prefect")
    from flows import branch_tasks
    from prefect.settings import get_current_settings

    with branch_tasks._server():
        os.environ["PREFECT_API_URL"] = get_current_settings().api.url  # one for all
        for on, given, killed in json.loads(sys.argv[2]):
            made = run(on, home, given, killed) if on != "end" else interrupt(home, given)
            print(json.dumps(made))
"""


def assignments(project: Project, home: str) -> list[dict[str, Any]]:
    """Return both branches of the sweep, for workers whose store is in ``home``."""
    sweep = sweeps.load(project, stages=("quickstages:Head",), budgets="")
    given = [sweeps.assignment(project, sweep, one) for one in variants.grid(sweep)]
    folder = project.folder / home
    (folder / "branches").mkdir(parents=True)
    return [each | {"home": str(folder), "folder": str(folder)} for each in given]


def run(project: Project, *asked: tuple[str, bool]) -> tuple[list[list[dict[str, Any]]], str]:
    """Run the branches at once on each executor, with a kill or without; return also stderr.

    They print, which must not reach stdout.
    """
    stages = project.folder / "modules" / "quickstages.py"
    loud = 'os.system("echo loud")\n        print("loud")\n        import random\n'
    stages.write_text("import os\n" + stages.read_text().replace("import random\n", loud))
    script = project.folder / "run.py"
    script.write_text(RUN)
    given = [[on, assignments(project, on), kill] for on, kill in asked]
    paths = (Path(__file__).parents[2], os.environ.get("PYTHONPATH", ""))
    done = subprocess.run(
        [sys.executable, str(script), str(project.home), json.dumps(given)],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(map(str, paths)), "PREFECT_API_URL": ""},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()], done.stderr


def digests(made: list[dict[str, Any]]) -> list[list[str]]:
    return [[step["digest"] for step in each["steps"]] for each in made]


def check(project: Project, made: list[dict[str, Any]], said: str) -> None:
    """Both branches are done, in other processes, and made what one process makes."""
    from flows import branch

    assert [each["state"] for each in made] == ["done", "done"], said
    assert all(not each["worker"].endswith(f":{os.getpid()}") for each in made)
    here = [branch.run(given) for given in assignments(project, f"inline-{len(said)}")]
    assert digests(made) == digests(here)


@pytest.mark.slow
def test_threads_and_processes_make_the_same_though_a_process_is_killed(project: Project) -> None:
    """One server for all, because it starts slowly; in the end a sweep is interrupted."""
    (threads, processes, end), said = run(
        project, ("threads", False), ("processes", True), ("end", False)
    )
    check(project, threads, said)
    assert digests(processes) == digests(threads)
    assert len({each["worker"] for each in threads}) == 2, "a process for each branch"
    assert "BrokenProcessPool" in said or "terminated abruptly" in said, "one was killed"
    assert said.splitlines().count("loud") >= 4, "what workers print is on stderr"
    assert end == [], "no worker began a branch"


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("prefect_dask") is None, reason="needs the extra dask")
def test_dask_replaces_a_worker_that_is_killed(project: Project) -> None:
    (made,), said = run(project, ("dask", True))
    check(project, made, said)


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("prefect_ray") is None, reason="needs the extra ray")
def test_ray_replaces_a_worker_that_is_killed(project: Project) -> None:
    (made,), said = run(project, ("ray", True))
    check(project, made, said)
