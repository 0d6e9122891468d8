"""An adapter is a file beside a base, whose graph is the same for all tasks and ranks."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys

import numpy as np
import onnx
import pytest
import torch
from click.testing import CliRunner

from rarefy.exporters.build import build
from rarefy.exporters.forms import source
from rarefy.flows.commands.predict import predict
from rarefy.pipeline.measure.memory import memory
from rarefy.pipeline.model import checkpoint
from rarefy.pipeline.model.quantization import plan as quantization
from rarefy.pipeline.model.runtime import adapter_file
from rarefy.pipeline.model.runtime.bundle_model import BundleModel
from rarefy.pipeline.release.predict import Bundle
from rarefy.pipeline.tasks.embeddings.task import SENTENCE_EMBEDDINGS
from rarefy.pipeline.terms.errors import IntegrityError, ModelError, ProviderError, RecipeError
from tests.breadth import broad
from tests.exporters.adapted import KINDS, MOODS, ROWS, TEXTS, WORDS, build_adapted, write_adapted

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def moods(tmp_path_factory):
    return build_adapted(tmp_path_factory.mktemp("moods"), MOODS)


@pytest.fixture(scope="module")
def kinds(tmp_path_factory):
    return build_adapted(tmp_path_factory.mktemp("kinds"), KINDS, seed=1, rank=2)


@pytest.fixture(scope="module")
def words(tmp_path_factory):
    return build_adapted(tmp_path_factory.mktemp("words"), WORDS, seed=2)


@pytest.fixture(scope="module")
def elsewhere(tmp_path_factory):
    """An adapter of a base of another family."""
    return build_adapted(tmp_path_factory.mktemp("elsewhere"), MOODS, "distilbert")


@pytest.fixture(scope="module")
def large(tmp_path_factory):
    return build_adapted(tmp_path_factory.mktemp("large"), MOODS, seed=3, rank=64)


LONG = [" ".join(TEXTS[:4])]
"""A text longer than the 24 tokens of one task, and about the 32 of the others."""


def answers(bundle, texts=TEXTS):
    return [prediction._asdict() for prediction in bundle.predict(texts)]


def test_the_base_is_the_same_file_for_tasks_with_other_heads_ranks_and_lengths(
    moods, kinds, words
):
    graphs = {(each.bundle / "model.onnx").read_bytes() for each in (moods, kinds, words)}
    assert len(graphs) == 1
    assert len({each.file.read_bytes() for each in (moods, kinds, words)}) == 3


def test_a_bundle_with_its_adapter_answers_as_pytorch_does(moods):
    network = checkpoint.load(moods.checkpoint)
    without = checkpoint.load(moods.checkpoint).unload()
    tokenizer = checkpoint.load_tokenizer(moods.checkpoint)
    model = BundleModel(moods.bundle)
    for text in TEXTS[:4]:
        row = tokenizer(text, return_tensors="pt")
        with torch.no_grad():
            exact, plain = (each(**row).logits.numpy() for each in (network, without))
        np.testing.assert_allclose(model.units([text]), exact, atol=1e-4)
        assert np.abs(exact - plain).max() > 0.01, "the adapter changes nothing, so nothing is told"


def test_without_an_adapter_the_base_gives_its_own_hidden_states(moods):
    network = checkpoint.load(moods.checkpoint).unload().base_model
    session = BundleModel(moods.bundle).session.base
    rows = checkpoint.load_tokenizer(moods.checkpoint)(TEXTS[0], return_tensors="pt")
    feed = {value.name: rows[value.name].numpy() for value in session.get_inputs()}
    [hidden] = session.run(None, feed)
    with torch.no_grad():
        exact = network(**rows).last_hidden_state.numpy()
    np.testing.assert_allclose(hidden, exact, atol=1e-4)


def test_another_family_has_a_base_and_adapters(elsewhere):
    check(elsewhere)


@pytest.mark.parametrize("kind", broad(["roberta", "electra", "distilbert", "mpnet"], "mpnet"))
def test_every_family_has_a_base_and_adapters_for_words(kind, tmp_path):
    check(build_adapted(tmp_path, WORDS, kind))


@pytest.mark.parametrize("kind", broad(["roberta", "electra", "mpnet"]))
def test_every_family_has_a_base_and_adapters_for_texts(kind, tmp_path):
    check(build_adapted(tmp_path, KINDS, kind))


def check(made):
    """``build`` refuses a bundle whose answers are not PyTorch's."""
    assert made.info.passes["low_rank_branches"] >= 12
    assert made.info.parity.agreement == 1
    assert answers(Bundle(made.bundle), TEXTS[:2])


