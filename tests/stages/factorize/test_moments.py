"""Second moments of inputs and gradients."""

import torch
import transformers
from torch import nn
from torch.nn import functional

from rarefy.stages.factorize import moments
from tests.models import TASK
from tests.stages.classifiers import IDS, MASK, classifier


class Tiny(nn.Module):
    """Two layers, of which the second reads the first one's output, and is called twice."""

    def __init__(self):
        super().__init__()
        self.first, self.second, self.config = nn.Linear(3, 4), nn.Linear(4, 2), None

    def forward(self, x):
        hidden = self.first(x)
        logits = self.second(hidden) + self.second(-2 * hidden)
        return transformers.modeling_outputs.SequenceClassifierOutput(logits=logits)


def test_moments_are_those_of_a_linear_model():
    """For logits = W·x the gradient is softmax − label, known without a backward pass."""
    torch.manual_seed(0)
    model, x, labels = Tiny(), torch.randn(5, 3), torch.tensor([0, 1, 1, 0, 1])
    batches = [{"x": x[:2], "labels": labels[:2]}, {"x": x[2:], "labels": labels[2:]}]
    layers = [model.first, model.second]
    first, second = moments.measure(
        model, layers, batches, TASK.objective.summed_loss(), lambda *_: None
    )
    with torch.no_grad():
        hidden = model.first(x)
        gradient = model(x).logits.softmax(-1) - functional.one_hot(labels, 2)
        before = -gradient @ model.second.weight  # 1 · and −2 · hidden
    torch.testing.assert_close(first.inputs.float(), x.T @ x)
    torch.testing.assert_close(first.mean_gradients, before.T @ before / 5)
    assert first.tokens == 5
    torch.testing.assert_close(second.inputs.float(), 5 * hidden.T @ hidden)
    torch.testing.assert_close(second.mean_gradients, gradient.T @ gradient / 5)
    assert second.tokens == 10


def test_gradients_are_found_behind_a_projection_that_is_scaled_in_place():
    model = classifier("deberta", "eager")
    batch = {"input_ids": IDS, "attention_mask": MASK, "labels": torch.tensor([0, 1])}
    layers = list(moments.eligible(model).values())
    sums = moments.measure(model, layers, [batch], TASK.objective.summed_loss(), lambda *_: None)
    assert min(float(each.gradients.diagonal().sum()) for each in sums) > 0


def test_a_projection_that_is_computed_and_not_used_costs_nothing():
    """As of DeBERTa's two kinds of position attention, if only one is on."""

    class Both(nn.Module):
        def __init__(self):
            super().__init__()
            self.used, self.idle = nn.Linear(4, 4), nn.Linear(4, 4)

        def forward(self, given):
            self.idle(given)
            return self.used(given)

    model = Both()
    loss = lambda network, batch: network(batch).square().sum()  # noqa: E731
    used, idle = moments.measure(
        model, [model.used, model.idle], [torch.ones(2, 4)], loss, lambda *_: None
    )
    assert used.gradients.abs().sum() > 0
    assert idle.gradients.abs().sum() == 0
