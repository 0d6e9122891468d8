"""Several processes answer, and the rows come back in their order."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.model.runtime import BundleModel
from pipeline.stage.split import Split
from pipeline.terms.errors import EvidenceError
from stages import shards
from tests.models import sentences


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
