"""A merged adapter gives the same answers as the unmerged one."""

from __future__ import annotations

import pytest
import torch

from pipeline.model import checkpoint
from pipeline.store.artifact import Kind
from pipeline.terms.errors import ModelError
from stages.adapt import Adapt
from stages.merge import Merge
from tests.models import artifact_of


@pytest.fixture
def adapted(tuned, make_context, tmp_path):
    context = make_context(rows=128, work=tmp_path / "adapted")
    Adapt(rank=4, learning_rate=5e-3, epochs=2, batch_size=16).run(context, tuned)
    return artifact_of(context.output, Kind.ADAPTER)


def test_it_answers_as_before_without_the_adapter(adapted, make_context):
    context = make_context()
    draft = Merge().run(context, adapted)
    before, after = checkpoint.load(adapted.directory), checkpoint.load(context.output)
    assert not hasattr(after, "merge_and_unload")
    tokenizer = checkpoint.load_tokenizer(context.output)
    inputs = tokenizer(["a lovely film", "dull"], padding=True, return_tensors="pt")
    with torch.no_grad():
        torch.testing.assert_close(after(**inputs).logits, before(**inputs).logits)
        plain = before.unload()(**inputs).logits
        assert not torch.allclose(after(**inputs).logits, plain, atol=1e-3)
    assert draft.metrics[0].name == "merge_difference"
    assert draft.metrics[0].value <= 1e-4
    assert "adapter" not in set(draft.roles.values())


def test_without_an_adapter_there_is_nothing_to_merge(tuned, make_context):
    with pytest.raises(ModelError, match="has no adapter"):
        Merge().run(make_context(), tuned)
