"""REGRESSION: scores of rows, rankings of the rows of a query, and the model's one output."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import stats
from sklearn.metrics import ndcg_score

from rarefy import Bundle
from rarefy.pipeline.data.split import Split
from rarefy.pipeline.data.table import Source
from rarefy.pipeline.model import checkpoint
from rarefy.pipeline.tasks import load as data
from rarefy.pipeline.tasks import unlabelled
from rarefy.pipeline.tasks.regression.task import REGRESSION, Prediction, ScoreHead
from rarefy.pipeline.tasks.shared import heads
from rarefy.pipeline.tasks.task import groups_of_blocks
from rarefy.pipeline.terms.errors import DataError, ModelError
from rarefy.pipeline.terms.recipe_parts import Data
from tests.conftest import VALIDATE
from tests.models import sentences, write_encoder, write_model

TASK = REGRESSION.bind((), 32, ("text",))
ONCE = np.ones((1, 8))


def source(name: str = "train", ending: str = ".jsonl") -> Source:
    return Source(name, f"{name}{ending}", Path(f"{name}{ending}"), "0" * 64)


def plain(scores: list[float]) -> Split:
    texts = [f"text {row}" for row in range(len(scores))]
    return Split("eval", "eval.jsonl", "0" * 64, texts, None, scores)


def grouped(relevance: list[float], groups: list[str]) -> Split:
    passages = [f"passage {row}" for row in range(len(relevance))]
    return Split("eval", "e", "0" * 64, groups, passages, relevance, groups=groups)


@pytest.mark.parametrize("values", [["1.5", "-2", "1e3"], [1, 2.5, None], [True, False], ["", 3]])
def test_numbers_are_scores_in_any_form(values):
    REGRESSION.reader.check_column(values, "score", source())
    assert REGRESSION.reader.target((values[0],)) in (1.5, 1.0, None)


@pytest.mark.parametrize(
    ("value", "shown"), [("good", "good"), ("nan", "nan"), (math.inf, "inf"), ([1.0], "[1.0]")]
)
def test_a_score_that_is_not_a_number_is_refused_with_its_column(value, shown):
    with pytest.raises(DataError) as caught:
        REGRESSION.reader.check_column([1.0, value], "score", source())
    assert str(caught.value) == (
        f"train.jsonl: column 'score' contains '{shown}', which is not a number; regression needs "
        "a score for each row"
    )


def test_scores_that_are_all_the_same_are_refused():
    assert REGRESSION.reader.index_targets([1.0, 2.0], [], source()) == [1.0, 2.0]
    with pytest.raises(DataError, match=r"all scores in eval are 2; regression needs different"):
        REGRESSION.reader.index_targets([2.0, 2.0], [], source("eval"))


def test_a_query_without_a_relevant_row_is_refused_in_eval_and_counted_in_train():
    targets, groups = [0.0, 1.0, 0.0, 0.0], ["a", "a", "b", "b"]
    assert REGRESSION.reader.check_groups(targets[:2], groups[:2], source("eval")) == []
    assert REGRESSION.reader.check_groups(targets, groups, source()) == [
        "train: 1 query without a relevant row, which only teach what is not relevant"
    ]
    with pytest.raises(DataError, match=r"^eval.jsonl: 1 query without a relevant row \('b'\)"):
        REGRESSION.reader.check_groups(targets, groups, source("eval"))
    with pytest.raises(DataError, match=r"a relevance is -1; with data.group, scores are grades"):
        REGRESSION.reader.check_groups([-1.0, 1.0], ["a", "a"], source())


def test_the_truth_is_a_score_or_a_relevance_with_its_query():
    assert TASK.scorer.truth(plain([1.5, 2])) == [1.5, 2.0]
    truth = TASK.scorer.truth(grouped([0, 1, 2], ["b", "a", "b"]))
    assert truth == [[0.0, 0], [1.0, 1], [2.0, 0]]
    assert json.loads(json.dumps(truth)) == truth
    assert TASK.scorer.truth(Split("eval", "e", "0" * 64, ["a"], None, None)) == []


def test_scores_of_rows_are_those_of_scipy():
    draw = np.random.default_rng(0)
    truth, answers = draw.normal(size=8), draw.normal(size=(8, 1))
    found = {
        name: formula(answers, truth.tolist())(ONCE)[0]
        for name, formula in REGRESSION.scorer.formulas(truth.tolist()).items()
    }
    assert list(found) == ["spearman", "pearson", "mse", "mae"]
    assert found["spearman"] == pytest.approx(stats.spearmanr(answers[:, 0], truth).statistic)
    assert found["pearson"] == pytest.approx(stats.pearsonr(answers[:, 0], truth).statistic)
    assert found["mse"] == pytest.approx(np.mean((answers[:, 0] - truth) ** 2))


def test_scores_of_a_ranking_are_those_of_scikit_learn_by_query():
    draw = np.random.default_rng(1)
    relevance, scores = draw.integers(0, 3, (8, 15)), draw.normal(size=(8, 15))
    relevance[:, 0] = 1
    names = [f"q{query}" for query in range(8) for _ in range(15)]
    order = draw.permutation(120)  # the rows of a query need not be together
    split = grouped(relevance.ravel()[order].tolist(), [names[row] for row in order])
    truth = TASK.scorer.truth(split)
    formulas = REGRESSION.scorer.formulas(truth)
    assert list(formulas) == ["ndcg_10", "mrr_10"]
    found = formulas["ndcg_10"](scores.ravel()[order][:, None], truth)(ONCE)[0]
    assert found == pytest.approx(ndcg_score(relevance, scores, k=10))


def test_a_right_score_is_within_half_a_standard_deviation():
    truth = [0.0, 0.0, 4.0, 4.0]  # the standard deviation is 2
    answers = np.array([[0.9], [1.1], [3.1], [np.nan]])
    assert REGRESSION.scorer.correct(answers, truth).tolist() == [True, False, True, False]


def test_a_right_ranking_has_a_relevant_row_on_top():
    truth = [[0, 0], [1, 0], [1, 1], [0, 1], [2, 2], [0, 2], [1, 3], [0, 3]]
    answers = np.array([[1.0], [2.0], [1.0], [2.0], [1.0], [1.0], [np.nan], [np.nan]])
    assert REGRESSION.scorer.correct(answers, truth).tolist() == [True, False, False, False]


def test_the_same_score_is_within_a_quarter_of_the_models_own_deviation():
    theirs = np.array([[0.0], [0.0], [4.0], [4.0]])
    ours = theirs + np.array([[0.3], [-0.3], [0.6], [np.nan]])
    assert REGRESSION.scorer.agreement(theirs, theirs).all()
    assert REGRESSION.scorer.agreement(ours, theirs).tolist() == [True, True, False, False]


def test_a_head_with_one_output_is_kept_and_another_is_not(tmp_path):
    one, two = tmp_path / "one", tmp_path / "two"
    network = write_model(one, "bert", "AutoModelForSequenceClassification", ("LABEL_0",))
    write_model(two, "bert", "AutoModelForSequenceClassification", ("a", "b"))
    configs = [json.loads((path / "config.json").read_text()) for path in (one, two)]
    assert [REGRESSION.head.labels_of(config) for config in configs] == [[], None]
    kept = TASK.head.load(str(one))
    assert torch.equal(kept.classifier.weight, network.classifier.weight)
    TASK.head.check(kept, "here")
    several = configs[0] | {"problem_type": "multi_label_classification"}
    (one / "config.json").write_text(json.dumps(several))
    kept = TASK.head.load(str(one))
    assert torch.equal(kept.classifier.weight, network.classifier.weight)
    assert REGRESSION.head.labels_of(several) == [], (
        "so it is neither said to be replaced nor scaled"
    )
    new = TASK.head.load(str(two))
    assert new.classifier.weight.shape == (1, 16)
    assert new.config.problem_type == "regression"
    with pytest.raises(ModelError, match=r"^here: the model has 2 outputs, but regression needs"):
        TASK.head.check(checkpoint.load(two), "here")


def test_a_new_head_answers_the_mean_score(tiny_encoder):
    draw = np.random.default_rng(0)
    split = plain(draw.normal(50, 20, 200).tolist())
    network = TASK.head.load(str(tiny_encoder.directory))
    before = heads.last_linear(network).weight.clone()
    TASK.head.initialize(network, split)
    last = heads.last_linear(network)
    assert last.bias.item() == pytest.approx(np.mean(split.labels), rel=1e-5)
    torch.testing.assert_close(last.weight, before * float(np.std(split.labels)))


def test_a_ranking_has_no_scale_to_start_from(tiny_encoder):
    network = TASK.head.load(str(tiny_encoder.directory))
    TASK.head.initialize(network, grouped([5.0, 0.0], ["a", "a"]))
    assert heads.last_linear(network).bias.item() == 0


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    return checkpoint.load_tokenizer(write_encoder(tmp_path_factory.mktemp("t") / "e", layers=1))


def test_rows_to_train_on_have_their_score_and_their_query(tokenizer):
    rows = TASK.encoder.examples(tokenizer, plain([1.5, 2.5]), [1])
    assert [(row["labels"], row["group"]) for row in rows] == [(2.5, -1)]
    rows = TASK.encoder.examples(tokenizer, grouped([0, 1, 2], ["a", "b", "b"]), [0, 1, 2])
    assert [(row["labels"], row["group"]) for row in rows] == [(0, 0), (0.5, 1), (1, 1)]
    of_train = replace(grouped([0, 1, 2], ["a", "b", "b"]), greatest=1.0)
    rows = TASK.encoder.examples(tokenizer, of_train, [0, 1, 2])
    assert [row["labels"] for row in rows] == [0, 1, 1]
    (row,) = TASK.encoder.examples(tokenizer, Split("u", "u", "0" * 64, ["a"], None, None), [0])
    assert math.isnan(row["labels"])


def test_the_loss_of_scores_is_their_squared_error_and_rows_without_one_have_none():
    outputs = torch.tensor([[1.0], [2.0], [5.0]])
    batch = {"labels": torch.tensor([0.0, 4.0, math.nan]), "group": torch.full((3,), -1)}
    assert TASK.objective.loss(outputs, batch, total=True).item() == 5
    assert TASK.objective.loss(outputs, batch, total=False).item() == 2.5
    batch["labels"] = torch.full((3,), math.nan)
    assert TASK.objective.loss(outputs, batch, total=False).item() == 0


def test_what_matters_for_a_models_own_scores_is_how_they_move():
    model = torch.nn.Linear(2, 1, bias=False)
    own = unlabelled.without_labels(REGRESSION).bind((), 32, ("text",))
    rows = torch.tensor([[1.0, 2.0], [3.0, 4.0]])

    def outputs(self, model, batch):
        return model(batch["x"])

    def gradient(task, group):
        with torch.no_grad():
            batch = {"x": rows, "labels": model(rows)[:, 0], "group": torch.full((2,), group)}
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(ScoreHead, "outputs", outputs)
            (found,) = torch.autograd.grad(
                task.objective.summed_loss()(model, batch), [model.weight]
            )
        return found.tolist()

    assert gradient(own, -1) == [[4.0, 6.0]]
    assert gradient(TASK, -1) == [[0.0, 0.0]]
    assert gradient(own, 0) != [[4.0, 6.0]]


def test_a_student_is_as_far_off_as_its_scores():
    one, other = torch.tensor([[1.0], [3.0]]), torch.tensor([[2.0], [3.0]])
    assert TASK.objective.imitation(one, other, 4.0).item() == 0.5
    assert TASK.objective.divergence(one, other).tolist() == [0.5, 0.0]  # the variance is 1
    assert TASK.objective.divergence(one, one).tolist() == [0.0, 0.0]


def test_rows_in_words():
    split = plain([1.0, 2.5])
    assert TASK.presenter.describe_prediction(np.array([[1.2345], [np.nan]]), split) == [
        "1.23",
        "nan",
    ]
    assert TASK.presenter.describe_target(split) == ["1", "2.5"]
    assert TASK.scorer.blocks(split) is None
    assert TASK.presenter.answers(np.array([[1.5]])) == [Prediction(1.5)]
    assert Prediction(1.5)._asdict() == {"score": 1.5}
    assert Prediction(1.23456).columns() == ["1.235"]


def test_queries_in_words():
    split = grouped([0, 1, 1, 0, 0], ["b", "a", "b", "b", "a"])
    answers = np.array([[0.5], [0.1], [0.2], [0.1], [0.2]])
    assert TASK.scorer.blocks(split) == [0, 1]
    assert TASK.presenter.describe_prediction(answers, split) == ["passage 0", "passage 4"]
    assert TASK.presenter.describe_target(split) == ["passage 2", "passage 1"]


def test_rows_are_sliced_by_quarters_of_the_true_scores():
    parts = TASK.presenter.target_slices(plain([1.0, 2.0, 3.0, 4.0, 4.0, 4.0, 0.5, 2.0]))
    assert parts == ["0.5 to 1", "2", "3 to 4", *["3 to 4"] * 3, "0.5 to 1", "2"]
    assert TASK.presenter.target_slices(grouped([0, 1], ["a", "a"])) is None


def write_ratings(workshop) -> dict:
    """Write sentences with a score of their mood; return the recipe's data."""
    for name, count, seed in (("train.jsonl", 60, 0), ("eval.jsonl", 40, 1)):
        rows = zip(*sentences(count, seed), strict=True)
        workshop.write_rows(name, [{"text": text, "score": 3.5 + mood} for text, mood in rows])
    return {"train": "train.jsonl", "eval": "eval.jsonl", "label": "score"}


