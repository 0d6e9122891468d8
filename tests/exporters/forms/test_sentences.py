"""The files of sentence-transformers say what our own reader of them finds in others' folders."""

from __future__ import annotations

import json

import pytest

from rarefy.exporters.forms import hub
from rarefy.pipeline.model import pooling
from rarefy.pipeline.model.pooling import Pooling
from rarefy.pipeline.terms.errors import ModelError
from tests.exporters.forms import bundles


@pytest.mark.parametrize("mode", ["mean", "cls", "last"])
@pytest.mark.parametrize("normalize", [True, False])
def test_what_is_written_is_read_back(embedder, tmp_path, mode, normalize):
    how = {"mode": mode, "normalize": normalize}
    bundles.change(embedder, "config.json", lambda values: values.update(rarefy_pooling=how))
    hub.write_modules(bundles.read(embedder), tmp_path)
    layout = pooling.layout(tmp_path)
    assert layout.pooling == Pooling(mode, normalize)
    assert (layout.transformer, layout.max_length) == (tmp_path, 32)
    values = json.loads((tmp_path / "1_Pooling/config.json").read_text())
    assert values["word_embedding_dimension"] == 32
    assert sum(value is True for key, value in values.items() if "mode" in key) == 1


def test_a_config_without_a_pooling_is_an_error(embedder, tmp_path):
    bundles.change(embedder, "config.json", lambda values: values.pop("rarefy_pooling"))
    with pytest.raises(ModelError, match="rarefy_pooling"):
        hub.write_modules(bundles.read(embedder), tmp_path)
