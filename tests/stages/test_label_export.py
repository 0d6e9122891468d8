"""An adapter answers by the export of the model that it is merged into."""

from __future__ import annotations

import torch

from pipeline.store.artifact import Kind
from stages import transfer_set
from stages.adapt import Adapt
from stages.label import Label
from tests.models import artifact_of


def test_an_adapter_among_the_teachers_is_answered_by_its_export(tuned, make_context, tmp_path):
    context = make_context(rows=32, work=tmp_path / "adapting")
    Adapt(rank=4, learning_rate=5e-3, epochs=1).run(context, tuned)
    adapter = artifact_of(context.output, Kind.ADAPTER)
    found = []
    for engine in ("pytorch", "float"):
        context = make_context(rows=12, work=tmp_path / engine, artifacts={"adapter": adapter})
        Label(engine=engine, teachers=("adapter",)).run(context, tuned)
        artifact = artifact_of(context.output, Kind.TRANSFER_SET)
        found.append(transfer_set.answers(artifact)["train"].float())
    assert (tmp_path / "float" / f"{adapter.short}-train" / "0.npy").exists()
    torch.testing.assert_close(*found, rtol=0, atol=0.1)
