"""What a deployed run leaves in a shared store: its report and, if it passed, its artifacts."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from flows.results import Result
from pipeline.release.verdicts import RUNS
from pipeline.run import names
from pipeline.run.engine import Run
from pipeline.store import shared
from pipeline.store.remote import Remote


def place_of(recipe: str, run: str) -> str:
    """Return the folder of a run's report in a store: by recipe and time, in their order.

    ``run``: the id of a flow run, which begins with the time: only its end is its own (UUIDv7).
    """
    return f"{RUNS}/{recipe}/{datetime.now(UTC):%Y%m%d-%H%M%S}-{run[-8:]}"


def publish(run: Run, result: Result, url: str, place: str) -> None:
    """Send the files of a finished run, and its artifacts if the verdict is a pass.

    The report goes whatever the verdict is: of a missed budget, people want to read it. The verdict
    goes last: if it is there, so is the record that `rarefy promote` reads. Raises what
    ``remote.push`` raises.
    """
    judged = result.verdict
    if judged is not None and judged.outcome == "pass" and not judged.evidence:
        shared.share(run.plan.store, [step.artifact for step in run.finished.values()], url)
    there = Remote.open(url)
    there.check_writable()
    folder = Path(result.paths["report"]).parent
    for name in sorted(names.FILES, key=names.VERDICT.__eq__):
        if (folder / name).is_file():
            there.put(folder / name, f"{place}/{name}")


def address(url: str, place: str, report_url: str | None = None) -> str:
    """Return where the report of a run is read; ``report_url`` is where the store's runs are."""
    if report_url is None:
        return f"{url.rstrip('/')}/{place}/{names.REPORT}"
    return f"{report_url.rstrip('/')}/{place.removeprefix(f'{RUNS}/')}/{names.REPORT}"
