"""Labelled text: skipped rows are counted and reported, invalid ones refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from rarefy.pipeline.tasks import load as data
from rarefy.pipeline.tasks.classification.text import TEXT_CLASSIFICATION
from rarefy.pipeline.tasks.embeddings.task import SENTENCE_EMBEDDINGS
from rarefy.pipeline.tasks.regression.task import REGRESSION
from rarefy.pipeline.terms.digests import file_sha256
from rarefy.pipeline.terms.errors import DataError
from rarefy.pipeline.terms.recipe_parts import Data

EVAL = [{"text": "so so", "label": "bad"}, {"text": "what joy", "label": "good"}]
TRAIN = [{"text": "dull", "label": "bad"}, {"text": "bright", "label": "good"}]


def jsonl(rows) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


@pytest.fixture
def load(tmp_path: Path):
    """Write the splits (rows, or a file's text) and read them."""

    def do(train=TRAIN, evaluation=EVAL, ending="jsonl", unlabelled=None, **options):
        texts = {"train": train, "eval": evaluation, "unlabelled": unlabelled}
        given = {name: rows for name, rows in texts.items() if rows is not None}
        for name, rows in given.items():
            text = rows if isinstance(rows, str) else jsonl(rows)
            (tmp_path / f"{name}.{ending}").write_text(text)
        recipe = Data(**{name: f"{name}.{ending}" for name in given}, **options)
        return data.load(recipe, TEXT_CLASSIFICATION.reader, data.locate(recipe, tmp_path))

    return do


def test_labels_are_in_a_stable_order_and_rows_are_counted(load):
    splits, summary = load()
    assert summary.labels == ["bad", "good"]
    assert splits["train"].labels == [0, 1]
    assert summary.rows == {"train": 2, "dev": 2, "eval": 2}  # too few rows to spare one
    assert summary.counts["eval"] == {"bad": 1, "good": 1}


def test_a_development_split_that_is_train_itself_is_said(load):
    same = (
        "dev: train is too small to spare rows (2 rows), so choices are made on the training rows "
        "themselves; give data.dev"
    )
    assert load()[1].warnings == [same]
    many = [row | {"text": f"{row['text']} {at}"} for at in range(20) for row in TRAIN]
    assert load(many)[1].warnings == []
    assert load(many[:4], dev="eval.jsonl")[1].warnings == [
        "eval: 2 rows are also in dev, on which choices are made, so accuracy is overestimated"
    ]


def test_integer_labels_go_by_value(load):
    rows = [{"text": f"t{label}", "label": label} for label in (10, 2, 1)]
    assert load(rows, rows[:1])[1].labels == ["1", "2", "10"]


def test_csv_tsv_and_parquet_say_the_same(load, tmp_path):
    import pandas

    expected = list(load()[0]["train"].texts)
    csv = load("text,label\ndull,bad\nbright,good\n", "text,label\nx,bad\ny,good\n", "csv")
    assert list(csv[0]["train"].texts) == expected
    tsv = load("text\tlabel\ndull\tbad\nbright\tgood\n", "text\tlabel\nx\tbad\n", "tsv")
    assert list(tsv[0]["train"].texts) == expected
    for name, rows in {"train": TRAIN, "eval": EVAL}.items():
        pandas.DataFrame(rows).to_parquet(tmp_path / f"{name}.parquet")
    recipe = Data(train="train.parquet", eval="eval.parquet")
    splits, _ = data.load(recipe, TEXT_CLASSIFICATION.reader, data.locate(recipe, tmp_path))
    assert list(splits["train"].texts) == expected


def test_a_csv_s_labels_are_what_it_says(load):
    """A type-guessing reader turns true into True, 007 into 7, integers with gaps into floats."""
    rows = "text,label,\n1.50,true,0\n007,007,1\nc,1e3,2\n"
    splits, summary = load(rows, "text,label\nx,007\n", "csv")
    assert summary.labels == ["007", "1e3", "true"]
    assert list(splits["train"].texts) == ["1.50", "007", "c"]


def test_labels_that_only_look_like_integers_are_names(load):
    rows = [{"text": f"t{label}", "label": label} for label in ("²", "--5", "10")]
    assert load(rows, rows[:1])[1].labels == ["--5", "10", "²"]


def test_integers_beside_a_missing_one_are_integers(load):
    splits, summary = load("text,label\na,1\nb,0\nc,\n", "text,label\nd,1\n", "csv")
    assert summary.labels == ["0", "1"]
    assert splits["train"].labels == [1, 0]
    assert "train: 1 row without a label left out" in summary.warnings


def test_labels_that_say_none_are_labels(load):
    splits, summary = load(
        "text,label\nnull,None\nNA,good\nN/A,None\n", "text,label\nx,None\n", "csv"
    )
    assert summary.labels == ["None", "good"]
    assert list(splits["train"].texts) == ["null", "NA", "N/A"]


def labelled(*labels) -> list[dict]:
    return [{"text": f"t{row}", "label": label} for row, label in enumerate(labels)]


@pytest.mark.parametrize(
    ("files", "message"),
    [
        (
            {"train": labelled(1.0, 0.25, 3)},
            "train.jsonl: column 'label' contains numbers that are",
        ),
        ({"train": labelled(1.0, 0.25, 3)}, "not integers (0.25)"),
        ({"train": labelled(1, 0), "evaluation": labelled(0.5)}, "eval.jsonl: column 'label'"),
        ({"train": labelled(["joy"], ["joy", "awe"])}, "column 'label' contains lists (['joy'])"),
        ({"train": labelled([0, 1], [1, 0])}, "([0, 1])"),
        ({"train": labelled({"a": 1}, {"a": 2})}, "column 'label' contains mappings ({'a': 1})"),
        ({"train": "text,label\na,-1\nb,.25\n", "ending": "csv"}, "not integers (.25)"),
        ({"train": "text,label\na,1e-3\nb,2\n", "ending": "csv"}, "not integers (1e-3)"),
        ({"train": "text\tlabel\na\tjoy\nb\t['joy', 'awe']\n", "ending": "tsv"}, "lists (['joy"),
        ({"train": 'text,label\na,"[1, 0]"\nb,"[0, 1]"\n', "ending": "csv"}, "lists ([1, 0])"),
    ],
)
def test_labels_that_are_no_classes_are_refused(load, files, message):
    """Otherwise each score or set of labels would become a class named by its text."""
    with pytest.raises(DataError) as caught:
        load(**files)
    assert message in str(caught.value)
    assert "one class per row" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_whole_numbers_that_a_gap_made_floats_are_classes(load, tmp_path):
    assert load(labelled(1.0, 0.0, None), labelled(1))[1].labels == ["0", "1"]
    (tmp_path / "floats.csv").write_text("text,label\na,1.0\nb,0.0\n")
    recipe = Data(train="floats.csv", eval="floats.csv")
    assert data.load(recipe, TEXT_CLASSIFICATION.reader, data.locate(recipe, tmp_path))[
        1
    ].labels == [
        "0.0",
        "1.0",
    ]


def test_names_that_look_like_numbers_or_lists_are_classes(load):
    assert load(labelled("0.5", "1.5"), labelled("0.5"))[1].labels == ["0.5", "1.5"]
    csv = "text,label\na,3.5\nb,none\nc,[unk]\n"
    assert load(csv, csv, "csv")[1].labels == ["3.5", "[unk]", "none"]


def test_a_score_without_being_the_label_may_be_a_slice(load):
    rows = [row | {"score": score} for row, score in zip(EVAL, (0.5, 1.0), strict=True)]
    assert load(evaluation=rows, slices=("score",))[0]["eval"].columns == {"score": ["0.5", "1"]}


def test_sentence_pairs(load):
    rows = [{"a": "one", "b": "two", "label": 0}, {"a": "three", "b": "four", "label": 1}]
    splits, summary = load(rows, [rows[0] | {"a": "One!"}], text=("a", "b"))
    train = splits["train"]
    assert (list(train.texts), list(train.pairs)) == (["one", "three"], ["two", "four"])
    assert "eval: 1 row is also in train, so accuracy is overestimated" in summary.warnings


def test_eval_rows_that_repeat_are_counted_once(load):
    _, summary = load(evaluation=[*EVAL, EVAL[0], EVAL[0] | {"label": "good"}])
    assert (summary.rows["eval"], summary.different) == (4, 2)
    assert any("2 of 4 rows repeat others: 2 different ones" in said for said in summary.warnings)
    assert any("1 text has more than one label" in said for said in summary.warnings)


def test_rows_without_text_are_left_out_counted_and_said(load):
    more = [{"text": text, "label": "bad"} for text in ("", "  ", None)]
    splits, summary = load([*TRAIN, *more])
    assert len(splits["train"]) == 2
    assert "train: 3 rows without text left out" in summary.warnings


def test_nan_as_text_is_no_text(load):
    nan = "text,label\ndull,bad\nNaN,bad\nnan,good\n,good\nbright,good\n"
    splits, summary = load(nan, "text,label\nx,bad\n", "csv")
    assert list(splits["train"].texts) == ["dull", "bright"]
    assert "train: 3 rows without text left out" in summary.warnings


def test_a_json_nan_is_no_text(load):
    splits, summary = load(jsonl(TRAIN) + '{"text": NaN, "label": "bad"}\n')
    assert len(splits["train"]) == 2
    assert "train: 1 row without text left out" in summary.warnings


def test_unlabelled_text_needs_no_label(load):
    splits, summary = load(unlabelled=[{"text": "more"}])
    assert splits["unlabelled"].labels is None
    assert summary.rows["unlabelled"] == 1


def test_unlabelled_rows_that_are_held_out_are_left_out(load):
    rows = [{"text": f" {EVAL[0]['text'].upper()}!"}, {"text": "more"}, EVAL[1]]
    splits, summary = load(unlabelled=rows)
    assert list(splits["unlabelled"].texts) == ["more"]
    assert summary.rows["unlabelled"] == 1
    assert "unlabelled: 2 rows occur in dev or eval and are left out" in summary.warnings
    found = load(unlabelled=[{"text": "Bright"}, rows[1]], train=TRAIN * 20, dev="train.jsonl")
    assert list(found[0]["unlabelled"].texts) == ["more"]
    assert "unlabelled: 1 row occurs in dev or eval and is left out" in found[1].warnings
    assert not any("unlabelled" in each for each in load(unlabelled=[rows[1]])[1].warnings)


def test_which_unlabelled_rows_are_left_out_has_a_digest(load):
    rows = [EVAL[0], {"text": "more"}, EVAL[1]]
    one, other, none = (
        load(unlabelled=rows, evaluation=[*EVAL[:at], *[{"text": "x", "label": "bad"}] * 2])[1]
        for at in (2, 1, 0)
    )
    assert len({summary.left_out["unlabelled"] for summary in (one, other)}) == 2
    assert none.left_out == {}


def test_unlabelled_rows_that_are_all_held_out_are_refused(load):
    with pytest.raises(DataError, match="all unlabelled rows occur in dev or eval as well"):
        load(unlabelled=EVAL)


def test_a_label_without_eval_rows_is_said(load):
    assert "eval: no row has the label 'good'" in load(evaluation=EVAL[:1])[1].warnings


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"train": ""}, "train.jsonl: the train split is empty"),
        ({"evaluation": ""}, "eval.jsonl: the eval split is empty"),
        (
            {"train": [{"text": "x", "label": None}, {"text": "", "label": "x"}]},
            "the train split has no usable rows: 1 row without a label, 1 row without text",
        ),
        ({"train": [{"text": 5, "label": "x"}]}, "no usable rows: 1 row whose text is of type int"),
        (
            {"train": [{"sentence": "a", "label": "x"}]},
            "no column 'text'; the file has sentence, label",
        ),
        ({"label": "stars"}, "train.jsonl: no column 'stars'; the file has text, label"),
        ({"label": "none"}, "the file has text, label; for rows without labels, write label: null"),
        ({"train": TRAIN[:1]}, "train.jsonl: train has only the class 'bad'"),
        (
            {"evaluation": [{"text": "x", "label": "ugly"}]},
            "eval.jsonl: eval has the label 'ugly', which does not occur in train",
        ),
        ({"train": "no json at all\n"}, "train.jsonl: cannot be read:"),
        ({"train": jsonl(TRAIN) + '{"text": "cut'}, "train.jsonl: cannot be read:"),
        (
            {"train": [{"text": f"t{n}", "label": f"l{n}"} for n in range(1001)]},
            "train has 1001 different labels; check 'data.label'",
        ),
        ({"ending": "txt"}, "train.txt: unknown file format; use one of the extensions .jsonl"),
    ],
)
def test_data_that_does_not_fit_is_refused_in_one_line(load, files, message):
    with pytest.raises(DataError) as caught:
        load(**files)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
    assert caught.value.exit_code == 2


