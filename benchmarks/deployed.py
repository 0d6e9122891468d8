"""Deployments on another machine, as far as one machine can show it.

    python -m benchmarks.deployed [--folder FOLDER] [--leases filesystem]

A Prefect server, a process work pool and a worker, each in a folder, an environment and (the
worker) a virtual environment of its own: only the addresses of the server and of the store are
shared. It takes about ten minutes, most of which is waiting for full minutes. Nothing is compared
by how long it takes, so the machine need not be quiet.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks.record import Claim, finish
from tests import fleet_recipes as recipes
from tests.fleet import POOL, ROOT, Fleet, wait

MINUTELY = "* * * * *"
LIMITS = (
    "Server, worker and store are on one machine: no network was slow, and no clocks differed. "
    "Docker and Kubernetes pools were not run."
)


def main() -> int:
    """Run the scenarios one after another on one fleet, and record the claims."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, default=None)
    parser.add_argument("--leases", choices=["memory", "filesystem"], default="filesystem")
    options = parser.parse_args()
    leases = f"prefect.server.concurrency.lease_storage.{options.leases}"
    settings = {"PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE": leases}
    rows: list[dict[str, Any]] = []
    claims: list[Claim] = []
    with tempfile.TemporaryDirectory(prefix="rarefy-deployed-") as temporary:
        fleet = Fleet(options.folder or Path(temporary), settings)
        recipes.make(fleet)
        with fleet.up():
            for scenario in (by_cron, missed, restarted, at_once, cold):
                began = time.monotonic()
                print(f"{scenario.__name__} …", flush=True)
                facts, claim = scenario(fleet)
                seconds = round(time.monotonic() - began)
                row = {"part": scenario.__name__, "seconds": seconds, **facts}
                rows.append(row)
                print(row, flush=True)
                claims.append(claim)
    print(f"what this cannot show: {LIMITS}")
    return finish("deployed", rows, claims, 0)


def deploy(fleet: Fleet, recipe: Path, *options: str) -> None:
    """Deploy a recipe to the pool, and see that no path of the desk is in what was applied."""
    command = ["deploy", recipe.name, "--pool", POOL, "--store", fleet.store, "--threads", "1"]
    process = fleet.rarefy(*command, *options)
    if process.returncode:
        raise AssertionError(process.stderr)
    applied = fleet.ask(f"deployments/name/rarefy-compress/{recipe.stem}")
    paths = json.dumps([applied["parameters"], applied["pull_steps"], applied["path"]])
    assert str(fleet.desk) not in paths, paths


def submit(fleet: Fleet, name: str) -> tuple[int, dict[str, Any]]:
    """Submit a run, wait for its end, and return the exit code and what was printed."""
    process = fleet.rarefy("submit", name, "--watch", "--json")
    return process.returncode, json.loads(process.stdout)


def pause(fleet: Fleet, *names: str) -> None:
    for name in names:
        deployment = fleet.ask(f"deployments/name/rarefy-compress/{name}")
        fleet.ask(f"deployments/{deployment['id']}/pause_deployment", {})


def kinds_in(store: Path) -> list[str]:
    """Return the kinds of the artifacts in a store, sorted."""
    manifests = store.glob("artifacts/*/*/manifest.json")
    return sorted(json.loads(path.read_text())["kind"] for path in manifests)


def by_cron(fleet: Fleet) -> tuple[dict[str, Any], Claim]:
    recipe = recipes.recipe(fleet, "hourly", "fleetstages:Head", "export", recipes.VALIDATE)
    deploy(fleet, recipe, "--cron", MINUTELY)
    runs = wait(lambda: fleet.runs("hourly", "COMPLETED"), 400, "a scheduled run is completed")
    pause(fleet, "hourly")
    store = fleet.folder / "store"
    reports = sorted(path.name for path in store.glob("runs/hourly/*/*"))
    kinds = kinds_in(store)
    links = []
    for artifact in fleet.ask("artifacts/latest/filter", {}) or []:
        if artifact["key"] == "rarefy-report-hourly":
            links.append(artifact["data"])
    row = {
        "auto_scheduled": runs[0]["auto_scheduled"],
        "tags": runs[0]["tags"],
        "published": {"reports": reports, "artifacts": kinds},
        "link": links[0].replace(str(fleet.folder), "") if links else None,
    }
    published = "report.html" in reports and kinds == ["bundle", "checkpoint", "encoder", "report"]
    linked = bool(links) and f"{fleet.store}/runs/hourly/" in links[0]
    return row, Claim(
        "a cron deployment fires by itself, fetches its recipe, runs and publishes",
        "completed; report and 4 artifacts in the store; report linked there",
        f"{runs[0]['state_type'].lower()}; {', '.join(kinds)}; linked: {linked}",
        bool(runs[0]["auto_scheduled"]) and published and linked,
    )


