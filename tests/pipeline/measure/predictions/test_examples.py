"""The rows that a report shows: flips in both directions, and the most confident errors."""

import numpy as np

from rarefy.pipeline.data.split import Split
from rarefy.pipeline.measure.measurements import ModelMeasurement
from rarefy.pipeline.measure.predictions import examples
from rarefy.pipeline.tasks.classification.text import TEXT_CLASSIFICATION
from rarefy.pipeline.tasks.regression.task import REGRESSION

LABELS = ("bad", "good")


def _model(good):
    return ModelMeasurement(digest="d", size=1, answers=np.stack([1 - good, good], axis=1).tolist())


def _choose(ours, theirs, truth):
    texts = [f"row {at}" for at in range(len(truth))]
    split = Split("eval", "eval.jsonl", "0", texts, None, truth)
    models = {"candidate": _model(np.array(ours))}
    if theirs is not None:
        models["finetune"] = _model(np.array(theirs))
    return examples.choose(
        TEXT_CLASSIFICATION.bind(LABELS, 8, ("text",)), split, split.labels or [], models
    )


def test_each_kind_holds_its_rows_the_surest_first():
    found = _choose(
        ours=[0.6, 0.9, 0.2, 0.8, 0.3, 0.7],
        theirs=[0.1, 0.1, 0.9, 0.9, 0.3, 0.7],
        truth=[0, 0, 0, 0, 1, 1],
    )
    assert [(row["kind"], row["text"], row["sureness"]) for row in found] == [
        ("lost", "row 1", "90%"),
        ("lost", "row 0", "60%"),
        ("won", "row 2", "80%"),
        ("sure and wrong", "row 3", "80%"),
        ("sure and wrong", "row 4", "70%"),
    ]
    assert found[0] | {"text": ""} == {
        "kind": "lost", "text": "", "truth": "bad", "reference": "bad", "candidate": "good",
        "sureness": "90%",
    }  # fmt: skip


def test_no_kind_crowds_out_another():
    many = 2 * examples.EACH + 5
    found = _choose([0.9] * many + [0.1], [0.1] * many + [0.9], [0] * (many + 1))
    kinds = [row["kind"] for row in found]
    assert kinds.count("lost") == kinds.count("sure and wrong") == examples.EACH
    assert kinds.count("won") == 1
    assert len({row["text"] for row in found}) == len(found)


def test_without_a_reference_there_are_errors_only():
    found = _choose([0.9, 0.9], None, [0, 1])
    assert [(row["kind"], row["text"]) for row in found] == [("sure and wrong", "row 0")]
    assert "reference" not in found[0]


def test_an_answer_that_is_no_number_is_shown_as_such():
    found = _choose([np.nan], [0.9], [1])
    assert (found[0]["candidate"], found[0]["sureness"]) == ("not a number", "0%")


def test_a_query_is_shown_with_the_row_that_each_model_ranks_first():
    queries, passages = ["b", "a", "b", "a"], ["b0", "a1", "b2", "a3"]
    split = Split("eval", "e", "0", queries, passages, [1.0, 0.0, 0.0, 1.0], groups=queries)
    task = REGRESSION.bind((), 8, ("query", "passage"))
    models = {
        name: ModelMeasurement(digest="d", size=1, answers=[[score] for score in scores])
        for name, scores in (("candidate", [1, 2, 2, 3]), ("finetune", [2, 1, 1, 2]))
    }
    found = examples.choose(task, split, task.scorer.truth(split), models)
    assert found == [
        {"kind": "lost", "text": "b", "truth": "b0", "reference": "b0", "candidate": "b2"}
    ]
