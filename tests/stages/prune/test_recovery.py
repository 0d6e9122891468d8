"""A pruned network recovers in rounds, which leave little on disk and go on after a kill."""

from __future__ import annotations

import pytest

from rarefy.pipeline.model import checkpoint
from rarefy.stages.prune import Prune
from rarefy.stages.teachers import recovery
from tests.stages.trainings import same_weights

STAGE = Prune(remove_neurons=0.5, rounds=2, recover_epochs=1, calibration_rows=16)


@pytest.mark.slow
def test_a_round_that_ended_leaves_its_weights_and_a_killed_run_goes_on_from_them(
    tuned, make_context, monkeypatch, tmp_path
):
    whole = make_context(rows=16, work=tmp_path / "whole")
    STAGE.run(whole, tuned)
    expected = checkpoint.load(whole.output)
    context = make_context(rows=16, work=tmp_path / "killed")
    train = recovery.train

    def dying(*given):
        if given[-1] == 2:
            raise KeyboardInterrupt
        return train(*given)

    with monkeypatch.context() as patch:
        patch.setattr(recovery, "train", dying)
        with pytest.raises(KeyboardInterrupt):
            STAGE.run(context, tuned)
    (kept,) = (context.work / "recovery").glob("checkpoint-*")
    names = {path.name for path in kept.iterdir()}
    assert "optimizer.pt" not in names
    assert {"model.safetensors", "whole.json"} <= names
    weights = kept / "model.safetensors"
    before = weights.stat().st_mtime_ns
    STAGE.run(context, tuned)
    assert weights.stat().st_mtime_ns == before, "the first round was not trained again"
    assert same_weights(expected, checkpoint.load(context.output))
