"""A bundle used from Python."""

from __future__ import annotations

import numpy as np
import pytest

from rarefy.pipeline.model.runtime import bundle_model
from rarefy.pipeline.model.runtime.bundle_model import BundleModel
from rarefy.pipeline.release import predict as answering
from rarefy.pipeline.release.predict import Bundle
from rarefy.pipeline.terms.errors import DataError, RecipeError
from tests.models import probabilities
from tests.pipeline.measure import bundles
from tests.project import Project


def test_any_number_of_rows_is_answered_in_order(made: Project):
    model = Bundle(made.home / "runs" / "tiny" / "bundle")
    texts = [f"{word} film " * (1 + number % 5) for number in range(70) for word in ("a", "dull")]
    answers = model.predict(iter(texts), batch_size=8)
    plain = probabilities(model.files.directory, texts)
    assert len(answers) == len(texts)
    assert [list(a.probabilities) for a in answers[:1]] == [list(model.labels)]
    np.testing.assert_allclose([[*a.probabilities.values()] for a in answers], plain, atol=1e-5)
    alone = model.predict(texts[:9], batch_size=1)
    assert [[*a.probabilities.values()] for a in alone] == plain[:9].tolist()
    assert model.predict([]) == []
    for texts, pairs, said in (
        (["a", "b"], ["c"], "more texts"),
        (["a"], iter("bc"), "more pairs"),
    ):
        with pytest.raises(DataError, match=f"there are {said} than "):
            model.predict(texts, pairs)


def test_windows_of_rows_are_answered_one_after_the_other(made: Project, monkeypatch):
    monkeypatch.setattr("rarefy.pipeline.release.predict.WINDOW", 4)
    model = Bundle("tiny", home=made.home)
    texts = [f"film {number}" for number in range(11)]
    told: list[float] = []
    answers = model.predict(texts, progress=lambda done, total, note: told.append(done))
    assert told == [4, 8, 11]
    assert answers == [one for text in texts for one in model.predict([text])]


def test_no_more_long_texts_are_tokenized_at_once_than_memory_has_room_for(monkeypatch):
    monkeypatch.setattr(answering, "CHARACTERS", 100)
    rows = [("film " * 8, None)] * 2 + [("film " * 4, "film " * 4)] * 3 + [("film " * 40, None)] * 2
    gathered = [*answering.windows(iter(rows))]
    assert [len(each) for each in gathered] == [3, 3, 1]
    assert [row for each in gathered for row in each] == rows


def test_rows_of_one_length_share_a_call_if_they_do_not_interact(made: Project, monkeypatch):
    model = Bundle("tiny", home=made.home)
    rows: list[int] = []
    run = BundleModel.run

    def counted(self, feed):
        rows.append(len(feed["input_ids"]))
        return run(self, feed)

    monkeypatch.setattr(BundleModel, "run", counted)
    model.predict(["a film"] * 40)
    assert rows == [32, 8]
    rows.clear()
    length = len(model._model.asked(["a film"])[0][0]["input_ids"][0])
    monkeypatch.setattr(answering, "TOKENS", 5 * length)  # memory grows with long rows
    model.predict(["a film"] * 12)
    assert rows == [5, 5, 2]
    rows.clear()
    monkeypatch.setattr(BundleModel, "rows_interact", True)
    model = Bundle("tiny", home=made.home)
    model.predict(["a film"] * 3)
    assert rows == [1, 1, 1]


def test_the_graph_s_file_is_read_once_and_not_at_every_call(made: Project, monkeypatch):
    model, reads, contains = Bundle("tiny", home=made.home), [], bundle_model.contains

    def counted(*given):
        reads.append(given)
        return contains(*given)

    monkeypatch.setattr(bundle_model, "contains", counted)
    for _ in range(3):
        model.predict(["a film"])
    assert len(reads) == 1


def test_a_bundle_answers_on_the_provider_that_it_was_exported_for(tmp_path):
    pytest.importorskip("openvino")
    made = bundles.make(tmp_path / "bundle", providers=["OpenVINO"])
    own, told = Bundle(made), Bundle(made, provider="cpu")
    assert (own.provider, told.provider) == ("openvino", "cpu")
    ours, theirs = (
        [[*one.probabilities.values()] for one in model.predict(bundles.texts(), batch_size=1)]
        for model in (own, told)
    )
    np.testing.assert_allclose(ours, theirs, atol=2e-2)  # bf16, where the CPU has it


@pytest.mark.parametrize("given", [None, 7, ["new", "york"], "\ud800"])
def test_what_is_no_text_is_refused_and_not_answered(made: Project, given) -> None:
    model = Bundle("tiny", home=made.home)
    with pytest.raises(DataError, match=r"not text|not valid Unicode"):
        model.predict(["a film", given])


def test_a_single_text_and_no_batch_are_refused(made: Project):
    model = Bundle("tiny", home=made.home)
    for single in ("A fine film.", None, 5):
        with pytest.raises(DataError, match="put a single text into a list"):
            model.predict(single)
    with pytest.raises(RecipeError, match="batch_size: 0"):
        model.predict(["A fine film."], batch_size=0)
