"""A stage ``module:Class`` is beside the recipe or installed; its bytes are fingerprinted."""

from __future__ import annotations

from pathlib import Path

import pytest

from rarefy.pipeline.stage import discovery
from rarefy.pipeline.terms.digests import file_sha256
from rarefy.pipeline.terms.errors import RecipeError
from rarefy.stages.finetune import Finetune

SOURCE = """\
from __future__ import annotations
from typing import ClassVar
from rarefy.pipeline.stage import Stage

class Mine(Stage):
    name: ClassVar[str] = "mine"
    rate: float = {rate}
"""


def write(folder: Path, name: str = "mystage", rate: float = 0.1) -> Path:
    folder.mkdir(exist_ok=True)
    path = folder / f"{name}.py"
    path.write_text(SOURCE.format(rate=rate))
    return path


def test_a_file_beside_the_recipe_is_found(tmp_path):
    file = write(tmp_path)
    found = discovery.find("mystage:Mine", tmp_path)
    assert found().rate == 0.1
    assert discovery.source_digests(found) == [file_sha256(file)]
    assert discovery.find("mystage:Mine", tmp_path) is found


def test_a_switch_beside_the_policy_is_an_error_of_one_line(tmp_path):
    file = write(tmp_path)
    file.write_text(file.read_text() + "    aside: ClassVar[bool] = True\n")
    with pytest.raises(RecipeError) as error:
        discovery.find("mystage:Mine", tmp_path)
    assert str(error.value) == (
        "stage mystage:Mine cannot be loaded: TypeError: Mine.aside is never read; write "
        "`policy: ClassVar[Policy] = Policy(aside=…)`"
    )


def test_two_recipes_files_of_the_same_name_stay_apart(tmp_path):
    write(tmp_path / "a", rate=0.1)
    write(tmp_path / "b", rate=0.2)
    assert discovery.find("mystage:Mine", tmp_path / "a")().rate == 0.1
    assert discovery.find("mystage:Mine", tmp_path / "b")().rate == 0.2


def test_an_edit_within_the_same_second_and_of_the_same_size_counts(tmp_path):
    write(tmp_path, rate=0.1)
    assert discovery.find("mystage:Mine", tmp_path)().rate == 0.1
    write(tmp_path, rate=0.2)
    assert discovery.find("mystage:Mine", tmp_path)().rate == 0.2


def test_a_file_named_like_a_library_does_not_hide_it(tmp_path):
    import json

    write(tmp_path, name="json")
    assert discovery.find("json:Mine", tmp_path).name == "mine"
    import json as again

    assert again is json


def test_a_stage_may_import_its_neighbours(tmp_path):
    file = write(tmp_path, name="withneighbour")
    (tmp_path / "rarefy_test_neighbour.py").write_text("RATE = 0.7\n")
    text = file.read_text().replace("= 0.1", "= rarefy_test_neighbour.RATE")
    file.write_text("import rarefy_test_neighbour\n".join(text.partition("from typing")[::2]))
    file.write_text(text.replace("from typing", "import rarefy_test_neighbour\nfrom typing", 1))
    assert discovery.find("withneighbour:Mine", tmp_path)().rate == 0.7


@pytest.mark.parametrize(
    ("text", "reference", "message"),
    [
        ("def broken(:\n", "bad:Mine", "stage bad:Mine cannot be loaded: SyntaxError"),
        ("x = 1\n", "bad:Mine", "cannot be loaded: AttributeError"),
        ("Mine = dict\n", "bad:Mine", "is not a subclass of rarefy.pipeline.stage.Stage"),
        (SOURCE.format(rate=1).replace("    name", "    nme"), "bad:Mine", "has no name"),
        ("", "nowhere_at_all:Mine", "ModuleNotFoundError: No module named 'nowhere_at_all'"),
    ],
)
def test_a_stage_that_cannot_be_had_says_why(tmp_path, text, reference, message):
    (tmp_path / "bad.py").write_text(text)
    with pytest.raises(RecipeError) as caught:
        discovery.find(reference, tmp_path)
    assert message in str(caught.value)


def test_our_own_stages_have_versions_and_no_source():
    assert discovery.source_digests(Finetune) == []

    class Tuned(Finetune):
        name = "tuned"

    own, package = discovery.source_digests(Tuned)  # tests/__init__.py has code too
    assert (own, package.split()[0]) == (file_sha256(Path(__file__)), "tests")


def test_a_parameter_is_finite_known_and_frozen(tmp_path):
    write(tmp_path)
    kind = discovery.find("mystage:Mine", tmp_path)
    for wrong in ({"rate": float("nan")}, {"rate": float("inf")}, {"rat": 1.0}):
        with pytest.raises(ValueError):
            kind(**wrong)
    with pytest.raises(ValueError):
        kind().rate = 2.0


def test_what_a_module_prints_is_no_part_of_an_answer(tmp_path, capsys):
    (tmp_path / "loud.py").write_text(SOURCE.format(rate=0.1) + "print('loaded')\n")
    discovery.find("loud:Mine", tmp_path)
    assert capsys.readouterr() == ("", "loaded\n")
