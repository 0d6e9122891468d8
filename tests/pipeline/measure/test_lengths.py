import json

import pytest

from pipeline.measure import lengths
from pipeline.model.runtime import BundleModel
from tests.pipeline.measure import bundles


def test_a_pair_is_as_long_as_both_its_texts():
    assert lengths.character_lengths(["a", "four"], None) == [1, 4]
    assert lengths.character_lengths(["a", "four"], ["longer", ""]) == [7, 4]


@pytest.mark.parametrize(
    ("reads", "counted"),
    [({}, [3, 12, 12]), ({"windows": True}, [3, 12, 90]), ({"words": True}, [3, 12, 90])],
)
def test_a_text_that_is_read_in_windows_is_as_long_as_it_is(tmp_path, reads, counted):
    there = bundles.make(tmp_path / "bundle")
    signature = json.loads((there / "signature.json").read_text()) | {"max_length": 12} | reads
    (there / "signature.json").write_text(json.dumps(signature))
    (there / "tokenizer_config.json").write_text("{}")
    texts = [" ".join(bundles.WORDS[:1] * count) for count in (3, 12, 90)]
    assert lengths.token_lengths(BundleModel(there), texts, None) == counted
