"""A job in a separate process: how it fails, and which code it runs."""

from __future__ import annotations

import os

import pytest

from pipeline.measure import fresh, latency
from pipeline.terms.errors import EvidenceError
from tests.pipeline.measure import bundles


def test_a_process_that_is_killed_is_a_clear_error(tmp_path, monkeypatch):
    (tmp_path / "dies.py").write_text("import os; os.kill(os.getpid(), 9)")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with pytest.raises(
        EvidenceError, match="timing was killed by SIGKILL; the machine may have run out of"
    ):
        fresh.call("dies", {}, what="timing", timeout=30)


def test_a_process_that_hangs_is_ended(tmp_path, monkeypatch):
    (tmp_path / "hangs.py").write_text(
        f"import os, time; open({str(tmp_path / 'pid')!r}, 'w').write(str(os.getpid()))\n"
        "time.sleep(600)"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with pytest.raises(EvidenceError, match="did not finish within 2 s"):
        fresh.call("hangs", {}, what="timing", timeout=2)
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "pid").read_text()), 0)


def test_a_folder_named_pipeline_where_one_works_is_not_imported(tmp_path, monkeypatch):
    (tmp_path / "pipeline").mkdir()
    (tmp_path / "pipeline" / "__init__.py").write_text("raise SystemExit('the wrong one')")
    monkeypatch.chdir(tmp_path)
    only = {"candidate": bundles.make(tmp_path / "bundle")}
    assert latency.measure(only, bundles.texts(3), processes=1, seconds=1).noise
