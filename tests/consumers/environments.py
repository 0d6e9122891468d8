"""The tools that load our bundles, each in an environment of its own in one folder."""

from __future__ import annotations

import os
import shutil
import subprocess
import sysconfig
import venv
from pathlib import Path

FOLDER = "RAREFY_CONSUMERS"
"""The variable that names the folder; `make test-consumers` sets it."""
HERE = Path(__file__).parent
SHARED = ("sentence-transformers", "mlflow-skinny")
"""The environments that also see the packages here, after their own: PyTorch is large."""
COMPLETE = ("sentence-transformers",)
"""The environments whose requirements name all packages, and would otherwise bring PyTorch."""


def home() -> Path:
    """Return the folder of the environments."""
    return Path(os.environ[FOLDER]).expanduser()


def python(name: str) -> Path:
    """Return the Python of an environment; install it if its requirements are new."""
    folder, wanted = home() / name, HERE / f"{name}.txt"
    made, done = folder / "venv" / "bin" / "python", folder / "installed.txt"
    if not done.is_file() or done.read_text() != wanted.read_text():
        venv.create(folder / "venv", with_pip=True, clear=True)
        install = [str(made), "-m", "pip", "install", "--quiet", "--requirement", str(wanted)]
        if name in COMPLETE:
            install.append("--no-deps")
        if name in SHARED:
            (own,) = (folder / "venv").glob("lib/python*/site-packages")
            (own / "zz-shared.pth").write_text(f"{sysconfig.get_path('purelib')}\n")
        subprocess.run(install, check=True, env=clean())
        shutil.copy(wanted, done)
    return made


def node_modules() -> Path:
    """Return the folder of transformers.js with what it needs; install it if it is missing."""
    folder, wanted = home() / "transformers-js", HERE / "package.json"
    done = folder / "installed.json"
    if not done.is_file() or done.read_text() != wanted.read_text():
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copy(wanted, folder)
        install = ["npm", "install", "--no-audit", "--no-fund", "--loglevel=error"]
        # Its installer fetches CUDA libraries; the package itself has what a CPU needs.
        skip = {"ONNXRUNTIME_NODE_INSTALL": "skip"}
        subprocess.run(install, cwd=folder, check=True, env=clean() | skip)
        shutil.copy(wanted, done)
    return folder / "node_modules"


def clean() -> dict[str, str]:
    """Return the environment without what leads Python to the packages of this checkout."""
    return {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}


def run(command: list[str | Path], folder: Path, **variables: str) -> str:
    """Run a command in a folder, offline, and return what it prints; fail with what it says."""
    done = subprocess.run(
        [str(part) for part in command],
        cwd=folder,
        env=clean() | {"HF_HUB_OFFLINE": "1"} | variables,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise AssertionError(f"{command[0]} failed: {done.stderr[-3000:]}")
    return done.stdout