def test_a_missing_file_names_its_key(tmp_path):
    (tmp_path / "train.jsonl").write_text(jsonl(TRAIN))
    with pytest.raises(DataError, match=r"data\.eval: gone\.jsonl: no such file"):
        data.locate(Data(train="train.jsonl", eval="gone.jsonl"), tmp_path)


def test_a_file_that_changes_while_it_is_read_is_noticed(load, tmp_path):
    load()
    recipe = Data(train="train.jsonl", eval="eval.jsonl")
    located = data.locate(recipe, tmp_path)
    (tmp_path / "train.jsonl").write_text(jsonl(TRAIN).replace("dull", "gray"))
    with pytest.raises(DataError, match="changed while it was read; run again"):
        data.load(recipe, TEXT_CLASSIFICATION.reader, located)


def test_the_digest_knows_every_byte_and_how_it_is_read(tmp_path):
    (tmp_path / "rows.jsonl").write_text(jsonl(TRAIN))
    recipe = Data(train="rows.jsonl", eval="rows.jsonl")
    first = data.digest(recipe, data.locate(recipe, tmp_path))
    assert first == data.digest(recipe, data.locate(recipe, tmp_path))
    other = Data(train="rows.jsonl", eval="rows.jsonl", max_length=64)
    assert data.digest(other, data.locate(other, tmp_path)) != first
    (tmp_path / "rows.jsonl").write_text(jsonl(TRAIN).replace("dull", "gray"))
    assert data.digest(recipe, data.locate(recipe, tmp_path)) != first


