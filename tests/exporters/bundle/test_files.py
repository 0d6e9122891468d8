"""A bundle is complete, and runs elsewhere with only what it needs."""

from __future__ import annotations

import json
import tomllib
from dataclasses import replace
from importlib.metadata import entry_points
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from rarefy.exporters import saving
from rarefy.exporters.build import build
from rarefy.exporters.bundle import files
from rarefy.pipeline.data.split import Split
from rarefy.pipeline.model import checkpoint
from rarefy.pipeline.model.runtime import adapter_file
from rarefy.pipeline.model.runtime.bundle_model import BundleModel
from rarefy.pipeline.tasks.classification.multi_label import MULTI_LABEL_CLASSIFICATION
from rarefy.pipeline.tasks.embeddings.task import SearchScorer
from rarefy.pipeline.tasks.task import Presenter
from rarefy.pipeline.terms.digests import file_sha256
from tests.exporters.deployments import answers_its_sample_elsewhere
from tests.exporters.forms import bundles
from tests.models import BAD, GOOD, TASK, write_model

ROOT = Path(__file__).parents[3]
NEEDED = ("onnxruntime", "tokenizers", "numpy", "numpy.libs", "flatbuffers")
"""Everything that a bundle may import, with transitive imports."""
FACTS = {
    **dict.fromkeys(("layers", "hidden", "size", "max_length", "rows"), 1),
    "architecture": "A",
    "provider": "cpu",
    "least_runtime": "1.23",
    "rank": None,
    "precision": "fp32",
    "passes": "mask 2",
    "idle": "scale",
    "integer_matmuls": 0,
    "threads": 1,
    "difference": 0.0,
    "agreement": 1.0,
    "task": "regression",
    "labels": [],
    "samples": False,
    "threshold": None,
    "pairs": False,
    "tag": "text-classification",
    "windows": False,
}
"""What the card of a bundle tells."""


@pytest.mark.slow
def test_a_copied_bundle_answers_its_sample_with_nothing_but_what_it_needs(deployed, tmp_path):
    answers_its_sample_elsewhere(deployed[1], NEEDED, tmp_path)


def test_a_sample_has_the_label_that_is_ahead_by_less_than_six_decimals(tmp_path, monkeypatch):
    model = SimpleNamespace(units=lambda texts, pairs: np.array([[0.0, 1e-7]]))
    monkeypatch.setattr(files, "opened", lambda *_: model)
    split = Split("dev", "dev.jsonl", "0", ["a film"], None, None)
    files.write_samples(tmp_path, TASK, split, "cpu")
    (given,) = json.loads((tmp_path / "samples/response.json").read_text())["predictions"]
    first, second = TASK.labels
    assert given == {"label": second, "probabilities": {first: 0.5, second: 0.5}}


def test_the_card_holds_no_row_of_the_data_and_one_harmless_command(deployed):
    """A row would be run by a shell: $(…), backticks and quotes are not data there."""
    card = (deployed[1] / "README.md").read_text()
    request = json.loads((deployed[1] / "samples" / "request.json").read_text())
    assert not [text for text in request["texts"] if text in card]
    assert 'python predict.py "A text to classify."' in card.splitlines()


def test_the_files_are_those_that_are_promised_and_their_sums_hold(deployed):
    info, output = deployed
    found = {p.relative_to(output).as_posix() for p in output.rglob("*") if p.is_file()}
    of_adapters = {adapter_file.FILE, files.ADAPTER, *files.TASKS.values()}
    promised = set(files.ROLES) - {saving.WEIGHTS} - of_adapters
    assert found == set(info.roles) == promised
    for line in (output / files.SUMS).read_text().splitlines():
        digest, name = line.split("  ")
        assert file_sha256(output / name) == digest


