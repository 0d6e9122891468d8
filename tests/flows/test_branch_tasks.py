"""Branches as tasks of a Prefect flow, in threads, processes, on Dask and on Ray.

What runs branches does so in a process of its own: Prefect reads its settings when it is imported.
Dask and Ray are extras; where they are missing, stand-ins note what they are asked for.
"""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import psutil
import pytest

from flows.workers import Where
from pipeline.sweep import variants
from pipeline.terms.errors import ProviderError, RarefyError
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


class Runner:
    """A task runner that notes how it is used, and answers at once."""

    opened: Runner

    def __init__(self, **options: Any) -> None:
        self.options, self.is_open, self.crashes = options, False, False
        self.cores: list[float | None] = []
        self.folder = Path(options.get("cluster_kwargs", {}).get("local_directory", "."))

    def __enter__(self) -> Runner:
        Runner.opened, self.is_open = self, True
        return self

    def __exit__(self, *_: object) -> None:
        self.is_open = False
        assert self.folder.is_dir(), "it goes after those who use it"

    def submit(self, work: Any, parameters: dict[str, Any]) -> Any:
        from prefect.states import Crashed

        from flows import branch_tasks

        assert self.is_open
        assert work is branch_tasks.in_worker
        self.cores.append(Cluster.asked)
        given = parameters["given"]
        assert parameters["name"] == given["name"]
        made = {"name": given["name"], "state": "done", "why": None}
        state = Crashed(message="it was killed") if self.crashes else branch_tasks._state(made)
        return SimpleNamespace(wait=lambda: None, state=state)


class Cluster:
    """What stands in for Dask's scheduler and for Ray's head."""

    error: Exception | None = None
    workers = 3
    cores = 5.0
    told: tuple[Any, ...] = ()
    asked: float | None = None
    """The cores that a task is started with, on Ray."""


class Client:
    def __init__(self, address: str, **options: Any) -> None:
        Cluster.told = (address, options)
        if Cluster.error is not None:
            raise Cluster.error

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        return

    def scheduler_info(self, n_workers: int) -> dict[str, Any]:
        assert n_workers == -1, "of all workers; Dask tells of five"
        return {"workers": dict.fromkeys(range(Cluster.workers))}


class Ray(Runner):
    def __enter__(self) -> Ray:
        if Cluster.error is not None:
            raise Cluster.error
        super().__enter__()
        return self


@contextmanager
def remote_options(num_cpus: float) -> Iterator[None]:
    Cluster.asked = num_cpus
    yield
    Cluster.asked = None