OPTIONS = {
    "text": "review",
    "label": "mood",
    "group": "query",
    "id": "key",
    "negatives": "not",
    "slices": ("source",),
    "max_length": 64,
    "long_texts": "windows",
    "dev": "10 %",
    "labels": ("good", "bad"),
}
FILES = {"train", "eval", "unlabelled", "corpus"}
"""The options that say where rows are, whose bytes are in the digest."""


def test_the_digest_knows_every_option_of_reading_and_its_version(tmp_path, monkeypatch):
    (tmp_path / "rows.jsonl").write_text(jsonl(TRAIN))
    assert set(OPTIONS) | FILES == set(Data.model_fields)
    plain = Data(train="rows.jsonl", eval="rows.jsonl")
    located = data.locate(plain, tmp_path)
    changed = [plain.model_copy(update={name: value}) for name, value in OPTIONS.items()]
    digests = {data.digest(recipe, located) for recipe in (plain, *changed)}
    monkeypatch.setattr(data, "READING", data.READING + 1)
    assert len({*digests, data.digest(plain, located)}) == 2 + len(OPTIONS)


def test_rows_keep_their_ids_wherever_they_are_moved(load):
    rows = [
        {"text": f"{t} {t}{at}", "label": t, "key": f"{t}{at}"}
        for at in range(40)
        for t in ("a", "b")
    ]
    unlabelled = [{"text": "new", "key": "n1"}, {"text": "newer", "key": None}]
    splits, _ = load(rows, rows[:4], unlabelled=unlabelled, id="key", dev="10 %")
    for name in ("train", "dev", "eval"):
        split = splits[name]
        assert [text.split()[1] for text in split.texts] == list(split.ids)
    assert list(splits["unlabelled"].ids) == ["n1", ""]
    with pytest.raises(DataError, match="no column 'nothing'"):
        load(rows, rows[:4], id="nothing")
    other = [row | {"text": f"another {row['text']}"} for row in rows[:4]]
    with pytest.raises(DataError, match="the id 'a0' stands for two texts"):
        load(rows, other, id="key")


