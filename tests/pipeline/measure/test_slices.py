"""Slices: find the rows where a candidate loses, without calling chance a loss."""

import json

import numpy as np
import pytest

from pipeline.measure import slices
from pipeline.measure.measurements import Measurements, ModelMeasurement
from pipeline.stage.split import Split
from pipeline.stage.tasks.multi_label_classification import MULTI_LABEL_CLASSIFICATION
from pipeline.stage.tasks.regression import REGRESSION
from pipeline.stage.tasks.text_classification import TEXT_CLASSIFICATION
from pipeline.terms.errors import DataError
from tests.conftest import labelled_rows
from tests.pipeline.measure import bundles

ROWS = 1000
DATA = {"train": "train.jsonl", "eval": "eval.jsonl"}


def _model(right):
    """The truth is always 0; a row is answered 0 where ``right``."""
    found = np.full((len(right), 2), 0.1)
    found[np.arange(len(right)), np.where(right, 0, 1)] = 0.9
    return ModelMeasurement(digest="d", size=1, answers=found.tolist())


def _measurements(ours, theirs, **slicings):
    return Measurements(
        machine={},
        task="text-classification",
        labels=["a", "b"],
        truth=[0] * len(ours),
        slices={name: list(map(str, parts)) for name, parts in slicings.items()},
        models={"candidate": _model(ours), "finetune": _model(theirs)},
        latency={},
    )


def test_holm_is_the_example_of_the_textbook():
    """Wright 1992, "Adjusted p-values for simultaneous inference"; scipy has no Holm."""
    assert slices.holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert slices.holm([0.9, 0.8]) == [1.0, 1.0]
    assert slices.holm([]) == []


def test_the_one_slice_that_loses_is_found_and_comes_first():
    rows = np.arange(ROWS)
    theirs = rows % 10 != 0
    ours = theirs & ~((rows % 5 == 3) & (rows % 3 == 0))  # a third of part 3 is lost
    found = slices.compare(_measurements(ours, theirs, fifth=rows % 5), "finetune")
    assert (found[0].part, found[0].worse) == ("3", True)
    assert [result.worse for result in found[1:]] == [False] * 4
    worst = found[0]
    assert worst.rows == 200
    assert worst.difference.value == pytest.approx(
        worst.candidate.value - worst.reference.value, abs=1e-12
    )
    assert worst.difference.low < worst.difference.value < worst.difference.high < 0
    assert worst.corrected_p == pytest.approx(5 * worst.p)


def test_a_slice_that_wins_is_not_worse():
    rows = np.arange(ROWS)
    theirs = rows % 2 == 0
    ours = theirs | (rows < 200)
    found = slices.compare(_measurements(ours, theirs, head=rows < 200), "finetune")
    assert found[-1].corrected_p < 1e-9
    assert not any(result.worse for result in found)


@pytest.mark.long
def test_equal_models_are_rarely_called_worse_anywhere():
    """24 slices, 120 times: without correction, a third of the families would have a finding."""
    generator = np.random.default_rng(0)
    alarms = 0
    for _ in range(120):
        kind = generator.choice(3, ROWS, p=[0.8, 0.1, 0.1])
        parts = {f"s{at}": generator.integers(0, 4, ROWS) for at in range(6)}
        measured = _measurements(kind < 2, kind != 1, **parts)
        alarms += any(result.worse for result in slices.compare(measured, "finetune"))
    assert alarms / 120 < 0.05


def test_a_slicing_without_parts_says_nothing():
    right = np.arange(100) > 9
    assert slices.compare(_measurements(right, right, all=["x"] * 100), "finetune") == []


def test_lengths_fall_into_quartiles():
    found = slices.by_length([4, 5, 6, 7, 8, 9, 10, 30])
    assert found[::2] == ["4–5 tokens", "6–7 tokens", "8–9 tokens", "10–30 tokens"]
    assert found[::2] == found[1::2]
    assert slices.by_length([3] * 50) == ["3 tokens"] * 50


def test_equal_lengths_are_never_parted():
    lengths = np.random.default_rng(0).integers(3, 9, 500).tolist()
    parts = slices.by_length(lengths)
    assert len(set(zip(lengths, parts, strict=True))) == len(set(lengths))


def test_a_category_named_other_is_none_of_the_rare_values():
    found = slices.by_value(["other"] * 30 + ["news"] * 40 + [f"rare {at}" for at in range(25)])
    assert {part: found.count(part) for part in found} == {"other": 30, "news": 40, "(rare)": 25}