def write_queries(workshop) -> dict:
    """Write queries with four passages each, of which two are relevant."""
    for name, count, seed in (("train.jsonl", 120, 0), ("eval.jsonl", 48, 1)):
        rows = enumerate(zip(*sentences(count, seed), strict=True))
        workshop.write_rows(
            name,
            [
                {"query": f"film {row // 4}", "text": text, "grade": good * (1 + row % 2)}
                for row, (text, good) in rows
            ],
        )
    columns = {"text": ["query", "text"], "label": "grade", "group": "query"}
    return {"train": "train.jsonl", "eval": "eval.jsonl"} | columns


@pytest.mark.parametrize("name", ["train", "eval"])
def test_a_row_without_a_query_is_refused_with_its_place(tmp_path, name):
    """All such rows would be one query, whose ranking is scored."""
    rows = [{"query": f"q{at // 4}", "text": f"p {at}", "grade": at % 2} for at in range(40)]
    rows = [row | {"id": row["query"]} for row in rows]
    for each in ("train", "eval"):
        wrong = [*rows[:8], rows[8] | {"id": " "}, *rows[9:]] if each == name else rows
        text = "".join(json.dumps(row) + "\n" for row in wrong)
        (tmp_path / f"{each}.jsonl").write_text(text)
    columns = {"text": ("query", "text"), "label": "grade", "group": "id"}
    recipe = Data(train="train.jsonl", eval="eval.jsonl", **columns)
    with pytest.raises(DataError, match=rf"{name}\.jsonl: row 9 has no value in 'id'") as caught:
        data.load(recipe, REGRESSION.reader, data.locate(recipe, tmp_path))
    assert "\n" not in str(caught.value)