@pytest.fixture
def clusters(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stand-ins for the packages of the extras ``dask`` and ``ray``."""
    for name, members in {
        "distributed": {"Client": Client},
        "prefect_dask": {"DaskTaskRunner": Runner},
        "ray": {"cluster_resources": lambda: {"CPU": Cluster.cores}},
        "prefect_ray": {"RayTaskRunner": Ray},
        "prefect_ray.context": {"remote_options": remote_options},
    }.items():
        module = ModuleType(name)
        vars(module).update(members)
        monkeypatch.setitem(sys.modules, name, module)
    for name, value in {"error": None, "workers": 3, "cores": 5.0, "asked": None}.items():
        monkeypatch.setattr(Cluster, name, value)


@contextmanager
def crew(where: Where, threads: int = 1) -> Iterator[Any]:
    from flows import branch_tasks

    with branch_tasks._crew(where, threads) as opened:
        yield opened


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
        assert runner.folder.is_dir()
    assert not runner.is_open
    assert not runner.folder.exists()


@pytest.mark.usefixtures("clusters")
def test_a_dask_cluster_runs_a_branch_on_each_worker_that_it_has() -> None:
    with crew(Where("dask", 2, "tcp://10.0.0.2:8786")) as opened:
        assert Runner.opened.options == {"address": "tcp://10.0.0.2:8786"}
        assert opened.size == 3
        assert opened.submit({"name": "a"}).result()["state"] == "done"
    assert Cluster.told == ("tcp://10.0.0.2:8786", {"timeout": 20.0, "set_as_default": False})


@pytest.mark.usefixtures("clusters")
@pytest.mark.parametrize("threads", [2, 1])
def test_ray_gives_each_branch_its_threads_and_what_it_prints_to_stderr(
    capsys: pytest.CaptureFixture[str], threads: int
) -> None:
    with crew(Where("ray", 3), threads) as opened:
        runner, asked = Runner.opened, Runner.opened.options["init_kwargs"]
        assert runner.options["address"] is None
        assert (asked["num_cpus"], asked["include_dashboard"]) == (3 * threads, False)
        assert asked["log_to_driver"] is False
        assert opened.size == 3, "as was asked for, whatever Ray counts"
        assert opened.submit({"name": "a"}).result()["name"] == "a"
        assert runner.cores == [threads]
        print("a worker died")
    assert not runner.is_open
    assert capsys.readouterr() == ("", "a worker died\n")
    assert os.environ["RAY_USAGE_STATS_ENABLED"] == "0"


@pytest.mark.usefixtures("clusters")
def test_a_ray_cluster_has_as_many_workers_as_its_cores_allow() -> None:
    with crew(Where("ray", 9, "ray://10.0.0.2:10001"), threads=2) as opened:
        assert Runner.opened.options["address"] == "ray://10.0.0.2:10001"
        assert "num_cpus" not in Runner.opened.options["init_kwargs"], "it is not ours to say"
        assert opened.size == 2, "of five cores"


@pytest.mark.usefixtures("clusters")
@pytest.mark.parametrize(
    ("on", "changes", "why"),
    [
        ("dask", {"error": OSError("timed out")}, "no Dask scheduler answers: timed out"),
        ("dask", {"error": ValueError("no port")}, "no Dask scheduler answers: no port"),
        ("dask", {"workers": 0}, "the Dask scheduler has no workers"),
        ("ray", {"error": ConnectionError("refused")}, "no Ray cluster answers: refused"),
        ("ray", {"cores": 1.0}, "no Ray worker has 2 free cores"),
    ],
)
def test_a_cluster_that_cannot_be_used_is_one_line(
    monkeypatch: pytest.MonkeyPatch, on: Any, changes: dict[str, Any], why: str
) -> None:
    for name, value in changes.items():
        monkeypatch.setattr(Cluster, name, value)
    with pytest.raises(ProviderError) as raised, crew(Where(on, 1, "10.0.0.2:1"), threads=2):
        pytest.fail("there is nothing to run on")
    assert str(raised.value) == f"10.0.0.2:1: {why}"
    assert raised.value.exit_code == 5


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
    assert on == "ray" or not Runner.opened.folder.exists()


SLEEPS = "import subprocess, sys, time; {first}; time.sleep(60)"


def test_a_process_that_has_the_number_of_a_dead_worker_does_not_end_with_a_sweep(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from flows import branch_tasks

    made: dict[str, Any] = {}
    monkeypatch.setattr(branch_tasks, "ProcessPoolTaskRunner", made.update)
    monkeypatch.setattr(branch_tasks, "Slot", lambda *_: None)
    starts = f"print(subprocess.Popen([sys.executable, '-c', {SLEEPS.format(first='pass')!r}]).pid)"
    worker, its = started(SLEEPS.format(first=f"{starts}; sys.stdout.flush()"))
    gone, stranger = started(f"import subprocess, sys; {starts}")
    gone.wait(30)
    try:
        with suppress(KeyboardInterrupt), crew(Where("processes", 1)):
            for number in (worker.pid, stranger.pid):
                (Path(made["initargs"][0]) / str(number)).touch()
            raise KeyboardInterrupt
        assert worker.wait(30) < 0
        with suppress(psutil.NoSuchProcess):  # what the worker had started ends with it
            assert its.status() == psutil.STATUS_ZOMBIE or its.wait(30) is None
        assert stranger.is_running()
    finally:
        worker.kill()
        stranger.kill()


def started(code: str) -> tuple[subprocess.Popen[bytes], psutil.Process]:
    """Start a process that tells the number of one that it starts; return both."""
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
    assert process.stdout is not None
    return process, psutil.Process(int(process.stdout.readline()))