def test_rare_values_are_pooled():
    assert slices.by_value(["web"] * 20 + ["book"] * 19) == ["web"] * 20 + ["(rare)"] * 19
    many = [f"v{at:02}" for at in range(30) for _ in range(60 - at)]
    found = slices.by_value(many)
    assert set(found) == {f"v{at:02}" for at in range(19)} | {"(rare)"}


def test_a_column_named_as_a_slicing_of_ours_is_kept_apart():
    split = Split(
        "eval", "eval.jsonl", "0", ["a"] * 40, None, [0, 1] * 20, {"length": ["short"] * 40}
    )
    found = slices.of(split, TEXT_CLASSIFICATION.bind(("bad", "good"), 8, ("text",)), [5] * 40)
    assert found["length"] == ["5 tokens"] * 40
    assert found["column length"] == ["short"] * 40
    assert found["label"][:2] == ["bad", "good"]


def test_a_new_slice_trains_nothing_anew(workshop):
    workshop.write_rows("eval.jsonl", [row | {"source": "web"} for row in labelled_rows(12, 1)])
    workshop.run("quick:Count")
    run = workshop.open("quick:Count", data=DATA | {"slices": ["source"]})
    assert [step.cached for step in run.plan.steps()] == [True, True]
    assert run.plan.splits["eval"].columns["source"] == ["web"] * 12


def test_a_slice_without_its_column_is_refused_before_anything_runs(workshop):
    with pytest.raises(DataError, match="no column 'source'; the file has text, label"):
        workshop.open("quick:Count", data=DATA | {"slices": ["source"]}).plan.steps()
    assert workshop.ran() == []


def test_queries_are_in_the_part_of_their_first_row_and_have_no_length():
    groups = ["b", "a", "b"] * 20
    columns = {"kind": ["x", "y", "z"] * 20}
    split = Split("eval", "e", "0", groups, groups, [1] * 60, columns, groups)
    found = slices.of(split, REGRESSION.bind((), 8, ("q", "p")), [3] * 60)
    assert found == {"kind": ["(rare)", "(rare)"]}  # two blocks: too few for parts of their own


def test_parts_by_target_have_the_task_s_own_name():
    scored = Split("eval", "e", "0", ["a"] * 4, None, [1.0, 2.0, 3.0, 4.0])
    assert list(slices.of(scored, REGRESSION.bind((), 8, ("t",)), [3] * 4)) == [
        "length",
        "true score",
    ]
    several = Split("eval", "e", "0", ["a"] * 2, None, [[0, 1], [1, 1]])
    task = MULTI_LABEL_CLASSIFICATION.bind(("x", "y"), 8, ("t",))
    assert list(slices.of(several, task, [3] * 2)) == ["length", "number of labels"]


@pytest.mark.parametrize(("read", "expected"), [(True, [3, 4]), (False, [2, 2])])
def test_texts_that_are_read_one_by_one_are_counted_so(tmp_path, read, expected):
    there = bundles.make(tmp_path / "bundle")
    signature = json.loads((there / "signature.json").read_text())
    (there / "signature.json").write_text(json.dumps(signature | {"pairs": read}))
    texts, pairs = ["w1", "w1 w2"], ["w1 w2", "w3 w4"]
    rows = Split("eval", "eval.jsonl", "0" * 64, texts, pairs, [0, 1])
    assert slices.token_counts(there, rows, "cpu") == expected


def test_a_text_that_is_read_in_windows_is_in_the_part_of_its_whole_length(tmp_path):
    there = bundles.make(tmp_path / "bundle")
    windows = {"windows": True, "max_length": 32}
    signature = json.loads((there / "signature.json").read_text())
    (there / "signature.json").write_text(json.dumps(signature | windows))
    (there / "tokenizer_config.json").write_text("{}")
    texts = [" ".join(["w1"] * count) for count in (10, 40, 100, 1000)]
    counts = slices.token_counts(there, Split("eval", "e", "0" * 64, texts, None, None), "cpu")
    assert slices.by_length(counts) == ["10 tokens", "40 tokens", "100 tokens", "1000 tokens"]


def test_rows_of_one_group_are_one_loss():
    rows = np.arange(ROWS)
    theirs = rows % 10 != 0
    ours = theirs & ~(rows < 20)
    measured = _measurements(ours, theirs, half=rows < ROWS // 2)
    assert slices.compare(measured, "finetune")[0].worse
    measured.groups = (rows // 20).tolist()  # all that was lost is one of them
    found = slices.compare(measured, "finetune")[0]
    assert found.part == "True"
    assert not found.worse
    assert found.difference.high > 0
