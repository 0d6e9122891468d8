"""What a deployed run leaves in a shared store: its report and, if it passed, its artifacts."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from rarefy.flows.console.results import Result
from rarefy.pipeline.release.verdicts import RUNS
from rarefy.pipeline.run import names
from rarefy.pipeline.run.engine import Run
from rarefy.pipeline.store.remote import shared_store
from rarefy.pipeline.store.remote.artifacts import Remote


def place_of(recipe: str, run: str) -> str:
    """Return the folder of a run's report in a store: by recipe and time, in their order.

    Args:
        recipe: The recipe's name.
        run: The id of a flow run.
    """
    now = datetime.now(UTC)
    time = now.strftime("%Y%m%d-%H%M%S")
    suffix = run[-8:]  # the id, a UUIDv7, begins with the time
    return f"{RUNS}/{recipe}/{time}-{suffix}"


def publish(run: Run, result: Result, url: str, place: str) -> None:
    """Send the files of a finished run, and its artifacts if the verdict is a pass.

    The report goes whatever the verdict is: of a missed budget, people want to read it. The verdict
    goes last: if it is there, so is the record that `rarefy promote` reads. Raises what
    ``artifacts.push`` raises.

    Args:
        run: The finished run.
        result: Its verdict and files.
        url: The address of the store.
        place: The folder there, from ``place_of``.
    """
    verdict = result.verdict
    passed = verdict is not None and verdict.outcome == "pass" and not verdict.evidence
    if passed:
        artifacts = [step.artifact for step in run.finished.values()]
        shared_store.share(run.plan.store, artifacts, url)
    store = Remote.open(url)
    store.check_writable()
    folder = Path(result.paths["report"]).parent
    number = str(store.next_number())
    store.write(f"{place}/{names.ORDER}", number.encode())
    verdict_last = sorted(names.FILES, key=names.VERDICT.__eq__)
    for name in verdict_last:
        file = folder / name
        if file.is_file():
            store.put(file, f"{place}/{name}")


def address(url: str, place: str, report_url: str | None = None) -> str:
    """Return where the report of a run is read; ``report_url`` is where the store's runs are."""
    if report_url is not None:
        url = report_url
        place = place.removeprefix(f"{RUNS}/")
    base = url.rstrip("/")
    return f"{base}/{place}/{names.REPORT}"