@pytest.mark.parametrize("task", [KINDS, WORDS], ids=["texts", "words"])
def test_the_layers_of_an_int8_base_are_int8_and_branches_and_head_are_not(task, tmp_path):
    made = build_adapted(tmp_path, task, int8=True)
    assert made.info.integer_matmuls == 2 * 6  # of two layers; neither pooler nor classifier
    graph = onnx.load(made.bundle / "model.onnx").graph
    operators = [node.op_type for node in graph.node]
    assert operators.count("MatMulIntegerToFloat") == 2 * 6
    assert operators.count("MatMul") == 2 * 2 * 6


def test_the_memory_of_a_further_adapter_is_measured(moods, large):
    """A larger file takes about as much more as it is larger; the base is shared."""
    less, more = (memory.peak(each.bundle, TEXTS).adapter for each in (moods, large))
    larger = large.file.stat().st_size - moods.file.stat().st_size
    assert less > 0
    assert more - less > larger / 2 > 0


def test_one_session_answers_every_task_as_its_own_bundle_does(moods, kinds, words, tmp_path):
    first = Bundle(moods.bundle)
    shutil.copyfile(words.file, tmp_path / "words.onnx_adapter")
    third = first.with_adapter(tmp_path / "words.onnx_adapter")
    second = third.with_adapter(kinds.bundle)  # a bundle has its adapter
    for made, bundle in ((moods, first), (kinds, second), (words, third)):
        assert answers(bundle) == answers(Bundle(made.bundle))
        assert answers(bundle, LONG) == answers(Bundle(made.bundle), LONG)
        assert bundle.labels == made.task.labels


def test_adapters_that_read_alike_share_a_tokenizer(moods, large, kinds):
    first = BundleModel(moods.bundle)
    assert first.with_adapter(large.file).tokenizer is first.tokenizer
    assert first.with_adapter(kinds.file).tokenizer is not first.tokenizer


def test_the_command_predicts_with_an_adapter(moods, kinds):
    expected = answers(Bundle(kinds.bundle), TEXTS[:1])[0]
    call = [str(moods.bundle), TEXTS[0], "--adapter", str(kinds.file), "--json"]
    result = CliRunner().invoke(predict, call, catch_exceptions=False)
    assert json.loads(result.output)["label"] == expected["label"]


def run_program(bundle, *arguments):
    command = [sys.executable, "predict.py", *arguments]
    return subprocess.run(command, cwd=bundle, capture_output=True, text=True, check=False)


def test_the_program_reads_as_much_as_an_adapter_asks_for(moods, kinds):
    called = run_program(moods.bundle, "--adapter", str(kinds.file), *LONG)
    assert json.loads(called.stdout) == json.loads(run_program(kinds.bundle, *LONG).stdout)


def test_the_program_of_a_bundle_answers_its_own_task_and_those_of_adapters(moods, words):
    samples = json.loads((moods.bundle / "samples/response.json").read_text())
    texts = json.loads((moods.bundle / "samples/request.json").read_text())["texts"]
    assert json.loads(run_program(moods.bundle, *texts).stdout) == samples
    samples = json.loads((words.bundle / "samples/response.json").read_text())
    texts = json.loads((words.bundle / "samples/request.json").read_text())["texts"]
    sentences = [" ".join(words) for words in texts]
    called = run_program(moods.bundle, "--adapter", str(words.file), *sentences)
    assert json.loads(called.stdout) == samples


@pytest.fixture
def damaged(moods, tmp_path):
    """Return a function that writes an adapter, changed by a function, to a file."""

    def write(change):
        path = tmp_path / "damaged.onnx_adapter"
        path.write_bytes(change(moods.file.read_bytes()))
        return path

    return write


def flip(content):
    """Change one bit of the largest run of weights."""
    at = len(content) // 2
    return content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :]


