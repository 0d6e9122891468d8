"""A stage whose code changes gets another version, or somebody said why its output is the same.

Otherwise, results that older code made would be found in everybody's store as if they were new.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import fingerprints
from tests.fingerprints import Entry, Record, compare, digest, update


def test_changed_code_of_a_stage_has_a_new_version_or_a_reason() -> None:
    message = compare(Record.read(), fingerprints.entries()).message
    assert not message, message


def test_what_is_left_out_exists() -> None:
    missing = [name for name in fingerprints.OUTSIDE if fingerprints._file(name) is None]
    assert missing == []


def test_a_process_that_is_started_by_its_name_counts() -> None:
    measured = fingerprints.closure(["stages.validate"])
    assert {"pipeline.measure.latency_worker", "exporters.passes.mask"} <= measured


def test_a_file_that_is_copied_counts() -> None:
    assert "exporters.bundle.predict" in fingerprints.closure(["stages.export"])


def test_the_code_of_every_task_counts() -> None:
    for name, entry in fingerprints.entries().items():
        if name.startswith("task "):
            named = fingerprints.closure(entry.modules)
            assert {"pipeline.run.decisions", "pipeline.stage.tasks.task"} <= named
    tagging = fingerprints.entries()["task token-classification"].modules
    assert "pipeline.stage.scoring.entities" in fingerprints.closure(tagging)
    assert "exporters.bundle.task_token_classification" in tagging


CODE = '''
"""Do it."""
import os

def half(rows: list[int], share: float = 0.5) -> list[int]:
    """Return half."""
    if share > 1:
        raise ValueError(f"{share} is too much")
    return rows[: int(len(rows) * share)]

class Stage:
    rate: float = Field(1e-3, gt=0, description="how fast")
'''


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("Do it.", "Do it well."),
        ("    if share", "    # too much\n    if share"),
        ("rows: list[int], share: float", "rows: Sequence[int],\n    share: float"),
        ("is too much", "must be 1 or less"),
        ("how fast", "speed"),
        ("import os", "import os\nimport re\nfrom pipeline.terms.errors import ModelError"),
    ],
)
def test_what_cannot_shape_an_output_is_no_change(old: str, new: str) -> None:
    assert old in CODE
    assert digest(CODE.replace(old, new)) == digest(CODE)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("float = 0.5", "float = 0.6"),
        ("1e-3", "1e-4"),
        ("rate: float", "rate: int"),
        ("share > 1", "share >= 1"),
        ("len(rows) * share", "share * len(rows)"),
        ("import os", "import numpy"),
        ("raise ValueError", "raise TypeError"),
    ],
)
def test_what_may_shape_an_output_is_a_change(old: str, new: str) -> None:
    assert old in CODE
    assert digest(CODE.replace(old, new)) != digest(CODE)


@pytest.fixture
def code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Two stages that share a module, recorded."""
    stages = tmp_path / "stages"
    stages.mkdir()
    for name in ("one", "two"):
        (stages / f"{name}.py").write_text("def run():\n    from stages import shared\n")
    (stages / "shared.py").write_text("X = 1\n")
    monkeypatch.setattr(fingerprints, "ROOT", tmp_path)
    monkeypatch.setattr(fingerprints, "RECORD", tmp_path / "fingerprints.json")
    monkeypatch.setattr(fingerprints, "entries", lambda: now())
    fingerprints._uses.cache_clear()
    record = Record()
    update(record, now())
    record.write()
    yield stages
    fingerprints._uses.cache_clear()


def now(one: int = 1, two: int = 1) -> dict[str, Entry]:
    return {"one": Entry(one, ("stages.one",)), "two": Entry(two, ("stages.two",))}


def test_a_change_of_a_shared_module_asks_for_each_stage_that_uses_it(code: Path) -> None:
    assert compare(Record.read(), now()).message == ""
    (code / "shared.py").write_text("X = 2\n")
    message = compare(Record.read(), now()).message
    assert message.startswith("stages.shared changed, and these may now give another output")
    assert "old version: one, two." in message
    assert "old version: two." in compare(Record.read(), now(one=2)).message


def test_a_template_that_a_module_names_counts(code: Path) -> None:
    (code / "one.py").write_text("CARD = 'card.md.j2'\n")
    (code / "card.md.j2").write_text("# Model\n")
    record = Record()
    update(record, now())
    assert compare(record, now()).message == ""
    (code / "card.md.j2").write_text("# A model\n")
    assert compare(record, now()).same == ["one"]


def test_a_raised_version_is_recorded(code: Path) -> None:
    (code / "one.py").write_text("def run():\n    return 1\n")
    record = Record.read()
    assert "run `python -m tests.fingerprints` to record" in compare(record, now(one=2)).message
    update(record, now(one=2))
    assert record.versions == {"one": 2, "two": 1}
    assert compare(record, now(one=2)).message == ""
    assert compare(record, now(one=1)).raised == ["one"], "and not taken back unseen"


def test_the_command_wants_a_version_or_a_reason(
    code: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (code / "shared.py").write_text("X = 3 - 2\n")
    monkeypatch.setattr(sys, "argv", ["fingerprints"])
    with pytest.raises(SystemExit, match="raise `version` in each stage"):
        fingerprints.main()
    monkeypatch.setattr(sys, "argv", ["fingerprints", "--neutral", "3 - 2 is 1"])
    fingerprints.main()
    assert "Neutral: 3 - 2 is 1\n" in capsys.readouterr().out
    assert compare(Record.read(), now()).message == ""
