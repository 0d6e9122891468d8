"""A bundle answers on the provider that it was exported for, unless another is asked for."""

from __future__ import annotations

import json

import pytest

from rarefy.pipeline.model.runtime import bundle_files, openvino
from rarefy.pipeline.model.runtime.providers import PROVIDERS, available
from rarefy.pipeline.terms.errors import ProviderError


def options(directory, **values):
    stored = {"graph_optimization_level": "basic"} | values
    (directory / "session_options.json").write_text(json.dumps(stored))
    return directory


@pytest.mark.parametrize("provider", PROVIDERS)
def test_it_is_the_one_in_the_session_options(tmp_path, provider):
    assert bundle_files.provider_of(options(tmp_path, providers=[PROVIDERS[provider]])) == provider


@pytest.mark.parametrize("values", [{}, {"providers": []}, {"providers": ["OfAnotherTool"]}])
def test_a_bundle_that_names_none_is_for_the_cpu(tmp_path, values):
    assert bundle_files.provider_of(options(tmp_path, **values)) == "cpu"


def test_one_that_is_asked_for_comes_first(tmp_path):
    made = options(tmp_path, providers=["OpenVINO"])
    assert bundle_files.chosen_provider(made, "cpu") == "cpu"
    assert (
        bundle_files.chosen_provider(options(tmp_path, providers=["CPUExecutionProvider"]), None)
        == "cpu"
    )


def test_one_that_is_missing_here_is_not_replaced_in_silence(tmp_path, monkeypatch):
    monkeypatch.setattr(openvino, "installed", lambda: False)
    made = options(tmp_path, providers=["OpenVINO"])
    with pytest.raises(ProviderError, match=r"not installed; .*choose the provider cpu"):
        bundle_files.chosen_provider(made, None)
    if PROVIDERS["cuda"] not in available():
        made = options(tmp_path, providers=[PROVIDERS["cuda"]])
        with pytest.raises(ProviderError, match=r"'cuda' is not active.*choose the provider cpu"):
            bundle_files.chosen_provider(made, None)
