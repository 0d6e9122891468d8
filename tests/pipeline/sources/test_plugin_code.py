"""A stage's code is its own file and all that this imports, but no library."""

from __future__ import annotations

import importlib
import sys
from importlib.machinery import EXTENSION_SUFFIXES, ExtensionFileLoader, SourceFileLoader
from importlib.util import find_spec, module_from_spec, spec_from_loader
from pathlib import Path

import pytest

from rarefy.pipeline.sources import plugin_code
from rarefy.pipeline.stage import discovery
from rarefy.pipeline.terms.digests import file_sha256
from rarefy.pipeline.terms.errors import RarefyError, RecipeError
from tests.pipeline.run.chains import flip

STAGE = """
from typing import ClassVar
from rarefy.pipeline.stage import Stage

class Mine(Stage):
    name: ClassVar[str] = "mine"
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A recipe's folder, whose modules are forgotten afterwards."""
    monkeypatch.setattr(sys, "path", [*sys.path])
    yield tmp_path
    for name, module in list(sys.modules.items()):
        if str(tmp_path) in str(getattr(module, "__spec__", None)):
            del sys.modules[name]


def write(folder: Path, **files: str) -> None:
    for name, text in files.items():
        path = folder / f"{name}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def helpers(folder: Path, imports: str) -> list[str]:
    """Return the names of the modules that a stage's fingerprint covers, with such imports."""
    write(folder, mine=f"{imports}\n{STAGE}")
    found = discovery.source_digests(discovery.find("mine:Mine", folder))
    assert found[0] == file_sha256(folder / "mine.py")
    return [line.partition(" ")[0] for line in found[1:]]


@pytest.mark.parametrize(
    ("imports", "names"),
    [
        ("import words", ["words"]),
        ("from words import WORD", ["words"]),
        ("import parts.one", ["parts", "parts.deep.two", "parts.one"]),
        ("from parts import one", ["parts", "parts.deep.two", "parts.one"]),
        ("from parts.deep import two as other", ["parts", "parts.deep.two"]),
        ("def later():\n    import words", ["words"]),
        ("try:\n    import not_there\nexcept ImportError:\n    import words", ["words"]),
        ("def later():\n    import json, torch\n    import rarefy.pipeline.model.checkpoint", []),
    ],
)
def test_imports_are_followed_wherever_they_stand(folder, imports, names):
    write(
        folder,
        **{
            "words": "import words\nWORD = 1\n",
            "parts/__init__": "NAME = 'parts'\n",
            "parts/one": "from .deep import two\n",
            "parts/deep/two": "import os\n",
        },
    )
    assert helpers(folder, imports) == names


def test_a_module_that_is_imported_by_another_reference_counts_once(folder):
    write(folder, base=STAGE, mine="from base import Mine as Base\nclass Mine(Base):\n    pass\n")
    digests = discovery.source_digests(discovery.find("mine:Mine", folder))
    assert sorted(digests) == sorted(file_sha256(folder / f"{n}.py") for n in ("mine", "base"))


def test_an_installed_plugin_is_known_by_its_own_package_only(folder):
    installed = folder / "site-packages"
    write(
        installed,
        **{
            "plugin/__init__": "",
            "plugin/stage": f"from plugin import table\nimport library\n{STAGE}",
            "plugin/table": "ROWS = 1\n",
            "library": "X = 1\n",
        },
    )
    sys.path.append(str(installed))
    importlib.invalidate_caches()
    found = discovery.source_digests(discovery.find("plugin.stage:Mine", folder))
    assert [line.partition(" ")[0] for line in found[1:]] == ["plugin.table"]


def test_the_bytes_that_were_loaded_count_not_those_on_the_disk(folder):
    write(folder, words="WORD = 1\n", mine=f"import words\n{STAGE}")
    kind = discovery.find("mine:Mine", folder)
    for name, old, new in (("mine", b'"mine"', b'"MINE"'), ("words", b"1", b"2")):
        flip(folder / f"{name}.py", old, new)
        with pytest.raises(RarefyError, match=rf"{name}\.py: the file has changed since it was l"):
            discovery.source_digests(kind)
        flip(folder / f"{name}.py", new, old)
    assert discovery.source_digests(kind)[0] == file_sha256(folder / "mine.py")


def test_a_file_that_is_gone_says_so(folder):
    write(folder, mine=STAGE)
    kind = discovery.find("mine:Mine", folder)
    (folder / "mine.py").unlink()
    with pytest.raises(RarefyError, match=r"mine\.py: the file has changed since it was loaded"):
        discovery.source_digests(kind)


def test_a_file_that_changes_while_it_is_loaded_is_refused(folder):
    edit = "from pathlib import Path\nwith Path(__file__).open('a') as file:\n    file.write('#')\n"
    write(folder, mine=edit + STAGE)
    with pytest.raises(RecipeError, match=r"mine\.py: the file has changed since it was loaded"):
        discovery.find("mine:Mine", folder)


def test_a_stage_that_python_imported_is_known_from_then_on(folder, monkeypatch):
    """In a notebook, the user's own import loads it, and an edit needs a reload."""
    write(folder, imported_stage=STAGE)
    loader = SourceFileLoader("imported_stage", str(folder / "imported_stage.py"))
    module = module_from_spec(spec_from_loader("imported_stage", loader))
    monkeypatch.setitem(sys.modules, "imported_stage", module)
    loader.exec_module(module)
    first = discovery.source_digests(module.Mine)
    write(folder, imported_stage=STAGE + "\nX = 1\n")
    with pytest.raises(RarefyError, match="reload the module"):
        discovery.source_digests(module.Mine)
    module.__spec__ = spec_from_loader("imported_stage", loader)  # as importlib.reload does
    loader.exec_module(module)
    assert discovery.source_digests(module.Mine) != first


def test_our_own_classes_have_no_code():
    from rarefy.stages.finetune import Finetune

    assert plugin_code.code_of(Finetune) == plugin_code.Code(None, {})


def test_an_environment_below_the_recipe_s_folder_stays_as_it_is(folder):
    """Its libraries keep their bytecode cache; the user's own modules have none."""
    installed = folder / ".venv/lib/python3/site-packages"
    write(installed, library_of_mine="X = 1\n")
    write(folder, slow_of_mine="import library_of_mine\n")
    (folder / f"fast_of_mine{EXTENSION_SUFFIXES[0]}").touch()  # compiled, and the user's own
    sys.path.append(str(installed))
    plugin_code.focus(folder)
    names = ("library_of_mine", "slow_of_mine", "fast_of_mine")
    loaders = [type(find_spec(name).loader) for name in names]
    assert loaders[1:] == [plugin_code.Loader, ExtensionFileLoader]
    # Another library may have hooked a loader of its own before.
    assert issubclass(loaders[0], SourceFileLoader)
    assert loaders[0] is not plugin_code.Loader
