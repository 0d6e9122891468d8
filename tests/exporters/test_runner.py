"""The bundle's own predict.py."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.skipif(Path("/dev/nvidiactl").exists(), reason="here a GPU may answer")
def test_a_copied_bundle_never_answers_on_another_provider(deployed, tmp_path):
    there = tmp_path / "elsewhere"
    shutil.copytree(deployed[1], there)
    options = json.loads((there / "session_options.json").read_text())
    options["providers"] = ["CUDAExecutionProvider"]
    (there / "session_options.json").write_text(json.dumps(options))
    command = [sys.executable, "predict.py", "a text"]
    answer = subprocess.run(command, cwd=there, capture_output=True, text=True, check=False)
    assert (answer.returncode, answer.stdout) == (1, "")
    assert "CUDAExecutionProvider is not active" in answer.stderr
