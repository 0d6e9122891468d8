"""The tools that ``benchmarks/race.py`` races against, one folder each.

``requirements.txt`` pins a tool with all it needs, and ``convert.py`` writes one form of a
checkpoint, in the tool's own environment.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import venv
from pathlib import Path

HERE = Path(__file__).parent
FORMS = {
    "olive": ("dynamic", "dynamic-fused", "static", "static-products", "static-fused"),
    "optimum": ("dynamic", "static", "static-products"),
    "openvino": ("int8", "float", "fp32"),
}
"""Tool -> the forms to ask for."""


def environment(tool: str, home: Path) -> Path:
    """Return the Python of a tool's environment; install it if it is missing."""
    folder, wanted = home / "peers" / tool, HERE / tool / "requirements.txt"
    python, done = folder / "venv" / "bin" / "python", folder / "installed.txt"
    if not done.is_file() or done.read_text() != wanted.read_text():
        print(f"installing {tool}", file=sys.stderr)
        venv.create(folder / "venv", with_pip=True, clear=True)
        install = [str(python), "-m", "pip", "install", "--quiet", "--no-deps"]
        subprocess.run([*install, "--requirement", str(wanted)], check=True)
        shutil.copy(wanted, done)
    return python


def convert(tool: str, form: str, home: Path, model: Path, output: Path) -> None:
    """Write a form of ``model``'s checkpoint, with its calibration rows; note the seconds taken."""
    python = environment(tool, home)
    command = [python, HERE / tool / "convert.py", model / "checkpoint", model / "rows.json"]
    print(f"{model.name}: {tool} {form}", file=sys.stderr)
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    started, log = time.monotonic(), model / f"{tool}-{form}.log"
    with log.open("w") as file, tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(  # in a folder of its own: Optimum leaves files where it runs
            [*command, form, output],
            env=kept | {"HF_HUB_OFFLINE": "1"},
            stdout=file,
            stderr=file,
            cwd=folder,
        )
    if done.returncode:
        lines = log.read_text().splitlines() or ["it printed nothing"]
        sys.exit(f"{tool} cannot write {form} ({log}): {lines[-1]}")
    seconds(output, time.monotonic() - started)


def seconds(output: Path, taken: float) -> None:
    """Note how long a form took; the note also says that it is complete."""
    (output / "seconds.json").write_text(json.dumps(taken))
