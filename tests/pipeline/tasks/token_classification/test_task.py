"""Words are tagged: rows, tokens, losses, scores and what a user reads."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from seqeval import metrics as seqeval
from transformers import AutoTokenizer

from rarefy.pipeline import tasks
from rarefy.pipeline.data.split import Split
from rarefy.pipeline.data.table import Source
from rarefy.pipeline.measure.statistics import scores
from rarefy.pipeline.model.tokens.words import CUT_OFF
from rarefy.pipeline.tasks.task import count_predictions
from rarefy.pipeline.tasks.token_classification.task import TOKEN_CLASSIFICATION
from rarefy.pipeline.terms.errors import DataError, ModelError
from rarefy.pipeline.terms.recipe_parts import Data
from rarefy.stages.training.loop import collate
from tests import tokenizers
from tests.tagged import TASK, tagged_rows

LABELS = ("O", "B-A", "I-A", "B-B", "I-B")
MADE = TOKEN_CLASSIFICATION.bind(LABELS, 16, ("tokens",))
LONG = ("Überraschend", "gut", "``", "the", "film", "12345,") * 5
SHORT = ("a", "fine", "film")


def split_of(*sentences, labels=None):
    texts = [" ".join(words) for words in sentences]
    return Split("train", "train.jsonl", "0" * 64, texts, None, labels)


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    return {
        kind: tokenizers.write(kind, tmp_path_factory.mktemp(kind) / "tokenizer")
        for kind in ("bert", "roberta", "modernbert", "xlm-roberta")
    }


@pytest.fixture(scope="module")
def tokenizer_of(folders):
    return lambda kind: AutoTokenizer.from_pretrained(folders[kind])


def source(tmp_path, name="train"):
    return Source(name, f"{name}.jsonl", tmp_path / f"{name}.jsonl", "0")


class TestRows:
    def test_it_is_found_by_its_name(self):
        assert tasks.find("token-classification") is TOKEN_CLASSIFICATION

    def test_a_row_is_words_joined_by_spaces_and_their_tags(self, tmp_path):
        row = TOKEN_CLASSIFICATION.reader.read_row(
            (["New", "York."],), (["B-A", "I-A"],), source(tmp_path), 1
        )
        assert row == (("New York.",), ("B-A", "I-A"))

    @pytest.mark.parametrize(
        ("text", "values", "why"),
        [
            (None, (["O"],), "without text"),
            ([], ([],), "without text"),
            ("  ", ([],), "without text"),
            (5, ([],), "whose text is of type int"),
            (["a"], (None,), "without a label"),
        ],
    )
    def test_incomplete_rows_are_left_out(self, tmp_path, text, values, why):
        assert TOKEN_CLASSIFICATION.reader.read_row((text,), values, source(tmp_path), 1) == why

    def test_a_wrong_row_is_named(self, tmp_path):
        with pytest.raises(DataError) as raised:
            TOKEN_CLASSIFICATION.reader.read_row((["a", "b"],), (["O"],), source(tmp_path), 7)
        assert str(raised.value) == "train.jsonl: row 7: 2 tokens, but 1 tag"

    def test_an_unknown_tag_in_eval_is_refused(self, tmp_path):
        with pytest.raises(DataError) as raised:
            TOKEN_CLASSIFICATION.reader.index_targets(
                [("O", "B-C")], LABELS, source(tmp_path, "eval")
            )
        assert "eval has the tag 'B-C', which does not occur in train" in str(raised.value)

    def test_a_column_of_text_and_a_pair_of_texts_are_refused(self, tmp_path):
        with pytest.raises(DataError, match="needs a list of tags"):
            TOKEN_CLASSIFICATION.reader.check_column(["B-A O"], "tags", source(tmp_path))
        with pytest.raises(DataError, match="takes one column"):
            TOKEN_CLASSIFICATION.reader.target_columns(Data(train="a", eval="b", text=("x", "y")))

    @pytest.mark.parametrize(
        ("row", "said"),
        [
            ({"tokens": ["a", "b c"], "tags": ["O", "O"]}, "row 25: token 2 ('b c') is empty"),
            ({"tokens": ["a"], "tags": ["O", "O"]}, "row 25: 1 token, but 2 tags"),
            ({"tokens": ["a"], "tags": ["X-GOOD"]}, "'X-GOOD' has an unknown prefix"),
        ],
    )
    def test_bad_input_is_one_line_and_exit_code_2(self, workshop, rarefy, row, said):
        workshop.write_rows("train.jsonl", [*tagged_rows(24), row | {"part": "a"}])
        workshop.write_rows("eval.jsonl", tagged_rows(12, 1))
        path = workshop.recipe({"finetune": {"epochs": 1}}, **TASK, budgets=[])
        answer = rarefy("plan", path)
        assert answer.code == 2
        assert said in answer.err
        assert len(answer.err.strip().splitlines()) == 1

    @pytest.mark.parametrize(
        ("spans", "said"),
        [
            ([{"start": 0, "end": 99, "label": "A"}], "is not within the text"),
            (
                [{"start": 0, "end": 5, "label": "A"}, {"start": 4, "end": 8, "label": "B"}],
                "overlap",
            ),
        ],
    )
    def test_bad_spans_are_one_line_and_exit_code_2(self, workshop, rarefy, spans, said):
        good = [{"start": 0, "end": 3, "label": "A"}]
        for name, last in (("train.jsonl", good), ("eval.jsonl", spans)):
            rows = [{"text": "the fine film", "spans": given} for given in (good, [], last)]
            workshop.write_rows(name, rows)
        path = workshop.recipe(
            {"finetune": {"epochs": 1}},
            task="token-classification",
            data={"train": "train.jsonl", "eval": "eval.jsonl", "label": "spans"},
            budgets=[],
        )
        answer = rarefy("plan", path)
        assert answer.code == 2
        assert "eval.jsonl: row 3: span" in answer.err
        assert said in answer.err


class TestTokens:
    @pytest.mark.parametrize("kind", ["bert", "roberta", "modernbert", "xlm-roberta"])
    def test_a_row_has_a_unit_for_every_word_whatever_the_tokenizer(self, tokenizer_of, kind):
        split = split_of(LONG, SHORT, labels=[[1] * len(LONG), [0] * len(SHORT)])
        rows = MADE.encoder.examples(tokenizer_of(kind), split, range(2))
        assert [MADE.encoder.count_units(row) for row in rows] == [len(LONG), len(SHORT)]
        assert [len(row["labels"]) for row in rows] == [len(LONG), len(SHORT)]
        assert all(len(row["input_ids"]) <= 16 for row in rows)
        cut = [place == CUT_OFF for place in rows[0]["first"]]
        assert any(cut)
        assert [label == -100 for label in rows[0]["labels"]] == cut
        assert CUT_OFF not in rows[1]["first"]

    @pytest.mark.parametrize("kind", ["bert", "roberta"])
    def test_windows_answer_and_teach_every_word_once(self, tokenizer_of, kind):
        tags = [at % len(LABELS) for at in range(len(LONG))]
        split = split_of(LONG, SHORT, labels=[tags, [0] * len(SHORT)])
        asked = MADE.encoder.encode_requests(tokenizer_of(kind), split)
        assert len(asked) > 3
        assert sum(map(MADE.encoder.count_units, asked)) == len(LONG) + len(SHORT)
        lessons = MADE.encoder.training_rows(tokenizer_of(kind), split, range(2))
        assert [row["first"] for row in lessons] == [row["first"] for row in asked]
        assert [label for row in lessons for label in row["labels"]] == tags + [0] * len(SHORT)

    def test_rows_without_labels_have_none(self, tokenizer_of):
        split = split_of(LONG, SHORT)
        for made in (MADE.encoder.examples, MADE.encoder.training_rows):
            rows = made(tokenizer_of("bert"), split, range(2))
            assert {label for row in rows for label in row["labels"]} == {-100}

    def test_lengths_are_those_of_the_whole_text(self, tokenizer_of):
        tokenizer = tokenizer_of("bert")
        split = split_of(LONG, SHORT)
        assert MADE.encoder.lengths(tokenizer, split, [0]) == [
            len(tokenizer(split.texts[0]).input_ids)
        ]


class TestLosses:
    @pytest.fixture
    def batch(self, tokenizer_of):
        split = split_of(LONG, SHORT, labels=[[1] * len(LONG), [0] * len(SHORT)])
        tokenizer = tokenizer_of("bert")
        return collate(MADE.encoder.examples(tokenizer, split, range(2)), tokenizer)

    def logits(self, batch, seed=0):
        draw = torch.Generator().manual_seed(seed)
        shape = (*batch["input_ids"].shape, len(LABELS))
        return torch.randn(shape, generator=draw, requires_grad=True)

    def test_units_are_the_outputs_at_the_words_tokens_in_order(self, batch):
        logits = self.logits(batch)
        units = MADE.head.select(SimpleNamespace(logits=logits), batch, None)
        assert units.shape == (len(LONG) + len(SHORT), len(LABELS))
        for unit, place in zip(units[-len(SHORT) :], batch["first"][1], strict=False):
            assert torch.equal(unit, logits[1, place])
        cut = batch["first"][0] == CUT_OFF
        assert torch.equal(units[: len(LONG)].isnan().all(dim=1), cut[: len(LONG)])

    def test_loss_is_the_cross_entropy_of_words_that_are_read(self, batch):
        logits = self.logits(batch)
        units = MADE.head.select(SimpleNamespace(logits=logits), batch, None)
        read = ~units.isnan().any(dim=1)
        tags = torch.tensor([1] * len(LONG) + [0] * len(SHORT))
        wanted = torch.nn.functional.cross_entropy(units[read], tags[read])
        assert MADE.objective.loss(units, batch, total=False).item() == pytest.approx(wanted.item())
        summed = MADE.objective.loss(units, batch, total=True).item()
        assert summed == pytest.approx(wanted.item() * int(read.sum()), rel=1e-5)
        MADE.objective.loss(units, batch, total=False).backward()
        assert logits.grad.isfinite().all()

    def test_without_a_label_the_loss_is_zero(self, batch):
        units = MADE.head.select(SimpleNamespace(logits=self.logits(batch)), batch, None)
        bare = batch | {"labels": torch.full_like(batch["labels"], -100)}
        assert MADE.objective.loss(units, bare, total=False).item() == 0

    def test_imitation_and_divergence_leave_out_what_either_does_not_read(self, batch):
        logits, other = self.logits(batch), self.logits(batch, 1)
        ours, theirs = (
            MADE.head.select(SimpleNamespace(logits=side), batch, None) for side in (logits, other)
        )
        read = ~ours.isnan().any(dim=1)
        gone = theirs.detach().clone()
        gone[-1] = float("nan")
        both = read.clone()
        both[-1] = False
        shares = theirs[both].softmax(dim=1)
        wanted = (shares * (shares.log() - ours[both].log_softmax(dim=1))).sum(dim=1).mean()
        loss = MADE.objective.imitation(ours, gone, 1.0)
        assert loss.item() == pytest.approx(wanted.item(), rel=1e-5)
        loss.backward()
        assert logits.grad.isfinite().all()
        assert MADE.objective.imitation(ours, torch.full_like(gone, float("nan")), 1.0).item() == 0
        apart = MADE.objective.divergence(ours, theirs)
        assert torch.equal(apart == 0, ~read)
        assert MADE.objective.divergence(ours, ours).abs().max().item() == 0


class TestAnswers:
    TAGS = (("B-A", "I-A", "O"), ("O", "B-B"), ("B-A",))
    SAID = (("B-A", "O", "O"), ("O", "B-B"), ("B-B",))

    @pytest.fixture
    def split(self):
        labels = [[LABELS.index(tag) for tag in row] for row in self.TAGS]
        return split_of(("a", "b", "c"), ("d", "e"), ("f",), labels=labels)

    @pytest.fixture
    def answers(self):
        flat = [LABELS.index(tag) for row in self.SAID for tag in row]
        return MADE.head.predictions(4 * np.eye(len(LABELS))[flat])

    def test_answers_are_probabilities(self, answers):
        assert answers.shape == (6, 5)
        assert answers.sum(axis=1) == pytest.approx(1)

    def test_scores_are_seqevals_and_the_main_one_is_f1(self, split, answers):
        truth = MADE.scorer.truth(split)
        formulas = MADE.scorer.formulas(truth)
        found = {
            name: float(formula(answers, truth)(np.ones((1, 3)))[0])
            for name, formula in formulas.items()
        }
        ours, theirs = [list(row) for row in self.SAID], [list(row) for row in self.TAGS]
        assert next(iter(found)) == "entity_f1"
        assert found == pytest.approx(
            {
                "entity_f1": seqeval.f1_score(theirs, ours),
                "entity_precision": seqeval.precision_score(theirs, ours),
                "entity_recall": seqeval.recall_score(theirs, ours),
                "token_accuracy": seqeval.accuracy_score(theirs, ours),
            }
        )
        value, low, high = scores.alone(TOKEN_CLASSIFICATION, "entity_f1", answers, truth)
        assert low < value < high

    def test_a_sentence_is_right_if_all_its_tags_are(self, split, answers):
        truth = MADE.scorer.truth(split)
        assert MADE.scorer.correct(answers, truth).tolist() == [False, True, False]
        assert count_predictions(MADE, truth) == len(answers)
        answers[3] = np.nan
        assert MADE.scorer.correct(answers, truth).tolist() == [False, False, False]
        assert MADE.presenter.confidence(answers, truth).tolist()[1] == 0

    def test_answers_may_be_the_targets_of_rows_without_labels(self, split, answers):
        targets = MADE.objective.targets(answers, split)
        assert targets == [[LABELS.index(tag) for tag in row] for row in self.SAID]

    def test_rows_are_told_with_their_entities(self, split, answers):
        assert MADE.presenter.describe_prediction(answers, split) == [
            "[A: a] b c",
            "d [B: e]",
            "[B: f]",
        ]
        assert MADE.presenter.describe_target(split) == ["[A: a b] c", "d [B: e]", "[A: f]"]


class TestBundles:
    def test_raw_text_is_split_as_the_data_is(self):
        marks = MADE.presenter.bundle_settings(split_of(("Chicago,", "IL"), ("a", "b")))
        assert marks == {"splitter": "blank"}
        assert MADE.presenter.bundle_settings(split_of(("Chicago", ",", "IL"), SHORT)) == {
            "splitter": "words"
        }
        assert MADE.presenter.bundle_settings(split_of(("我", "住在", "北京"))) == {
            "splitter": "words"
        }
        assert MADE.presenter.bundle_settings(split_of(("मैं", "दिल्ली", "में"))) == {
            "splitter": "words"
        }
        assert MADE.of_model(marks).presenter.preprocess("Chicago, IL ") == "Chicago, IL"
        assert MADE.of_model({}).presenter.preprocess("Chicago, IL ") == "Chicago , IL"
        assert MADE.of_model({}).presenter.preprocess("दिल्ली में") == "दिल्ली में"

    def test_a_splitter_of_another_version_is_refused_in_one_line(self):
        with pytest.raises(ModelError, match=r"no splitter 'regex': [^\n]*run its recipe again$"):
            MADE.of_model({"splitter": "regex"})

    def test_entities_have_the_characters_of_the_text_that_was_given(self):
        texts = ["in  Rome.", ["in", "New", "York."], ""]
        assert [MADE.presenter.preprocess(text) for text in texts] == [
            "in Rome .",
            "in New York.",
            "",
        ]
        tags = ["O", "B-A", "O", "O", "B-B", "I-B"]
        rows = 4 * np.eye(len(LABELS))[[LABELS.index(tag) for tag in tags]]
        found = MADE.presenter.postprocess(texts, MADE.head.predictions(rows))
        told = [[(e["type"], e["text"], e["start"], e["end"]) for e in one[0]] for one in found]
        assert told == [[("A", "Rome", 4, 8)], [("B", "New York.", 3, 12)], []]
        assert [one.tags for one in found] == [tags[:3], tags[3:], []]

    @pytest.mark.parametrize("word", ["", "New York", "New\u00a0York", "a\tb", "a\u2028b", None, 3])
    def test_what_is_no_word_is_refused(self, word):
        with pytest.raises(DataError, match="token 2"):
            MADE.presenter.preprocess(["in", word])

    @pytest.mark.parametrize("given", [None, 7, float("nan"), "\ud800", ["a", "\ud800"]])
    def test_what_is_no_text_is_refused(self, given):
        with pytest.raises(DataError, match=r"is not text|is not valid Unicode"):
            MADE.presenter.preprocess(given)

    @pytest.mark.parametrize("answers", [2, 4])
    def test_answers_that_do_not_fit_the_words_are_refused(self, answers):
        rows = MADE.head.predictions(4 * np.eye(len(LABELS))[:answers])
        with pytest.raises(DataError, match=f"{answers} predictions for 3 words"):
            MADE.presenter.postprocess([["in"], "New York"], rows)
