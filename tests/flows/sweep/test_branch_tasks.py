"""Branches as tasks of a Prefect flow, in threads, processes, on Dask and on Ray.

What runs branches does so in a process of its own: Prefect reads its settings when it is imported.
Dask and Ray are extras; where they are missing, stand-ins note what they are asked for.
"""

from __future__ import annotations

import importlib.util
import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from rarefy.flows.sweep.workers import Where
from rarefy.pipeline.sweep import variants
from rarefy.pipeline.terms.errors import ProviderError, RarefyError
from tests.flows import sweeps
from tests.project import Project

RUN = """
import json, os, signal, sys, time
from pathlib import Path

from rarefy.flows.sweep import branches_on
from rarefy.flows.server import prefect_settings
from rarefy.flows.sweep.workers import Where
from rarefy.pipeline.store.home import Home


def kill(folder):
    \"\"\"Kill the process of the first branch that says that it trains.\"\"\"
    while True:
        for path in Path(folder).glob("branches/*.json"):
            branch = json.loads(path.read_text())
            if branch["state"] == "running" and branch["step"] == "head":
                os.kill(int(branch["worker"].split(":")[1]), signal.SIGKILL)
                return
        time.sleep(0.02)


def run(on, home, assignments, killed):
    results = []

    def body(workers):
        futures = [workers.submit(assignment) for assignment in assignments]
        if killed:
            kill(assignments[0]["folder"])
        results.extend(future.result() for future in futures)

    branches_on.run(Where(on, 2), Home(home), "trial", 1, body)
    return results


def interrupt(home, assignments):
    \"\"\"Interrupt the sweep while the processes of its branches still begin.\"\"\"

    def body(workers):
        for assignment in assignments:
            workers.submit(assignment)
        raise KeyboardInterrupt

    try:
        branches_on.run(Where("threads", 2), Home(home), "trial", 1, body)
    except KeyboardInterrupt:
        return [path.name for path in Path(assignments[0]["folder"]).glob("branches/*")]


if __name__ == "__main__":
    home = Path(sys.argv[1])
    prefect_settings.prepare(home / "prefect")

    for on, assignments, killed in json.loads(sys.argv[2]):
        if on == "end":
            print(json.dumps(interrupt(home, assignments)))
        else:
            print(json.dumps(run(on, home, assignments, killed)))
"""


def assignments(project: Project, home: str) -> list[dict[str, Any]]:
    """Return both branches of the sweep, for workers whose store is in ``home``."""
    sweep = sweeps.load(project, stages=("quickstages:Head",), budgets="")
    folder = project.folder / home
    (folder / "branches").mkdir(parents=True)
    grid = variants.grid(sweep)
    return [sweeps.assignment(project, sweep, one, home=folder, folder=folder) for one in grid]


def run(project: Project, *asked: tuple[str, bool]) -> tuple[list[list[dict[str, Any]]], str]:
    """Run the branches at once on each executor, with a kill or without; return also stderr.

    They print, which must not reach stdout.
    """
    stages = project.folder / "modules" / "quickstages.py"
    loud = 'import torch\n        os.system("echo loud")\n        print("loud")\n'
    stages.write_text("import os\n" + stages.read_text().replace("import torch\n", loud, 1))
    script = project.folder / "run.py"
    script.write_text(RUN)
    given = [[on, assignments(project, on), kill] for on, kill in asked]
    paths = (Path(__file__).parents[3], os.environ.get("PYTHONPATH", ""))
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
    from rarefy.flows.sweep import branch

    assert [each["state"] for each in made] == ["done", "done"], said
    workers = {each["worker"] for each in made}
    assert len(workers) == 2, "a process for each branch"
    assert all(not worker.endswith(f":{os.getpid()}") for worker in workers)
    here = [branch.run(given) for given in assignments(project, f"inline-{len(said)}")]
    assert digests(made) == digests(here)


@pytest.mark.slow
def test_threads_make_the_same_though_a_process_is_killed(
    project: Project, prefect_home: Callable[[Path], object]
) -> None:
    """Prefect starts the branch again. In the end a sweep is interrupted."""
    prefect_home(project.home / "prefect")
    (threads, end), said = run(project, ("threads", True), ("end", False))
    check(project, threads, said)
    assert end == [], "no worker began a branch"


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("prefect_dask") is None, reason="needs the extra dask")
def test_dask_starts_a_branch_again_whose_process_is_killed(project: Project) -> None:
    (made,), said = run(project, ("dask", True))
    check(project, made, said)


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("prefect_ray") is None, reason="needs the extra ray")
def test_ray_starts_a_branch_again_whose_process_is_killed(project: Project) -> None:
    (made,), said = run(project, ("ray", True))
    check(project, made, said)


class Runner:
    """A task runner that notes how it is used, and answers at once."""

    opened: Runner
    error: Exception | None = None
    cores: float | None = None
    """What a task is started with, on Ray."""

    def __init__(self, **options: Any) -> None:
        self.options, self.is_open, self.crashes = options, False, False
        self.asked: list[float | None] = []

    def __enter__(self) -> Runner:
        if Runner.error is not None:
            raise Runner.error
        Runner.opened, self.is_open = self, True
        return self

    def __exit__(self, *_: object) -> None:
        self.is_open = False

    def submit(self, work: Any, parameters: dict[str, Any]) -> Any:
        from prefect.states import Completed, Crashed

        from rarefy.flows.sweep import branch_tasks

        assert self.is_open
        assert work is branch_tasks.run_branch
        self.asked.append(Runner.cores)
        name = parameters["assignment"]["name"]
        assert parameters["name"] == name
        result = {"name": name, "state": "done", "why": None}
        state: Any = Crashed(message="it was killed") if self.crashes else Completed(data=result)
        return SimpleNamespace(wait=lambda: None, state=state)


