"""Training learns, is reproducible, survives a kill, and reports divergence."""

from __future__ import annotations

import pytest
import torch

from pipeline.stage.tasks.regression import Regression
from pipeline.stage.tasks.text_classification import TextClassification
from pipeline.terms.errors import ModelError
from stages import training
from tests.models import write_model
from tests.stages.trainings import fit, same_weights


@pytest.mark.slow
def test_the_same_seed_gives_the_same_weights_and_another_seed_others(
    tiny_encoder, make_context, tmp_path
):
    one, _ = fit(make_context(work=tmp_path / "a"), tiny_encoder)
    two, _ = fit(make_context(work=tmp_path / "b"), tiny_encoder)
    other, _ = fit(make_context(work=tmp_path / "c", seed=1), tiny_encoder)
    assert same_weights(one, two)
    assert not same_weights(one, other)


def test_a_checkpoint_with_other_labels_is_refused(tiny_encoder, make_context):
    network = make_context().task.load_model(str(tiny_encoder.directory))
    with pytest.raises(ModelError, match=r"labels are negative, positive, but the data's are a, b"):
        TextClassification(("a", "b"), 8, ("text",)).check_head(network, "finetune")


def test_a_new_head_is_prepared_for_the_rows_and_the_model_s_own_is_not(tmp_path, make_context):
    context = make_context(task=Regression((), 32, ("text",)))
    bare, headed = tmp_path / "bare", tmp_path / "headed"
    write_model(bare, "bert")
    own = write_model(headed, "bert", "AutoModelForSequenceClassification", ("score",))
    half = torch.tensor([0.5])  # the mean of the context's labels, 0 and 1
    torch.testing.assert_close(training.with_head(context, bare).classifier.bias.data, half)
    assert torch.equal(training.with_head(context, headed).classifier.bias, own.classifier.bias)
