"""A transfer set of new texts, none of which stands in the recipe's data."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from pydantic import ValidationError

from rarefy.pipeline.data.split import Split, normalized
from rarefy.pipeline.store.artifact import Kind
from rarefy.pipeline.tasks.classification.text import TEXT_CLASSIFICATION
from rarefy.pipeline.tasks.embeddings.task import SENTENCE_EMBEDDINGS
from rarefy.pipeline.tasks.token_classification.task import TOKEN_CLASSIFICATION
from rarefy.pipeline.terms.errors import DataError, RecipeError
from rarefy.stages.augment import Augment
from rarefy.stages.augment.stage import TextFile
from rarefy.stages.transfer import files as transfer_set
from tests.models import artifact_of

TRAIN = [
    "I liked the first half, but the ending was weak.",
    "A dull film, although nobody in it is to blame.",
    "The sound was bad and the light was worse.",
]


def split(name, texts, pairs=None):
    labels = [0] * len(texts) if name != "unlabelled" else None
    return Split(name, f"{name}.jsonl", "0" * 64, texts, pairs, labels)


def of(train, dev=("other words here",), evaluated=("more words there",)):
    return {
        "train": split("train", train),
        "dev": split("dev", dev),
        "eval": split("eval", evaluated),
    }


@pytest.fixture
def made(make_context, tuned):
    """Run the stage on these rows; return its artifact, and its counts by name."""

    def run(splits, **parameters):
        context = make_context(splits=splits)
        draft = Augment(**parameters).run(context, tuned)
        artifact = artifact_of(context.output, Kind.TRANSFER_SET)
        rows = transfer_set.split(artifact, context.work)
        counts = {metric.name: metric.value for metric in draft.metrics}
        assert draft.model["texts"] == counts["texts"] == len(rows)
        return rows, counts

    return run


def test_every_text_is_new_and_there_once(made):
    rows, counts = made(of(TRAIN), spans=20, splices=10)
    texts = [normalized(text) for text in rows.texts]
    assert len(set(texts)) == len(texts)
    assert not {normalized(text) for text in TRAIN} & set(texts)
    assert counts["spans"] + counts["clauses"] + counts["splices"] == len(texts)
    assert min(counts[kind] for kind in ("spans", "clauses", "splices")) > 0
    assert counts["repeated"] > 0
    assert rows.labels is None


def test_rows_of_eval_and_dev_are_left_out_and_counted(made):
    seen = "but THE ending: was weak"
    rows, counts = made(of(TRAIN, dev=["a dull film"], evaluated=[seen]), spans=0, splices=0)
    assert normalized(seen) not in {normalized(text) for text in rows.texts}
    assert counts["in_eval"] == counts["in_dev"] == 1
    _, free = made(of(TRAIN), spans=0, splices=0)
    assert free["texts"] == counts["texts"] + 2
    assert "in_eval" not in free


def test_the_same_seed_makes_the_same_texts(made):
    one, _ = made(of(TRAIN))
    assert list(one.texts) == list(made(of(TRAIN))[0].texts)


def test_at_most_as_many_as_asked_are_made_from_all_rows(made):
    texts = [f"{word} is one thing and {word} is another" for word in map(str, range(200))]
    rows, _ = made(of(texts), max_texts=100)
    assert 60 <= len(rows) <= 100
    numbers = [int(word) for text in rows.texts for word in text.split() if word.isdigit()]
    assert min(numbers) < 20
    assert max(numbers) >= 180


def test_rows_with_many_clauses_leave_the_last_rows_their_share(made):
    texts = [", ".join(f"{row} is {place}" for place in range(40)) for row in range(50)]
    texts += [f"end {row} is one, end {row} is two" for row in range(50)]
    rows, _ = made(of(texts), max_texts=500, spans=4, splices=0)
    assert len(rows) > 450
    assert 30 < sum("end" in text for text in rows.texts) < 130


def test_of_a_pair_one_text_is_cut_and_the_other_stays(made):
    pairs = [f"the answer number {place} is long enough" for place in range(12)]
    splits = {
        "train": split("train", TRAIN * 4, pairs),
        "dev": split("dev", ["a b"], ["c d"]),
        "eval": split("eval", ["e f"], ["g h"]),
    }
    rows, _ = made(splits)
    whole = [
        (text in TRAIN, pair in pairs) for text, pair in zip(rows.texts, rows.pairs, strict=True)
    ]
    assert set(whole) == {(True, False), (False, True)}


def test_the_words_of_a_tagged_sentence_stay_words(make_context, tuned):
    sentence = "Mr. Smith ( of London ) left , and nobody saw him ."
    context = make_context(
        splits=of([sentence]), task=TOKEN_CLASSIFICATION.bind(("O", "B-PER"), 32, ("tokens",))
    )
    Augment(spans=20, splices=0).run(context, tuned)
    rows = transfer_set.split(artifact_of(context.output, Kind.TRANSFER_SET), context.work)
    assert {word for text in rows.texts for word in text.split()} <= set(sentence.split())


def write(folder, texts):
    lines = [json.dumps({"text": text}) + "\n" for text in texts]
    (folder / "more.jsonl").write_text("".join(lines))


def test_files_add_the_texts_that_read_most_like_the_training_rows(make_context, tuned):
    context = make_context(splits=of(TRAIN))
    write(context.base, ["Stocks fell on Monday", "the film was dull", "", "rain in the north"])
    stage = Augment(texts=(TextFile(file="more.jsonl", rows=1),), spans=0, splices=0, clauses=False)
    assert [path.name for path in stage.files(context.base)] == ["more.jsonl"]
    draft = stage.run(context, tuned)
    rows = transfer_set.split(artifact_of(context.output, Kind.TRANSFER_SET), context.work)
    assert list(rows.texts) == ["the film was dull"]
    counts = {metric.name: metric.value for metric in draft.metrics}
    assert counts == {"texts": 1, "from_files": 1, "without_text": 1}


def test_both_texts_of_a_pair_say_how_near_it_is(make_context, tuned):
    splits = {name: split(name, [f"{name} one"], [f"{name} two"]) for name in ("dev", "eval")}
    splits["train"] = split("train", ["Is this good?"] * 3, TRAIN)
    task = TEXT_CLASSIFICATION.bind(("no", "yes"), 32, ("question", "text"))
    context = make_context(splits=splits, task=task)
    found = [
        {"question": "Is this good?", "text": text} for text in ("rain in the north", "a dull film")
    ]
    (context.base / "more.jsonl").write_text("".join(json.dumps(row) + "\n" for row in found))
    stage = Augment(texts=(TextFile(file="more.jsonl", rows=1),), spans=0, splices=0, clauses=False)
    stage.run(context, tuned)
    rows = transfer_set.split(artifact_of(context.output, Kind.TRANSFER_SET), context.work)
    assert list(rows.pairs) == ["a dull film"]


def test_any_rows_of_a_file_can_be_chosen_and_others_with_another_seed(make_context, tuned):
    found = {}
    for seed in (0, 0, 1):
        context = replace(make_context(splits=of(TRAIN)), seed=seed)
        write(context.base, [f"text number {at}" for at in range(100)])
        texts = (TextFile(file="more.jsonl", rows=10, choose="random"),)
        Augment(texts=texts, spans=0, splices=0, clauses=False).run(context, tuned)
        artifact = artifact_of(context.output, Kind.TRANSFER_SET)
        rows = list(transfer_set.split(artifact, context.work).texts)
        assert len(set(rows)) == 10
        assert found.setdefault(seed, rows) == rows
    assert found[0] != found[1]


def test_rows_can_be_chosen_only_if_not_all_are_taken():
    with pytest.raises(ValidationError, match="'choose' needs 'rows'"):
        TextFile(file="more.jsonl", choose="random")


def test_nothing_to_make_is_refused():
    nothing = {"spans": 0, "clauses": False, "splices": 0}
    with pytest.raises(ValidationError, match="nothing to make: give 'spans', 'clauses'"):
        Augment(**nothing)
    for given in ({"splices": 1}, {"texts": ({"file": "more.jsonl"},)}):
        Augment(**nothing | given)


def test_known_and_repeated_rows_are_none_of_those_asked_for(make_context, tuned):
    context = make_context(splits=of(TRAIN))
    texts = ["rain in the north", *TRAIN, *TRAIN, "A dull film", "a DULL film", "the film is good"]
    write(context.base, texts)
    stage = Augment(texts=(TextFile(file="more.jsonl", rows=2),), spans=0, splices=0, clauses=False)
    draft = stage.run(context, tuned)
    rows = transfer_set.split(artifact_of(context.output, Kind.TRANSFER_SET), context.work)
    assert list(rows.texts) == ["A dull film", "the film is good"]
    counts = {metric.name: metric.value for metric in draft.metrics}
    assert counts == {"texts": 2, "from_files": 2, "in_train": 6, "repeated": 1}


def test_of_models_that_read_texts_alone_no_text_of_eval_is_used(make_context, tuned):
    splits = {name: split(name, [f"{name} one"], [f"{name} two"]) for name in ("dev", "eval")}
    splits["train"] = split("train", TRAIN, TRAIN)
    task = SENTENCE_EMBEDDINGS.bind((), 32, ("first", "second"))
    context = make_context(splits=splits, task=task)
    found = [{"first": "Eval two!", "second": "new"}, {"first": "new", "second": "words"}]
    (context.base / "more.jsonl").write_text("".join(json.dumps(row) + "\n" for row in found))
    stage = Augment(texts=(TextFile(file="more.jsonl"),), spans=0, splices=0, clauses=False)
    counts = {metric.name: metric.value for metric in stage.run(context, tuned).metrics}
    assert counts == {"texts": 1, "from_files": 1, "in_eval": 1}


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([{"other": "x"}], r"more.jsonl: no column 'text'; the file has other"),
        ([{"text": " "}], r"more.jsonl: no row has a text"),
    ],
)
def test_a_file_without_texts_is_refused(make_context, tuned, rows, message):
    context = make_context(splits=of(TRAIN))
    (context.base / "more.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.raises(DataError, match=message):
        Augment(texts=(TextFile(file="more.jsonl"),)).run(context, tuned)


def test_rows_that_give_nothing_new_are_refused(make_context, tuned):
    with pytest.raises(DataError, match="no new text: the rows are too short to cut"):
        Augment(splices=0).run(make_context(splits=of(["good", "bad"])), tuned)


def test_a_missing_file_is_refused_before_the_run(workshop):
    with pytest.raises(DataError, match=r"augment.texts: gone.jsonl: no such file"):
        workshop.open({"augment": {"texts": [{"file": "gone.jsonl"}]}}).plan.steps()


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("more.txt", "a text", r"more.txt: unknown file format; use one of the extensions .jsonl"),
        ("more.csv", "", r"more.csv: the unlabelled split is empty"),
    ],
)
def test_a_file_of_no_known_format_is_refused_before_the_run(workshop, name, content, message):
    (workshop.folder / name).write_text(content)
    with pytest.raises(DataError, match=message):
        workshop.open({"augment": {"texts": [{"file": name}]}}).plan.steps()


def test_answers_without_texts_are_refused(workshop):
    said = r"trial.yaml:\d+: .*transfer: 'label' has answers but no texts; name an augment"
    again = {"label": {"transfer": "label"}, "as": "again"}
    with pytest.raises(RecipeError, match=said):
        workshop.open("quick:Head", "label", again).plan.steps()


def test_the_next_stage_goes_on_from_its_input(workshop):
    finished = workshop.run(
        "quick:Head", "augment", {"distill": {"keep_layers": 1, "transfer": "augment"}}
    )
    made, student = finished["augment"], finished["distill"]
    assert made.artifact.kind is Kind.TRANSFER_SET
    assert made.scores == ()
    parents = {parent.role: parent.digest for parent in student.artifact.manifest.parents}
    assert parents == {"input": finished["head"].artifact.digest, "transfer": made.artifact.digest}


@pytest.mark.parametrize(
    ("stages", "message"),
    [
        (
            ["quick:Head", "augment", {"distill": {"keep_layers": 1, "from": "augment"}}],
            "takes a checkpoint, but 'augment' makes a transfer-set",
        ),
        (
            ["quick:Head", "augment", {"distill": {"teacher": "augment"}}],
            "teacher: 'augment' makes a transfer-set, not a model with a head",
        ),
        (
            ["quick:Head", {"distill": {"keep_layers": 1, "transfer": "head"}}],
            "transfer: 'head' makes a checkpoint, not a transfer-set",
        ),
    ],
)
def test_what_is_no_model_is_no_model(workshop, stages, message):
    entry = stages[-1]["distill"]
    if "from" in entry:
        stages = [*stages[:-1], {"distill": {"keep_layers": 1}, "from": entry.pop("from")}]
    with pytest.raises(RecipeError, match=rf"trial.yaml:\d+: .*{message}"):
        workshop.open(*stages).plan.steps()


def test_texts_are_found_again_beside_another_model(workshop):
    """They are made of the data alone, so a new teacher answers the same ones."""
    first, second = (workshop.run({"quick:Head": {"fill": n}}, "augment") for n in "01")
    assert first["head"].artifact.digest != second["head"].artifact.digest
    assert second["augment"].cached
    assert second["augment"].artifact.manifest.parents == ()
