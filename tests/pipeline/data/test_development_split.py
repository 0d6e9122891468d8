"""The development split: drawn by what rows say, in the shares of their strata, whole groups."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from rarefy.pipeline.data import development_split
from rarefy.pipeline.data.split import Split
from rarefy.pipeline.data.table import Source

FILE = Source("train", "train.jsonl", Path("train.jsonl"), "0" * 64)


def split(texts, labels=None, groups=None, pairs=None):
    return Split("train", "train.jsonl", "0" * 64, texts, pairs, labels, groups=groups)


def cut(rows, strata=(), share=0.1):
    return development_split.cut(rows, strata, share, development_split.source(FILE, share, None))


def test_every_row_is_in_one_split_in_the_order_of_the_file():
    texts = [f"row {at}" for at in range(500)]
    train, dev = cut(
        split(texts, list(range(500)), pairs=[text[::-1] for text in texts]), [0] * 500
    )
    assert (train.name, dev.name) == ("train", "dev")
    assert len(dev) == 50
    assert sorted([*train.texts, *dev.texts]) == sorted(texts)
    assert list(train.labels) == sorted(train.labels)
    assert [texts[at] for at in dev.labels] == list(dev.texts)
    assert [text[::-1] for text in dev.texts] == dev.pairs[:]
    assert dev.sha256 != train.sha256 == "0" * 64


def test_a_rare_class_has_its_share():
    strata = [int(at % 20 == 0) for at in range(2000)]
    _, dev = cut(split([f"row {at}" for at in range(2000)], strata), strata)
    assert Counter(dev.labels) == {0: 190, 1: 10}


def by_rounding(texts, labels, share):
    """Return the development rows of classes that are large enough, found in another way."""
    chosen = set()
    for label in set(labels):
        rows = sorted(
            (development_split._place(text), row)
            for row, text in enumerate(texts)
            if labels[row] == label
        )
        chosen |= {row for _, row in rows[: round(share * len(rows))]}
    return [texts[row] for row in sorted(chosen)]


@pytest.mark.parametrize("classes", [2, 7, 40])
def test_classes_large_enough_give_their_share_rounded(classes):
    sizes = [11 + 5 * label for label in range(classes)]
    labels = [label for label, size in enumerate(sizes) for _ in range(size)]
    texts = [f"row {at}" for at in range(len(labels))]
    _, dev = cut(split(texts, labels), labels, 0.05)
    assert list(dev.texts) == by_rounding(texts, labels, 0.05)


@pytest.mark.parametrize(
    ("classes", "each", "wanted"), [(77, 10, 38), (77, 9, 35), (20, 10, 10), (2, 10, 1)]
)
def test_classes_whose_share_is_not_one_row_give_one_in_turn(classes, each, wanted):
    """All of 77 classes of 10 rows were in dev and in train: 5 % of 10 rows is rounded to none."""
    labels = [at % classes for at in range(classes * each)]
    texts = [f"row {at}" for at in range(len(labels))]
    rows = split(texts, labels)
    train, dev = cut(rows, labels, 0.05)
    assert len(dev) == len(set(dev.labels)) == wanted
    assert sorted([*train.texts, *dev.texts]) == sorted(texts)
    assert development_split.warning(rows, dev, 0.05) is None
    _, again = cut(split(texts[::-1], labels[::-1]), labels[::-1], 0.05)
    assert set(again.texts) == set(dev.texts)


def test_the_largest_of_the_small_classes_come_first_and_large_ones_keep_their_rows():
    sizes = {"large": 1000, **{f"nine {at}": 9 for at in range(4)}, **dict.fromkeys("abcd", 3)}
    labels = [label for label, size in sizes.items() for _ in range(size)]
    texts = [f"row {at}" for at in range(len(labels))]
    _, dev = cut(split(texts, labels), labels, 0.05)
    assert Counter(label[:4] for label in dev.labels) == {"large"[:4]: 50, "nine": 2}
    assert [t for t in dev.texts if int(t[4:]) < 1000] == by_rounding(
        texts[:1000], [0] * 1000, 0.05
    )


def test_a_class_keeps_a_row_to_learn_from():
    labels = [*range(100), *[at % 10 for at in range(40)]]
    train, dev = cut(split([f"row {at}" for at in range(140)], labels), labels, 0.05)
    assert len(dev) == 7
    assert set(train.labels) == set(range(100))


def test_equal_texts_stay_together_and_a_new_row_moves_no_other():
    texts = [f"row {at % 100}" for at in range(1000)]
    train, dev = cut(split(texts))
    assert not set(train.texts) & set(dev.texts)
    _, again = cut(split([*texts[::-1]]))
    assert set(again.texts) == set(dev.texts)


def test_equal_texts_of_other_strata_stay_together_as_well():
    """Each stratum has its own last place, so a text between two of them was on both sides."""
    texts = [f"premise {at // 3}" for at in range(900)]
    labels = [at % 3 for at in range(900)]
    texts += [*(f"other {at}" for at in range(3000)), *(f"another {at}" for at in range(600))]
    labels += [*([0] * 3000), *([1] * 600)]
    train, dev = cut(split(texts, labels), labels, 0.05)
    assert len(dev) == pytest.approx(0.05 * len(texts), rel=0.05)
    assert not set(train.texts) & set(dev.texts)
    assert any(text.startswith("premise") for text in dev.texts)


@pytest.mark.parametrize("often", [400, 40])
def test_a_text_of_other_strata_stays_in_train_if_it_has_far_too_many_rows_or_the_last(often):
    first = min((f"row {at}" for at in range(400)), key=development_split._place)
    texts, labels = [f"row {at}" for at in range(400)], [0] * 400
    texts, labels = [*texts, *[first] * often], [*labels, *[1] * often]
    train, dev = cut(split(texts, labels), labels, 0.05)
    assert first not in dev.texts
    assert set(train.labels) == {0, 1}
    assert len(dev) == 19


def test_a_popular_text_costs_dev_no_other_text():
    """Where it did not fit, all texts that one stratum alone had chosen were left out with it."""
    for seed in range(20):
        questions = [f"question {seed} {at}" for at in range(300) for _ in range(10)]
        texts = [*questions, *[f"popular {seed}"] * 2000]
        labels = [int(at % 10 == 0) for at in range(3000)] + [0] * 1999 + [1]
        rows = split(texts, labels, pairs=[f"answer {at}" for at in range(5000)])
        train, dev = cut(rows, labels, 0.1)
        assert 250 <= len(dev) <= 1000
        assert not set(train.texts) & set(dev.texts)


def aspects(others=()):
    """Return 3,000 pairs whose first text is one of three, each as often in each of three classes.

    With ``others``: further first texts, of rows of their own.
    """
    firsts = [*[f"aspect {at % 3}" for at in range(3000)], *others]
    seconds = [f"review {at}" for at in range(len(firsts))]
    return split(firsts, [at // 3 % 3 for at in range(len(firsts))], pairs=seconds)


@pytest.mark.parametrize("others", [(), ("a",), tuple(f"text {at}" for at in range(600))])
def test_pairs_whose_first_text_many_share_are_told_apart_by_both(others):
    """A third of the rows, all of one aspect, were in dev, and none of them in train."""
    rows = aspects(others)
    train, dev = cut(rows, rows.labels, 0.05)
    assert len(dev) == pytest.approx(0.05 * len(rows), rel=0.1)
    assert set(train.texts) >= {"aspect 0", "aspect 1", "aspect 2"}
    assert len(set(dev.labels)) == 3
    assert development_split.warning(rows, dev, 0.05) is None
    assert not set(zip(train.texts, train.pairs, strict=True)) & set(
        zip(dev.texts, dev.pairs, strict=True)
    )


def test_a_first_text_that_all_rows_have_is_no_reason_to_choose_on_train():
    rows = split(["classify this"] * 400, [0, 1] * 200, pairs=[f"row {at}" for at in range(400)])
    train, dev = cut(rows, rows.labels, 0.05)
    assert (len(train), len(dev)) == (380, 20)


def test_a_class_of_one_text_stays_in_train_and_so_few_rows_are_said():
    texts = [*[f"row {at}" for at in range(40)], *["N/A"] * 400]
    rows = split(texts, [0] * 40 + [1] * 400)
    train, dev = cut(rows, rows.labels, 0.05)
    assert set(train.labels) == {0, 1}
    assert set(dev.labels) == {0}
    said = development_split.warning(rows, dev, 0.05)
    assert "rows with one text stay together: 0.5% of them were cut off, where 5.0%" in said


def test_a_text_that_half_of_a_class_has_is_left_in_train():
    texts = [f"row {at}" if at % 2 else "the same" for at in range(1000)]
    train, dev = cut(split(texts), share=0.05)
    assert len(dev) == 50
    assert "the same" not in dev.texts
    assert not set(train.texts) & set(dev.texts)


def test_groups_are_not_divided():
    groups = [f"user {at // 10}" for at in range(1000)]
    train, dev = cut(split([f"row {at}" for at in range(1000)], groups=groups), [0, 1] * 500)
    assert len(dev) == 100
    assert not set(train.groups) & set(dev.groups)


def large_first(sizes):
    """Return groups of these sizes, of which the largest is the first to be cut off."""
    drawn = sorted((f"user {at}" for at in range(len(sizes))), key=development_split._place)
    named = zip(drawn, sorted(sizes, reverse=True), strict=True)
    return [name for name, size in named for _ in range(size)]


def test_a_group_that_is_far_too_large_is_left_in_training():
    groups = large_first([600, *[2] * 200])
    rows = split([f"row {at}" for at in range(1000)], groups=groups)
    train, dev = cut(rows, share=0.05)
    assert len(dev) == 50
    assert groups[0] not in dev.groups
    assert not set(train.groups) & set(dev.groups)
    assert development_split.warning(rows, dev, 0.05) is None
    _, again = cut(split(rows.texts[::-1], groups=groups[::-1]), share=0.05)
    assert set(again.texts) == set(dev.texts)


def test_groups_of_no_more_than_twice_the_share_are_cut_off_in_their_order():
    groups = large_first([100, *[10] * 90])
    _, dev = cut(split([f"row {at}" for at in range(1000)], groups=groups), share=0.05)
    assert set(dev.groups) == {groups[0]}


@pytest.mark.parametrize(
    ("sizes", "share", "real"), [([400, 350, 250], 0.05, "25.0%"), ([990, 10], 0.3, "1.0%")]
)
def test_groups_that_all_are_too_large_are_said_with_their_share(sizes, share, real):
    rows = split([f"row {at}" for at in range(1000)], groups=large_first(sizes))
    _, dev = cut(rows, share=share)
    assert len(dev) == min(sizes)
    said = development_split.warning(rows, dev, share)
    assert said.startswith(f"dev: whole groups have {real} of the rows, where {share:.1%}"[:-1])


def test_a_tiny_group_that_fits_does_not_stand_in_for_a_large_one():
    """One row without a group beside five groups of 200 was all of dev."""
    rows = split([f"row {at}" for at in range(1001)], groups=large_first([*[200] * 5, 1]))
    _, dev = cut(rows, share=0.05)
    assert sorted(Counter(dev.groups).values()) == [1, 200]
    assert "have 20.1% of the rows, where 5.0%" in development_split.warning(rows, dev, 0.05)


def test_half_as_many_rows_as_asked_for_are_enough():
    groups = large_first([*[195] * 5, 25])
    rows = split([f"row {at}" for at in range(1000)], groups=groups)
    _, dev = cut(rows, share=0.05)
    assert len(dev) == 25
    assert development_split.warning(rows, dev, 0.05) is None


def test_one_group_of_all_rows_stands_in_for_itself():
    rows = split([f"row {at}" for at in range(100)], groups=["one"] * 100)
    train, dev = cut(rows)
    assert len(train) == len(dev) == 100
    assert "all rows of train are in one group ('one')" in development_split.warning(rows, dev, 0.1)


def test_many_rows_spare_no_more_than_are_needed():
    train, dev = cut(split([f"row {at}" for at in range(30_000)]))
    assert len(dev) == development_split.MOST
    assert len(train) == 28_000


@pytest.mark.parametrize("texts", [["one", "two"], ["same"] * 40])
def test_too_few_rows_stand_in_for_themselves(texts):
    train, dev = cut(split(texts))
    assert list(train.texts) == list(dev.texts) == texts
    said = development_split.warning(split(texts), dev, 0.1)
    assert ("have one text ('same')" in said) == ("same" in texts)


def test_the_digest_says_how_it_was_cut_and_by_which_version(monkeypatch):
    ways = ((0.05, None), (0.1, None), (0.1, "user"))
    made = {development_split.source(FILE, *way).sha256 for way in ways}
    monkeypatch.setattr(development_split, "VERSION", development_split.VERSION + 1)
    assert len(made | {development_split.source(FILE, *way).sha256 for way in ways}) == 6
