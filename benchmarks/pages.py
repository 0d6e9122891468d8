"""The pages that rarefy writes, in a browser: what is cut off, and what failed on first sight.

Every kind of page is made of the numbers of the tests and opened in Chromium at 1280 and 390
pixels, light and dark. ``--pictures DIR`` saves a picture of each.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

from benchmarks import record
from benchmarks.record import Claim
from tests.pipeline.report import pages
from tests.pipeline.report.conftest import ARGUMENTS
from tests.pipeline.report.pages import FAILED, FIRST_SCREEN, SCHEMES, WIDTHS

WIDE: Final = max(WIDTHS)


def pictures(chromium: str, folder: Path) -> list[dict[str, Any]]:
    """Return the layout of every page at every width and colour; save their pictures."""
    from playwright.sync_api import sync_playwright

    rows = []
    with tempfile.TemporaryDirectory() as written, sync_playwright() as driver:
        paths = pages.write(Path(written))
        browser = driver.chromium.launch(executable_path=chromium, args=ARGUMENTS)
        page = browser.new_page()
        for name, path in paths.items():
            for width in WIDTHS:
                for scheme in SCHEMES:
                    picture = folder / f"{name}-{width}-{scheme}.png"
                    layout = pages.look(page, path, width, scheme, picture)
                    row = {"page": name, "width": width, "scheme": scheme}
                    rows.append(row | {"layout": asdict(layout)} | record.here())
        browser.close()
    return rows


def claims_of_pictures(rows: list[dict[str, Any]]) -> list[Claim]:
    """Return what is claimed of the pages' layouts."""
    cut = 0
    scrolled = 0
    hidden = 0
    bottoms = []
    for row in rows:
        layout = row["layout"]
        cut += len(layout["cut"]) + len(layout["outside"])
        scrolled += layout["page"] > 0
        if row["width"] == WIDE:
            hidden += len(layout["scrolled"])
        if row["page"] == "fail" and layout["unmet"] == FAILED:
            bottoms.append(layout["bottom"])
    looks = len(WIDTHS) * len(SCHEMES)
    lowest = max(bottoms, default=float("inf"))
    named = len(bottoms) == looks and lowest <= FIRST_SCREEN
    return [
        Claim("no text is cut off", "0 texts", f"{cut} in {len(rows)} pages", cut == 0),
        Claim("no page scrolls sideways", "0 pages", f"{scrolled}", scrolled == 0),
        Claim(f"tables fit {WIDE} px", "0 wider", f"{hidden}", hidden == 0),
        Claim(
            "the failed budget is named on the first screen",
            f"{FIRST_SCREEN} px",
            f"{lowest:.0f} px at most, in {len(bottoms)} of {looks} looks",
            named,
        ),
    ]


def main() -> int:
    """Measure, print the claims and write ``results/pages.json``."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pictures", type=Path, default=None)
    folder: Path | None = parser.parse_args().pictures
    chromium = shutil.which("chromium")
    if chromium is None:
        print("chromium is not installed: apt-get install chromium")
        return 5
    with tempfile.TemporaryDirectory() as temporary:
        saved = folder or Path(temporary)
        saved.mkdir(parents=True, exist_ok=True)
        rows = pictures(chromium, saved)
    return record.finish("pages", rows, claims_of_pictures(rows), seed=0)


if __name__ == "__main__":
    sys.exit(main())