def test_scores_are_named_by_the_data():
    data = Data(train="t.jsonl", eval="e.jsonl", label="score")
    grouped_data = data.model_copy(update={"group": "query"})
    assert list(REGRESSION.scorer.score_names(data)) == list(REGRESSION.scorer.formulas([1.0]))
    assert list(REGRESSION.scorer.score_names(grouped_data)) == list(
        REGRESSION.scorer.formulas([[1.0, 0]])
    )


def test_a_model_s_own_answers_are_scores_or_the_highest_row_of_each_query():
    answers = np.array([[0.5], [-0.1], [0.2], [0.1]])
    assert TASK.objective.targets(answers, plain([0, 0, 0, 0])) == [0.5, -0.1, 0.2, 0.1]
    split = grouped([0, 0, 0, 0], ["b", "a", "b", "a"])
    assert TASK.objective.targets(answers, split) == [1, 0, 0, 1]


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["ratings", "queries"])
def test_a_recipe_is_run_and_its_bundle_answers_everywhere_the_same(workshop, kind):
    data = write_ratings(workshop) if kind == "ratings" else write_queries(workshop)
    main = "spearman" if kind == "ratings" else "ndcg_10"
    finished = workshop.run(
        {"finetune": {"epochs": 1, "batch_size": 8}},
        "export",
        VALIDATE,
        task="regression",
        data=data,
        budgets=[{"metric": main, "min_retained": "50 %", "against": "finetune"}],
    )
    blocks = 40 if kind == "ratings" else 12
    score = finished["finetune"].scores[0]
    assert (score.name, score.n) == (main, blocks)
    report, bundle = (finished[name].artifact.directory for name in ("validate", "export"))
    measured = json.loads((report / "measurements.json").read_text())
    assert set(measured["slices"]) == ({"length", "true score"} if kind == "ratings" else set())
    assert all("pair" not in sample for sample in measured["samples"])
    request = json.loads((bundle / "samples/request.json").read_text())
    stored = json.loads((bundle / "samples/response.json").read_text())["predictions"]
    loaded = Bundle(bundle).predict(request["texts"], request["pairs"])
    if kind == "queries":
        with pytest.raises(DataError, match="this bundle reads pairs of texts"):
            Bundle(bundle).predict(request["texts"])
    alone = subprocess.run(
        [sys.executable, bundle / "predict.py"],
        input=json.dumps(request),
        capture_output=True,
        text=True,
        check=True,
    )
    assert json.loads(alone.stdout)["predictions"] == stored
    assert [round(answer.score, 6) for answer in loaded] == [row["score"] for row in stored]


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["ratings", "queries"])
def test_rows_without_scores_are_scored_by_the_model_itself(workshop, kind):
    data = (write_ratings if kind == "ratings" else write_queries)(workshop) | {"label": None}
    write_model(workshop.folder / "model", "bert", "AutoModelForSequenceClassification", ("a",))
    distill = {"distill": {"keep_layers": 1, "epochs": 1, "batch_size": 8}}
    finished = workshop.run(distill, task="regression", data=data)
    assert [score.name for score in finished["distill"].scores] == ["agreement"]
    assert [score.value for score in finished["model"].scores] == [1.0]
    assert finished["distill"].scores[0].n == (40 if kind == "ratings" else 12)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([{"text": "a film", "score": "good"}], "column 'score' contains 'good', which is not a"),
        ([{"text": "a film", "score": 1}] * 3, "all scores in eval are 1; regression needs"),
        ([{"text": "a film", "score": 1}, {"text": "a dull one", "score": 2}], "eval has 2 rows"),
    ],
)
def test_bad_scores_are_said_in_one_line_with_exit_code_2(workshop, rarefy, rows, message):
    data = write_ratings(workshop)
    workshop.write_rows("eval.jsonl", rows)
    recipe = workshop.recipe("finetune", task="regression", data=data)
    said = rarefy("plan", recipe, "--home", workshop.folder / "home")
    assert said.code == 2
    assert message in " ".join(said.err.split())