def test_a_label_that_leaves_train_with_its_group_is_said(load):
    rows = [{"text": f"row {at}", "label": "abc"[at % 2 if at else 2]} for at in range(600)]
    said = "train: all rows with the label 'c' became development rows with their groups"
    seen = set()
    for place in range(60):  # the one row with that label is in one group after another
        moved = [row | {"user": f"u{(at // 10 + place) % 60}"} for at, row in enumerate(rows)]
        splits, summary = load(moved, moved[:2], group="user")
        lost = 2 not in splits["train"].labels
        assert lost == any(note.startswith(said) for note in summary.warnings)
        seen.add(lost)
    assert seen == {True, False}


def test_dates_are_labels_texts_slices_and_groups(load):
    rows = [
        {"text": f"2020-01-{at:02d}", "label": f"2020-01-0{1 + at % 2}", "day": "2020-01-01"}
        for at in range(1, 21)
    ]
    splits, summary = load(rows, rows, slices=("day",))
    assert summary.labels == ["2020-01-01", "2020-01-02"]
    assert list(splits["eval"].texts) == [row["text"] for row in rows]
    assert set(splits["eval"].columns["day"]) == {"2020-01-01"}


def test_rows_without_a_group_are_cut_off_each_for_itself(load):
    """One group of them would be 300 rows of dev, or none."""
    rows = [{"text": f"row {at}", "label": "ab"[at % 2], "user": None} for at in range(300)]
    rows += [row | {"text": f"{row['text']} more", "user": f"u{at}"} for at, row in enumerate(rows)]
    again = [row | {"text": row["text"].upper()} for row in rows[:300]]
    evaluation = [{"text": "x", "label": "a", "user": None}]
    splits, _ = load([*rows, *again], evaluation, group="user", slices=("user",))
    train, dev = splits["train"], splits["dev"]
    assert len(train) + len(dev) == 900
    assert 40 <= len(dev) <= 50
    sides = [{text.lower() for text in split.texts} for split in (train, dev)]
    assert not sides[0] & sides[1], "rows of the same text are on one side"
    missing = sum(group.startswith("(none)") for group in dev.groups)
    assert 0 < missing < len(dev)
    assert splits["eval"].columns == {"user": ["(none)"]}