def missed(fleet: Fleet) -> tuple[dict[str, Any], Claim]:
    recipe = recipes.recipe(
        fleet, "missed", "fleetstages:Head", "fleetstages:Judge", budgets=recipes.MISSED
    )
    deploy(fleet, recipe)
    code, output = submit(fleet, "missed")
    pushed = list((fleet.folder / "store").glob("runs/missed/*/report.html"))
    return {"exit_code": code, "state": output["state"], "message": output["message"]}, Claim(
        "a missed budget is Failed, and `submit --watch` exits 3",
        "Failed, 3",
        f"{output['state']}, {code}",
        (output["state"], code, len(pushed)) == ("Failed", 3, 1),
    )


def restarted(fleet: Fleet) -> tuple[dict[str, Any], Claim]:
    recipe = recipes.recipe(
        fleet, "restarted", "fleetstages:Slow: {seconds: 30}", "fleetstages:Measure: {seconds: 1}"
    )
    deploy(fleet, recipe)
    watching = subprocess.Popen(
        [sys.executable, "-P", "-m", "flows.cli", "submit", "restarted", "--watch", "--json"],
        env=fleet.environment("desk", PYTHONPATH=str(ROOT)),
        cwd=fleet.desk,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    wait(lambda: fleet.runs("restarted", "RUNNING"), 300, "the run runs")
    time.sleep(10)  # the model is imported, and the slow stage has begun
    fleet.stop("server")
    time.sleep(5)
    fleet.start_server()
    output = json.loads(watching.communicate(timeout=400)[0])
    row = {
        "exit_code": watching.returncode,
        "state": output["state"],
        "runs": len(fleet.runs("restarted")),
    }
    return row, Claim(
        "a run survives a restart of the server, and so does who watches it",
        "Completed, 0, one run",
        f"{output['state']}, {watching.returncode}, {row['runs']} run",
        (output["state"], watching.returncode, row["runs"]) == ("Completed", 0, 1),
    )


def at_once(fleet: Fleet) -> tuple[dict[str, Any], Claim]:
    """Two deployments are due at the same minute until each has run twice."""
    names = ("one", "two")
    for name, seconds in zip(names, (15, 16), strict=True):  # not the same work
        measure = f"fleetstages:Measure: {{seconds: {seconds}}}"
        path = recipes.recipe(fleet, name, "fleetstages:Head", measure)
        deploy(fleet, path, "--cron", MINUTELY)
    wait(
        lambda: all(len(fleet.runs(name, "COMPLETED")) >= 2 for name in names),
        600,
        "both have run twice",
    )
    pause(fleet, *names)
    wait(lambda: not any(fleet.runs(name, "RUNNING", "PENDING") for name in names), 300, "all end")
    times = measured(fleet.folder / "worker" / ".rarefy" / "store")
    flows = [
        (datetime.fromisoformat(run["start_time"]), datetime.fromisoformat(run["end_time"]))
        for name in names
        for run in fleet.runs(name, "COMPLETED")
    ]
    row = {
        "measured": [[start.isoformat(), end.isoformat()] for start, end in times],
        "measured_at_once": overlaps(times),
        "flows_at_once": overlaps(flows),
    }
    return row, Claim(
        "two deployments that are due at once never measure at the same time",
        "0 overlaps of measurements, though flows overlap",
        f"{row['measured_at_once']} of {len(times)} measurements, {row['flows_at_once']} of flows",
        len(times) >= 4 and row["measured_at_once"] == 0 and row["flows_at_once"] > 0,
    )


def measured(store: Path) -> list[tuple[datetime, datetime]]:
    """Return when each measurement in a worker's store began and ended, as it wrote down itself."""
    times = (json.loads(path.read_text()) for path in store.glob("artifacts/*/*/times.json"))
    spans = [(datetime.fromtimestamp(s, UTC), datetime.fromtimestamp(e, UTC)) for s, e in times]
    return sorted(spans)


def overlaps(times: list[tuple[datetime, datetime]]) -> int:
    """Return how many pairs of spans have a moment in common."""
    return sum(
        one[0] < other[1] and other[0] < one[1]
        for position, one in enumerate(times)
        for other in times[:position]
    )


def cold(fleet: Fleet) -> tuple[dict[str, Any], Claim]:
    """Another worker, which has nothing, runs what the first one has published."""
    fleet.stop("worker")
    fleet.start_worker("cold")
    code, output = submit(fleet, "hourly")
    store = fleet.folder / "cold" / ".rarefy" / "store"
    pulled = kinds_in(store)
    of_run = {"flow_runs": {"id": {"any_": [output["flow_run"]]}}}
    tasks = fleet.ask("task_runs/filter", of_run) or []
    cached = sorted(task["name"] for task in tasks if task["state_name"] == "Cached")
    all_cached = cached == ["export", "head", "model", "validate"]
    row = {"exit_code": code, "cached": cached, "pulled": pulled}
    return row, Claim(
        "a worker that has nothing takes what another has published, and pulls only what it needs",
        "all stages cached; bundle and report pulled",
        f"{', '.join(cached)} cached; {', '.join(pulled)} pulled",
        code == 0 and all_cached and pulled == ["bundle", "report"],
    )


if __name__ == "__main__":
    raise SystemExit(main())
