"""A bundle for OpenVINO answers elsewhere, with OpenVINO and without ONNX Runtime."""

from __future__ import annotations

import importlib.util
import json
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from rarefy.exporters import parity
from rarefy.exporters.build import build
from rarefy.pipeline.model.runtime.bundle_model import BundleModel
from rarefy.pipeline.release.predict import Bundle
from tests.exporters.deployments import (
    SPLIT,
    TASK,
    TEXTS,
    answers_its_sample_elsewhere,
    copy_with,
    plan_for,
)

pytestmark = pytest.mark.slow
NEEDED = ("openvino", "tokenizers", "numpy", "numpy.libs")
"""Everything that such a bundle may import, with transitive imports."""


@pytest.fixture(scope="module", params=["fp32", "int8"])
def made(minilm, tmp_path_factory, request):
    """A bundle for an openvino target, and what its export found."""
    pytest.importorskip("openvino")
    folder, source = tmp_path_factory.mktemp("openvino"), minilm
    if request.param == "int8":
        source = copy_with(minilm, plan_for(minilm, "static"), folder / "checkpoint")
    (folder / "bundle").mkdir()
    options = {"form": "deploy", "target_provider": "openvino"}
    info = build(source, folder / "bundle", task=TASK, split=SPLIT, **options)
    assert info.precision == request.param
    return info, folder / "bundle"


def test_a_copied_bundle_answers_its_sample_with_nothing_but_what_it_needs(made, tmp_path):
    answers_its_sample_elsewhere(made[1], NEEDED, tmp_path)


def test_the_bundle_names_openvino_and_onnx_runtime_answers_alike(made):
    info, output = made
    options = json.loads((output / "session_options.json").read_text())
    assert options["providers"] == ["OpenVINO"]
    assert "pip install 'openvino>=" in (output / "README.md").read_text()
    ours, theirs = BundleModel(output, provider="openvino"), BundleModel(output)
    bound = 1e-4 if info.precision == ours.precision == "fp32" else 0.05
    if info.precision == "int8" and ours.precision == "bf16":
        bound = parity.TOLERANCE["bf16"]  # what the export allows; integers follow the floats
    for feed in ours.encode(TEXTS):
        np.testing.assert_allclose(ours.run(feed), theirs.run(feed), atol=bound)


def test_rows_that_share_a_batch_are_answered_as_they_are_alone(made):
    alone = TASK.head.predictions(BundleModel(made[1], provider="openvino").units(TEXTS))
    asked = Bundle(made[1], provider="openvino").predict(TEXTS)  # each text twice, so in pairs
    together = [[*answer.probabilities.values()] for answer in asked]
    np.testing.assert_allclose(together, alone, atol=1e-2)


def test_threads_get_their_own_answers(made):
    path = made[1] / "predict.py"
    spec = importlib.util.spec_from_file_location("predict", path)
    predict = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(predict)
    session = predict.Model().session
    feeds = BundleModel(made[1], provider="openvino").encode(TEXTS) * 20
    alone = [session.run(None, feed)[0] for feed in feeds]
    with ThreadPoolExecutor(4) as threads:
        together = list(threads.map(lambda feed: session.run(None, feed)[0], feeds))
    for one, other in zip(alone, together, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5)
