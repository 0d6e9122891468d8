"""Several processes answer, and the rows come back in their order."""

from __future__ import annotations

import numpy as np
import pytest

from rarefy.pipeline.data.split import Split
from rarefy.pipeline.model.runtime.bundle_model import BundleModel
from rarefy.pipeline.terms.errors import EvidenceError
from rarefy.stages.label import shards
from tests.models import sentences


@pytest.mark.slow
def test_shards_give_what_one_process_gives(chain, tmp_path, monkeypatch):
    monkeypatch.setattr(shards, "SHARD", 7)
    texts, _ = sentences(30, seed=4)
    split = Split("transfer", "x", "0", texts, None, None)
    seen = []
    bundle = chain["export"].directory
    found = shards.answered(bundle, split, tmp_path, 2, lambda *what: seen.append(what[:2]))
    assert np.allclose(found, BundleModel(bundle).units(texts), atol=1e-6)
    assert seen[-1] == (30, 30)


def test_a_process_that_dies_is_said(chain, tmp_path):
    split = Split("transfer", "x", "0", ["a b"], None, None)
    with pytest.raises(EvidenceError, match="answering transfer from row 0 failed"):
        shards.answered(tmp_path / "gone", split, tmp_path, 1, lambda *_: None)


def test_who_is_stopped_does_not_wait_for_the_processes(tmp_path, monkeypatch):
    """An error in the caller's thread, as a signal is, ends what would answer for long."""
    slow, finished = tmp_path / "slow.py", tmp_path / "finished"
    slow.write_text(f"import time\ntime.sleep(20)\nopen({str(finished)!r}, 'w')\n")
    monkeypatch.setattr(shards, "WORKER", "slow")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))

    def stopped(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(shards, "as_completed", stopped)
    split = Split("transfer", "x", "0", ["a"], None, None)
    with pytest.raises(KeyboardInterrupt):
        shards.answered(tmp_path, split, tmp_path / "work", 1, lambda *_: None)
    assert not finished.exists()