def test_slice_columns_are_read_of_eval_alone(load):
    rows = [row | {"source": source} for row, source in zip(EVAL, ("web", None), strict=True)]
    splits, _ = load(evaluation=rows, slices=("source",))
    assert splits["eval"].columns == {"source": ["web", "(none)"]}
    assert splits["eval"].labels == [0, 1]
    assert splits["train"].columns == {}


def test_a_missing_slice_column_is_named(load):
    with pytest.raises(
        DataError, match=r"eval\.jsonl: no column 'source'; the file has text, label"
    ):
        load(slices=("source",))


def test_a_new_slice_is_another_digest(tmp_path):
    (tmp_path / "rows.jsonl").write_text(jsonl(TRAIN))
    plain, sliced = (
        Data(train="rows.jsonl", eval="rows.jsonl", slices=slices) for slices in ((), ("text",))
    )
    located = data.locate(plain, tmp_path)
    assert data.digest(plain, located) != data.digest(sliced, located)


def test_a_split_s_record_is_its_bytes(load, tmp_path):
    record = load()[0]["train"].record()
    assert record.sha256 == file_sha256(tmp_path / "train.jsonl")
    assert (record.name, record.split, record.rows) == ("train.jsonl", "train", 2)


def test_grades_of_dev_are_shares_of_the_greatest_in_train(tmp_path):
    """The loss on dev, by which weights are kept, asks for the same scores as training does."""
    for name, greatest in (("train.jsonl", 3), ("eval.jsonl", 1), ("two.jsonl", 2)):
        grades = [min(at % 4, greatest) for at in range(40)]
        rows = [
            {"query": f"q{at // 4}", "text": f"p {at}", "grade": grades[at]} for at in range(40)
        ]
        (tmp_path / name).write_text(jsonl(rows))
    columns = {"text": ("query", "text"), "label": "grade", "group": "query"}
    for dev in ("two.jsonl", "train.jsonl"):
        recipe = Data(train="train.jsonl", dev=dev, eval="eval.jsonl", **columns)
        splits, _ = data.load(recipe, REGRESSION.reader, data.locate(recipe, tmp_path))
        assert splits["dev"].greatest_label == 3


def many_rows(count):
    """Return rows of two labels, the second of every fourth; each text stands there twice."""
    rows = []
    for at in range(count):
        label = "bad" if at % 4 else "good"
        rows.append({"text": f"row {at // 8} {label}", "label": label, "user": f"u{at // 20}"})
    return rows


def test_the_eval_rows_can_be_cut_from_train(load):
    splits, summary = load(many_rows(400), None, eval="20 %")
    train, dev, evaluation = splits["train"], splits["dev"], splits["eval"]
    assert 70 <= len(evaluation) <= 90
    assert len(train) + len(dev) + len(evaluation) == 400
    assert summary.rows == {name: len(split) for name, split in splits.items()}
    shares = [split.labels.count(1) / len(split) for split in (train, evaluation)]
    assert shares == pytest.approx([0.25, 0.25], abs=0.05), "stratified"
    texts = [set(split.texts) for split in (train, dev, evaluation)]
    assert not texts[2] & (texts[0] | texts[1]), "rows with one text are on one side"
    again = load(many_rows(400), None, eval="20 %")[0]["eval"]
    assert (list(again.texts), again.sha256) == (list(evaluation.texts), evaluation.sha256)
    other = load(many_rows(400), None, eval="30 %")[0]
    assert other["eval"].sha256 != evaluation.sha256
    assert other["dev"].sha256 != dev.sha256, "dev is cut from what eval leaves"