@pytest.mark.parametrize(
    ("provider", "extra", "more"),
    [
        ("cpu", "cpu", ""),
        ("openvino", "openvino", ""),
        ("cuda", "gpu", ""),
        ("tensorrt", "gpu", " 'tensorrt>=10.13.2,<11'"),
    ],
)
def test_a_card_names_the_packages_of_its_provider_in_versions_that_were_tested(
    tmp_path, provider, extra, more
):
    """ONNX Runtime before 1.23 has no opset 23; 1.26 misreads tables in 4 bits without an error."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    (package,) = project["optional-dependencies"][extra]
    files.write_card(tmp_path, FACTS | {"provider": provider})
    card = (tmp_path / "README.md").read_text().splitlines()
    assert f"pip install '{package}'{more} tokenizers numpy" in card


def test_tensorrt_gets_the_precision_of_the_graph_and_cuda_beside_it():
    session = files.session_providers("tensorrt", "fp16")
    assert session["providers"] == ["TensorrtExecutionProvider", "CUDAExecutionProvider"]
    assert session["provider_options"] == [
        {"trt_fp16_enable": "True", "trt_int8_enable": "False"},
        {},
    ]
    assert files.session_providers("cuda", "fp16") == {"providers": ["CUDAExecutionProvider"]}


def test_a_card_of_a_model_for_pairs_has_a_command_with_a_pair(tmp_path):
    files.write_card(tmp_path, FACTS | {"pairs": True})
    lines = (tmp_path / "README.md").read_text().splitlines()
    (command,) = [line for line in lines if "predict.py" in line]
    request = json.loads(command.partition("'")[2].rpartition("'")[0])
    assert len(request["texts"]) == len(request["pairs"]) == 1


@pytest.mark.parametrize(("windows", "said"), [(True, "read in windows"), (False, "truncated")])
def test_a_card_says_what_becomes_of_long_texts_and_what_the_hub_calls_the_task(
    tmp_path, windows, said
):
    files.write_card(tmp_path, FACTS | {"windows": windows, "tag": "text-ranking"})
    card = (tmp_path / "README.md").read_text()
    assert f"; longer inputs are {said} |" in card
    assert "\npipeline_tag: text-ranking\n" in card


def test_a_card_of_a_model_without_labels_has_no_line_of_labels(tmp_path):
    files.write_card(tmp_path, FACTS)
    card = (tmp_path / "README.md").read_text()
    assert "A model for regression" in card
    assert "| mask 2; found nothing: scale |" in card
    assert "labels |" not in card


def test_the_config_describes_the_model_and_nothing_of_this_machine(deployed):
    config = json.loads((deployed[1] / "config.json").read_text())
    assert config["architectures"] == ["BertForSequenceClassification"]
    assert (config["num_hidden_layers"], config["hidden_size"]) == (2, 384)
    assert config["id2label"] == {"0": "negative", "1": "positive"}
    assert not {"_name_or_path", "transformers_version"} & set(config)


@pytest.mark.slow
@pytest.mark.parametrize("side", ["left", "right"])
def test_a_bundle_reads_the_end_of_a_long_text_that_the_model_was_trained_on(tmp_path, side):
    made = bundles.classifier(tmp_path / "made", tokens={"truncation_side": side})
    texts = [" ".join(GOOD * 20 + BAD * 20)]
    tokenizer = checkpoint.load_tokenizer(tmp_path / "made" / "checkpoint")
    (trained,) = TASK.encoder.encode(tokenizer, Split("train", "t", "0" * 64, texts, None, [0]))
    (read,) = BundleModel(made).encode(texts)
    assert read["input_ids"].tolist() == [trained["input_ids"]]


def test_a_task_of_another_package_answers_as_the_one_that_it_is_derived_from():
    topics = replace(MULTI_LABEL_CLASSIFICATION, name="topics")
    stars = replace(topics, name="stars", scorer=SearchScorer())
    assert stars.presenter.answers_like == "multi-label-classification"
    assert Presenter.answers_like == TASK.presenter.answers_like == "text-classification"


@pytest.mark.parametrize(
    ("task", "pairs", "tag"),
    [
        ("text-classification", False, "text-classification"),
        ("text-classification", True, "text-classification"),
        ("token-classification", False, "token-classification"),
        ("sentence-embeddings", False, "sentence-similarity"),
        ("regression", False, "text-classification"),
        ("regression", True, "text-ranking"),
        ("a task of a plug-in", False, "text-classification"),
    ],
)
def test_a_task_has_the_hub_s_name(task, pairs, tag):
    assert files.hub_tag(task, pairs) == tag


@pytest.mark.parametrize("task", files.TASKS)
@pytest.mark.parametrize("provider", ["cpu", "openvino"])
def test_the_program_of_a_bundle_is_copied_as_it_is(tmp_path, task, provider):
    files.write_program(tmp_path, task, provider)
    session = "openvino" if provider == "openvino" else "onnxruntime"
    sources = {
        "predict.py": "predict.py",
        "predict_session.py": f"session_{session}.py",
        "predict_task.py": f"task_{task.replace('-', '_')}.py",
    }
    assert {path.name for path in tmp_path.iterdir()} == set(sources)
    folder = Path(files.__file__).parent
    for name, source in sources.items():
        assert (tmp_path / name).read_bytes() == (folder / source).read_bytes()
        code = (tmp_path / name).read_text()
        assert "exporters" not in code
        assert "onnxruntime" not in code.partition('"""\n')[2] or session == "onnxruntime"


def test_the_tasks_that_have_a_file_are_those_of_the_product():
    ours = {p.name for p in entry_points(group="rarefy.tasks") if p.module.startswith("rarefy.")}
    assert set(files.TASKS) == ours


@pytest.mark.slow
def test_thresholds_of_the_model_that_is_exported_are_left_out(tmp_path):
    """They were chosen by other probabilities; the bundle would leave rows undecided unasked."""
    write_model(tmp_path / "model", "bert", "AutoModelForSequenceClassification", TASK.labels)
    told = {"thresholds": dict.fromkeys(TASK.labels, 0.99)}
    bundles.change(tmp_path / "model", "config.json", lambda values: values.update(told))
    output = tmp_path / "bundle"
    output.mkdir()
    build(tmp_path / "model", output, task=TASK, split=bundles.SPLIT, form="deploy")
    assert "thresholds" not in json.loads((output / "config.json").read_text())
