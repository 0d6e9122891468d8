"""A metric ``module:function`` is beside the recipe or installed; its code has a digest."""

from __future__ import annotations

import pytest

from rarefy.pipeline.stage import own_metrics
from rarefy.pipeline.terms.errors import RecipeError

SOURCE = "from helper import FINE\n\ndef cost(predictions, labels):\n    return FINE\n"


def write(folder, source=SOURCE, fine=1.0):
    (folder / "helper.py").write_text(f"FINE = {fine}\n")
    (folder / "my_metrics.py").write_text(source)


def test_the_code_is_that_of_the_file_and_of_what_it_imports(tmp_path):
    write(tmp_path)
    first = own_metrics.find("my_metrics:cost", tmp_path)
    assert first.function(None, None) == 1.0
    assert own_metrics.find("my_metrics:cost", tmp_path) == first
    write(tmp_path, fine=2.0)
    second = own_metrics.find("my_metrics:cost", tmp_path)
    assert second.function(None, None) == 2.0
    assert second.code != first.code
    write(tmp_path, SOURCE + "\n", fine=2.0)
    assert own_metrics.find("my_metrics:cost", tmp_path).code != second.code


@pytest.mark.parametrize(
    ("source", "name", "said"),
    [
        (SOURCE, "my_metric:cost", "cannot be loaded: ModuleNotFoundError: No module named"),
        (SOURCE, "my_metrics:price", "cannot be loaded: AttributeError"),
        (SOURCE, "my_metrics:FINE", "is not a function metric(predictions, labels)"),
        ("import sys\nsys.exit(1)\n", "my_metrics:cost", "cannot be loaded: SystemExit: 1"),
        ("def cost(:\n", "my_metrics:cost", "cannot be loaded: SyntaxError"),
        ("class cost: ...\n", "my_metrics:cost", "is not a function metric(predictions, labels)"),
    ],
)
def test_what_is_no_function_is_an_error_of_one_line(tmp_path, source, name, said):
    write(tmp_path, source)
    with pytest.raises(RecipeError) as error:
        own_metrics.find(name, tmp_path)
    assert str(error.value).startswith(f"metric {name} {said}")
    assert "\n" not in str(error.value)