@contextmanager
def remote_options(num_cpus: float) -> Iterator[None]:
    Runner.cores = num_cpus
    yield
    Runner.cores = None


@pytest.fixture
def clusters(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stand-ins for the packages of the extras ``dask`` and ``ray``."""
    for name, members in {
        "prefect_dask": {"DaskTaskRunner": Runner},
        "prefect_ray": {"RayTaskRunner": Runner},
        "prefect_ray.context": {"remote_options": remote_options},
    }.items():
        module = ModuleType(name)
        vars(module).update(members)
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.setattr(Runner, "error", None)


def crew(where: Where, threads: int = 1) -> AbstractContextManager[Any]:
    from rarefy.flows.sweep import branch_tasks

    return branch_tasks.open_crew(where, threads)


@pytest.mark.usefixtures("clusters")
def test_dask_on_this_machine_has_as_many_processes_as_workers() -> None:
    with crew(Where("dask", 2), threads=4) as opened:
        runner = Runner.opened
        asked = runner.options["cluster_kwargs"]
        assert (asked["n_workers"], asked["processes"], asked["memory_limit"]) == (2, True, 0)
        assert asked["threads_per_worker"] == 1, "one branch at a time"
        assert asked["dashboard_address"] is None
        assert opened.size == 2
        futures = [opened.submit({"name": name}) for name in ("a", "b")]
        assert [each.result()["name"] for each in futures] == ["a", "b"]
    assert not runner.is_open


@pytest.mark.usefixtures("clusters")
@pytest.mark.parametrize("on", ["dask", "ray"])
def test_a_cluster_runs_as_many_branches_at_once_as_there_are_workers(on: Any) -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as head,
        crew(Where(on, 3, f"127.0.0.1:{head.getsockname()[1]}")) as opened,
    ):
        assert Runner.opened.options["address"].startswith("127.0.0.1:")
        assert "num_cpus" not in Runner.opened.options.get("init_kwargs", {}), "not ours to say"
        assert opened.size == 3
        assert opened.submit({"name": "a"}).result()["state"] == "done"


@pytest.mark.usefixtures("clusters")
@pytest.mark.parametrize("threads", [2, 1])
def test_ray_gives_each_branch_its_threads(threads: int) -> None:
    with crew(Where("ray", 3), threads) as opened:
        runner, asked = Runner.opened, Runner.opened.options["init_kwargs"]
        assert runner.options["address"] is None
        assert (asked["num_cpus"], asked["include_dashboard"]) == (3 * threads, False)
        assert asked["log_to_driver"] is False
        assert opened.size == 3
        assert opened.submit({"name": "a"}).result()["name"] == "a"
        assert runner.asked == [threads]
    assert not runner.is_open
    assert os.environ["RAY_USAGE_STATS_ENABLED"] == "0"


@pytest.mark.usefixtures("clusters")
@pytest.mark.parametrize("on", ["dask", "ray"])
@pytest.mark.parametrize("error", [OSError("timed out"), ConnectionError("no"), ValueError("port")])
def test_a_cluster_that_cannot_be_used_is_one_line(
    monkeypatch: pytest.MonkeyPatch, on: Any, error: Exception
) -> None:
    monkeypatch.setattr(Runner, "error", error)
    with pytest.raises(ProviderError) as raised, crew(Where(on, 1, "auto")):
        pytest.fail("there is nothing to run on")
    assert str(raised.value) == f"auto: no {on.capitalize()} cluster responds: {error}"
    assert raised.value.exit_code == 5


@pytest.mark.usefixtures("clusters")
@pytest.mark.parametrize("scheme", ["", "ray://"])
def test_a_ray_cluster_that_is_not_there_is_one_line(scheme: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    where = Where("ray", 1, f"{scheme}127.0.0.1:{port}")
    with pytest.raises(ProviderError, match="no Ray cluster responds: "), crew(where):
        pytest.fail("nobody listens")


@pytest.mark.usefixtures("clusters")
@pytest.mark.parametrize("on", ["dask", "ray"])
def test_a_worker_that_dies_is_an_error_of_its_branch_alone(on: Any) -> None:
    with crew(Where(on, 1)) as opened:
        Runner.opened.crashes = True
        with pytest.raises(RarefyError, match="it was killed"):
            opened.submit({"name": "a"}).result()
        Runner.opened.crashes = False
        assert opened.submit({"name": "b"}).result()["state"] == "done", "in the slot of the first"


@pytest.mark.usefixtures("clusters")
@pytest.mark.parametrize("on", ["dask", "ray"])
def test_workers_end_with_a_sweep_that_is_interrupted(on: Any) -> None:
    with pytest.raises(KeyboardInterrupt), crew(Where(on, 1)):
        raise KeyboardInterrupt
    assert not Runner.opened.is_open


def test_a_branch_is_started_again_unless_it_has_failed_by_itself() -> None:
    from prefect.states import Failed

    from rarefy.flows.sweep import branch_tasks

    retry = branch_tasks.run_branch.retry_condition_fn
    assert branch_tasks.run_branch.retries == branch_tasks.TRIES - 1
    assert retry is not None
    died: Any = Failed(data=RarefyError("it was killed by SIGKILL"))
    failed: Any = Failed(data={"state": "failed", "why": "export: no"})
    nothing: Any = None
    with crew(Where("threads", 1)):
        assert retry(nothing, nothing, died)
        assert not retry(nothing, nothing, failed)
    assert not retry(nothing, nothing, died), "the sweep was interrupted"