@pytest.mark.parametrize("change", [lambda content: content[:99], lambda _: b"no adapter", flip])
def test_a_damaged_adapter_is_refused_in_one_line(change, damaged, moods):
    path = damaged(change)
    with pytest.raises(IntegrityError, match=r"^\S+: .*damaged") as refused:
        Bundle(moods.bundle).with_adapter(path)
    assert "\n" not in str(refused.value)
    result = run_program(moods.bundle, "--adapter", str(path), "a text")
    assert result.returncode == 1
    assert "damaged" in result.stderr
    assert result.stderr.count("\n") == 1


def test_an_adapter_of_another_base_is_refused(moods, elsewhere, tmp_path):
    other = elsewhere
    with pytest.raises(ModelError, match=r"this adapter is for the base .*, but the bundle's base"):
        Bundle(moods.bundle).with_adapter(other.file)
    result = run_program(moods.bundle, "--adapter", str(other.file), "a text")
    assert (result.returncode, result.stderr) == (
        1,
        f"{other.file}: this adapter is for another base\n",
    )
    there = tmp_path / "there"
    shutil.copytree(moods.bundle, there)
    shutil.copyfile(other.file, there / adapter_file.FILE)
    with pytest.raises(ModelError, match="this adapter is for the base"):
        BundleModel(there)


def test_an_adapter_that_is_not_there_is_refused(moods):
    with pytest.raises(RecipeError, match=r"^none\.onnx_adapter: no such adapter$"):
        Bundle(moods.bundle).with_adapter("none.onnx_adapter")
    with pytest.raises(RecipeError, match=r"^nowhere: no such bundle"):
        Bundle(moods.bundle).with_adapter("nowhere")
    result = run_program(moods.bundle, "--adapter", "none.onnx_adapter", "a text")
    assert (result.returncode, result.stderr) == (1, "none.onnx_adapter: no such adapter\n")


def test_a_merged_bundle_takes_no_adapter_and_is_none(moods, tmp_path):
    merged, bundle = tmp_path / "merged", tmp_path / "bundle"
    network = checkpoint.load(moods.checkpoint).merge_and_unload()
    checkpoint.save(network, checkpoint.load_tokenizer(moods.checkpoint), merged)
    bundle.mkdir()
    build(merged, bundle, task=MOODS, split=ROWS, form="deploy")
    with pytest.raises(ModelError, match="takes no adapters; export one of 'adapt' without"):
        Bundle(bundle).with_adapter(moods.file)
    with pytest.raises(RecipeError, match=r"no adapter\.onnx_adapter, which 'adapt' without"):
        Bundle(moods.bundle).with_adapter(bundle)
    result = run_program(bundle, "--adapter", str(moods.file), "a text")
    assert result.stderr == "this bundle takes no adapters\n"
    ours, theirs = (BundleModel(each).units(TEXTS) for each in (moods.bundle, bundle))
    np.testing.assert_allclose(ours, theirs, atol=1e-4)


def test_what_cannot_be_a_file_beside_a_base_is_refused(moods, tmp_path):
    bundle = tmp_path / "bundle"
    bundle.mkdir()
    static = write_adapted(tmp_path, MOODS, int8=True)
    plan = quantization.read(static)
    for name, layer in plan.linears.items():
        plan.linears[name] = layer.model_copy(update={"low": -1.0, "high": 1.0})
    quantization.write(plan, static)
    with pytest.raises(ModelError, match="needs dynamic ranges"):
        build(static, bundle, task=MOODS, split=ROWS, form="deploy")
    with pytest.raises(ModelError, match="runs on provider: cpu only, not openvino"):
        build(
            moods.checkpoint, bundle, task=MOODS, split=ROWS, form="deploy",
            target_provider="openvino",
        )  # fmt: skip
    embeddings = SENTENCE_EMBEDDINGS.bind((), 24, ("text",))
    with pytest.raises(ModelError, match="needs a head, which sentence-embeddings does not"):
        build(moods.checkpoint, bundle, task=embeddings, split=ROWS, form="deploy")
    with pytest.raises(ProviderError, match="runs on the provider cpu only, not openvino"):
        BundleModel(moods.bundle, provider="openvino")


def test_other_tools_do_not_get_a_bundle_whose_adapter_is_a_file(moods):
    with pytest.raises(ModelError, match="its adapter is a file next to a base"):
        source.read(moods.bundle, "moods", None)
