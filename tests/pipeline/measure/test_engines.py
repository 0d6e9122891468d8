"""A candidate runs on its target's provider, and the others as they are deployed."""

from __future__ import annotations

import json

import numpy as np
import pytest

from rarefy.pipeline.measure import engines
from rarefy.pipeline.measure.latency import worker as latency_worker
from tests.pipeline.measure import bundles


@pytest.fixture
def made(tmp_path):
    """A directory for each name of a provider in session_options.json; None: none is named."""
    directories = {}
    for name in ("CPUExecutionProvider", "OpenVINO", "CUDAExecutionProvider", None):
        options = {"graph_optimization_level": "basic"}
        if name is not None:
            options["providers"] = [name]
        directories[str(name)] = tmp_path / str(name)
        directories[str(name)].mkdir()
        (directories[str(name)] / "session_options.json").write_text(json.dumps(options))
    return directories


@pytest.mark.parametrize("provider", ["cpu", "openvino"])
def test_on_a_cpu_each_runs_on_what_it_was_made_for(made, provider):
    found = engines.providers(made | {"candidate": made["CPUExecutionProvider"]}, provider)
    assert found.pop("candidate") == provider
    assert found.pop("OpenVINO") == "openvino"
    assert set(found.values()) == {"cpu"}


@pytest.mark.parametrize("provider", ["cuda", "tensorrt"])
def test_on_a_gpu_all_run_on_the_targets_provider(made, provider):
    assert set(engines.providers(made, provider).values()) == {provider}


@pytest.mark.parametrize("alike", [False, True])
def test_bundles_are_timed_as_they_are_deployed_or_all_alike(tmp_path, alike):
    pytest.importorskip("openvino")
    made = {name: bundles.make(tmp_path / name) for name in ("own", "other")}
    path = made["own"] / "session_options.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"providers": ["OpenVINO"]}))
    request = {
        "bundles": {name: str(place) for name, place in made.items()},
        "twice": "other",
        "provider": "cpu",
        "alike": alike,
        "threads": 1,
    }
    timed = latency_worker.load(request, np.random.default_rng(0))
    found = {each.name: each.model.provider for each in timed}
    assert found == {
        "own": "cpu" if alike else "openvino",
        "other": "cpu",
        latency_worker.AGAIN: "cpu",
    }