def test_eval_rows_of_a_group_stay_together_and_keep_their_slices(load):
    splits, _ = load(many_rows(400), None, eval="20 %", group="user", slices=("user",))
    evaluation = splits["eval"]
    assert not set(evaluation.groups) & {*splits["train"].groups, *splits["dev"].groups}
    assert evaluation.columns == {"user": list(evaluation.groups)}
    assert splits["train"].columns == splits["dev"].columns == {}


def test_texts_that_count_as_duplicates_are_on_one_side(load):
    rows = []
    for at in range(100):
        for text in (f"row {at}", f"ROW {at}!"):
            rows.append({"text": text, "label": "ab"[at % 2]})
    _, summary = load(rows, None, eval="20 %")
    (repeated,) = summary.warnings  # none of them is in train too
    assert "20 of 40 rows repeat others" in repeated


def test_a_label_that_the_cut_takes_from_train_or_leaves_out_of_eval_is_said(load):
    rare = [{"text": f"row {at}", "label": "rare" if at < 2 else "b"} for at in range(200)]
    warnings = load(rare, None, eval="20 %")[1].warnings
    assert "eval: no row has the label 'rare'; give a file, or a larger share" in warnings
    groups = [
        {"text": f"row {at}", "label": f"l{at // 20}", "user": f"u{at // 20}"} for at in range(200)
    ]
    said = " ".join(load(groups, None, eval="20 %", group="user")[1].warnings)
    assert "became eval rows with their groups; give data.eval" in said


def test_half_a_surrogate_pair_is_no_text(load):
    rows = [*many_rows(8), {"text": "broken \ud800", "label": "bad"}]
    splits, summary = load(rows)
    assert not any("broken" in text for text in (*splits["train"].texts, *splits["dev"].texts))
    assert any("whose text is not valid Unicode" in warning for warning in summary.warnings)


def test_half_a_surrogate_pair_is_no_label(load):
    rows = [*many_rows(8), {"text": "broken", "label": "bad \ud800"}]
    with pytest.raises(DataError, match=r"the label 'bad \\ud800' is not valid Unicode"):
        load(rows)


def test_more_than_2000_eval_rows_can_be_cut(load):
    rows = [{"text": f"row {at}", "label": "ab"[at % 2]} for at in range(5000)]
    splits, _ = load(rows, None, eval="50 %")
    assert len(splits["eval"]) == 2500


def test_rows_that_cannot_be_divided_are_refused(load):
    fault = r"data\.eval: train is too small to spare rows \(2 rows\); give a file"
    with pytest.raises(DataError, match=fault):
        load(TRAIN, None, eval="20 %")


def test_a_share_of_train_searches_no_corpus(tmp_path):
    (tmp_path / "train.jsonl").write_text(jsonl([{"query": "a", "positive": "b"}]))
    (tmp_path / "corpus.jsonl").write_text(jsonl([{"id": "b", "text": "b"}]))
    recipe = Data(
        train="train.jsonl",
        eval="20 %",
        text=("query", "positive"),
        label=None,
        corpus="corpus.jsonl",
    )
    with pytest.raises(DataError, match=r"data\.eval: a share of train cannot search a corpus"):
        data.load(recipe, SENTENCE_EMBEDDINGS.reader, data.locate(recipe, tmp_path))


def test_only_the_eval_rows_are_returned_for_a_model_that_exists(tmp_path):
    (tmp_path / "train.jsonl").write_text(jsonl(many_rows(400)))
    recipe = Data(train="train.jsonl", eval="20 %")
    files = data.locate(recipe, tmp_path)
    reader = TEXT_CLASSIFICATION.reader
    rows = data.evaluated(recipe, reader, files, ["good", "bad"], [])
    same = data.load(recipe, reader, files)[0]["eval"]
    assert list(rows.texts) == list(same.texts)
    assert [1 - label for label in rows.labels] == list(same.labels), "by the model's order"


def test_the_eval_rows_of_each_label_and_slice_are_counted(load):
    rows = [{"text": f"t{at}", "label": "ab"[at % 2], "source": "xxy"[at % 3]} for at in range(12)]
    _, summary = load(rows, rows[:9], slices=("source",))
    assert summary.marked == {"a": 5, "b": 4}
    assert summary.slices == {"source": {"x": 6, "y": 3}}