def test_an_unanswerable_query_is_said_in_one_line_with_exit_code_2(workshop, rarefy):
    data = write_queries(workshop)
    rows = [{"query": query, "text": "a", "grade": query == "b"} for query in "aabb"]
    workshop.write_rows("eval.jsonl", rows)
    recipe = workshop.recipe("finetune", task="regression", data=data)
    said = rarefy("plan", recipe, "--home", workshop.folder / "home")
    assert said.code == 2
    assert "eval.jsonl: 1 query without a relevant row ('a')" in " ".join(said.err.split())


def test_queries_are_groups_of_their_own():
    """The rows of a query are one block already, which is drawn as a whole."""
    split = grouped([0.0, 1.0, 0.0, 1.0], ["a", "a", "b", "b"])
    assert groups_of_blocks(TASK, split) == []


def test_a_part_of_some_queries_is_scored_as_these_queries_alone():
    truth = [[1.0, 0], [0.0, 1], [0.0, 0], [1.0, 1], [1.0, 2], [0.0, 2]]
    assert TASK.scorer.part(truth, [1, 2]) == [[0.0, 0], [1.0, 0], [1.0, 1], [0.0, 1]]
    assert TASK.scorer.part([0.1, 0.2, 0.3], [0, 2]) == [0.1, 0.3]
