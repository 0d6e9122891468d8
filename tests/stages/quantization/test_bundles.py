"""Bundles of plans: damage and latency in the form that ships."""

from __future__ import annotations

import contextlib
from types import SimpleNamespace

import pytest
import torch

from rarefy.pipeline.measure import exclusive
from rarefy.pipeline.measure.latency import session as latency
from rarefy.pipeline.model import checkpoint
from rarefy.pipeline.model.quantization.plan import LinearPlan, Plan
from rarefy.pipeline.store.artifact import Kind
from rarefy.pipeline.tasks.embeddings.task import SENTENCE_EMBEDDINGS
from rarefy.pipeline.terms.errors import ModelError
from rarefy.pipeline.terms.recipe_parts import Target
from rarefy.stages.adapt import Adapt
from rarefy.stages.label import Label
from rarefy.stages.quantization import bundles, ranges, sensitivity
from rarefy.stages.quantization.bundles import FLOAT, Finalists
from rarefy.stages.transfer import files as transfer_set
from tests.models import artifact_of
from tests.searches import lessons


@pytest.fixture
def network(tuned):
    return checkpoint.load(tuned.directory)


@pytest.fixture
def entered(tuned, network, make_context):
    context = make_context(targets=(Target(),))
    return Finalists(context, network, checkpoint.load_tokenizer(tuned.directory))


def test_the_damage_of_a_bundle_is_what_was_simulated(entered, network):
    # The tuned model is so sure that int8 moves its answers by 1e-9, which says nothing.
    torch.manual_seed(0)
    for name in (*sensitivity.linear_layers(network), "classifier"):
        sensitivity.linear(network, name).weight.data.normal_(0, 0.2)
    names = sensitivity.linear_layers(network)
    layers = {name: LinearPlan(precision="int8") for name in names}
    bundle = entered.build(Plan(embeddings="float", linears=layers))
    assert entered.damage(entered.build(None)) == 0
    rows = ranges.rows(entered.context, entered.tokenizer, "dev", 32)
    simulated = sensitivity.Sensitivity(entered.context.task, network, rows, "avx2")
    damage = entered.damage(bundle)
    assert damage > 1e-5
    assert damage == pytest.approx(simulated.damage(layers), rel=0.5)


def test_a_bundle_is_built_once_also_after_a_kill(entered, monkeypatch):
    plan = Plan(linears={})
    bundle = entered.build(plan)
    monkeypatch.setattr(bundles, "build", None)
    again = Finalists(entered.context, entered.network, entered.tokenizer)
    assert again.build(plan) == bundle


@pytest.mark.parametrize("wrong", [(), ("plain",), ("plain", "smoothed")])
def test_int8_is_smoothed_if_its_answers_are_wrong_without(entered, monkeypatch, wrong):
    plain, smoothed = Plan(linears={}), Plan(embeddings="int8", linears={})
    monkeypatch.setattr(bundles, "rounded", lambda _: plain)
    monkeypatch.setattr(bundles, "smoothed", lambda *_: smoothed)

    def build(self, plan):
        name = "plain" if plan is plain else "smoothed"
        if name in wrong:
            raise ModelError(f"export: {name} answers are wrong")
        return name

    monkeypatch.setattr(Finalists, "build", build)
    if len(wrong) == 2:
        with pytest.raises(ModelError, match="smoothed answers are wrong"):
            next(entered.int8())
    else:
        assert list(entered.int8()) == [n for n in ("plain", "smoothed") if n not in wrong]


@pytest.mark.slow
def test_all_are_timed_in_one_session(entered, monkeypatch):
    monkeypatch.setattr(bundles, "PROCESSES", 2)
    monkeypatch.setattr(bundles, "SECONDS", 1.0)
    bundle = entered.build(None)
    taken: list[str] = []

    @contextlib.contextmanager
    def limit(_waiting):
        taken.append("taken")
        yield

    with exclusive.also(limit):
        timed = entered.time({FLOAT: bundle, "same": bundle})
    assert taken, "nobody else may time meanwhile"
    assert timed.percentile("same", 50).value > 0
    assert 0.5 < timed.ratio("same", FLOAT).value < 2


def test_a_search_is_timed_by_its_queries(make_context, monkeypatch):
    asked = []

    def measure(_bundles, texts, pairs, **_options):
        asked.append((list(texts), pairs))
        return SimpleNamespace(throttled=None)

    monkeypatch.setattr(latency, "measure", measure)
    task = SENTENCE_EMBEDDINGS.bind((), 8, ("query", "positive"))
    context = make_context(task=task, splits={"dev": lessons()}, targets=(Target(),))
    Finalists(context, None, None).time({})
    assert asked == [(["warm", "dull"], None)]


@pytest.mark.slow
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
