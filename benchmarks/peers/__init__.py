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
    folder = home / "peers" / tool
    python = folder / "venv" / "bin" / "python"
    pins = HERE / tool / "requirements.txt"
    installed = folder / "installed.txt"
    if not installed.is_file() or installed.read_text() != pins.read_text():
        print(f"installing {tool}", file=sys.stderr)
        venv.create(folder / "venv", with_pip=True, clear=True)
        install = [str(python), "-m", "pip", "install", "--quiet", "--no-deps"]
        subprocess.run([*install, "--requirement", str(pins)], check=True)
        shutil.copy(pins, installed)
    return python


def convert(tool: str, form: str, home: Path, model: Path, output: Path) -> None:
    """Write a form of a model's checkpoint, with its calibration rows; note the seconds taken.

    Args:
        tool: one of ``FORMS``.
        form: one of the tool's.
        home: the race's folder, with the tool's environment.
        model: the model's folder in it.
        output: the folder to write.
    """
    python = environment(tool, home)
    inputs = [model / "checkpoint", model / "rows.json"]
    command = [str(path) for path in (python, HERE / tool / "convert.py", *inputs)]
    print(f"{model.name}: {tool} {form}", file=sys.stderr)
    variables = {**os.environ, "HF_HUB_OFFLINE": "1"}
    variables.pop("PYTHONPATH", None)
    log = model / f"{tool}-{form}.log"
    started = time.monotonic()
    with log.open("w") as file, tempfile.TemporaryDirectory() as folder:
        process = subprocess.run(  # in a folder of its own: Optimum leaves files where it runs
            [*command, form, str(output)],
            env=variables,
            stdout=file,
            stderr=file,
            cwd=folder,
        )
    if process.returncode:
        lines = log.read_text().splitlines() or ["it printed nothing"]
        sys.exit(f"{tool} cannot write {form} ({log}): {lines[-1]}")
    seconds(output, time.monotonic() - started)


def seconds(output: Path, taken: float) -> None:
    """Note how long a form took; the note also says that it is complete."""
    (output / "seconds.json").write_text(json.dumps(taken))
