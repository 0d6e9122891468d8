"""What is written is what is read."""

from __future__ import annotations

import pytest
import torch

from rarefy.pipeline.store.artifact import Kind
from rarefy.pipeline.terms.errors import DataError
from rarefy.stages.transfer import files as transfer_set
from tests.models import artifact_of


def test_texts_and_pairs_come_back_in_their_order(tmp_path):
    rows = [("naïve “text”", "a\nb"), ("two", "three")]
    assert transfer_set.write(tmp_path, rows) == {"texts.jsonl": "texts"}
    artifact = artifact_of(tmp_path, Kind.TRANSFER_SET)
    split = transfer_set.split(artifact, tmp_path / "work")
    assert list(zip(split.texts, split.pairs, strict=True)) == rows
    assert split.sha256 == artifact.digest
    assert [len(each) for each in transfer_set.splits(artifact, tmp_path / "again")] == [2]


def test_single_texts_have_no_pairs(tmp_path):
    transfer_set.write(tmp_path, [("one", None)])
    split = transfer_set.split(artifact_of(tmp_path, Kind.TRANSFER_SET), tmp_path / "work")
    assert split.pairs is None


def test_answers_are_kept_in_half_precision(tmp_path):
    outputs = {"train": torch.randn(5, 3), "transfer": torch.randn(2, 3)}
    transfer_set.write_answers(tmp_path, outputs)
    artifact = artifact_of(tmp_path, Kind.TRANSFER_SET)
    found = transfer_set.answers(artifact)
    assert found.keys() == outputs.keys()
    assert {each.dtype for each in found.values()} == {torch.float16}
    assert all(torch.allclose(found[name].float(), outputs[name], rtol=1e-3) for name in outputs)
    assert not transfer_set.splits(artifact, tmp_path)
    assert not transfer_set.splits(None, tmp_path)


def test_answers_alone_are_no_texts_to_add_or_to_answer(tmp_path, make_context):
    transfer_set.write_answers(tmp_path, {"train": torch.randn(5, 3)})
    context = make_context(rows=4, artifacts={"label": artifact_of(tmp_path, Kind.TRANSFER_SET)})
    with pytest.raises(DataError, match="'label' has answers but no texts; name an augment stage"):
        transfer_set.named(context, "label")


def test_texts_alone_have_no_answers(tmp_path):
    transfer_set.write(tmp_path, [("one", None)])
    assert not transfer_set.has_answers(artifact_of(tmp_path, Kind.TRANSFER_SET))


def test_large_scores_are_kept_as_they_are(tmp_path, monkeypatch):
    monkeypatch.setattr(transfer_set, "CHUNK", 2)
    scores = torch.tensor([[1.5], [1.5], [1.5], [1999.25], [70_000.0]])
    transfer_set.write_answers(tmp_path, {"train": scores})
    found = transfer_set.answers(artifact_of(tmp_path, Kind.TRANSFER_SET))
    assert torch.equal(found["train"], scores)


def test_words_that_were_cut_off_have_no_answer(tmp_path):
    outputs = torch.tensor([[1.0, 2.0], [float("nan"), float("nan")]])
    transfer_set.write_answers(tmp_path, {"train": outputs})
    found = transfer_set.answers(artifact_of(tmp_path, Kind.TRANSFER_SET))["train"]
    assert torch.equal(found[0], outputs[0])
    assert found[1].isnan().all()


def test_what_is_made_of_the_data_alone_is_planned_before_its_input_is_there(workshop):
    before = workshop.open("augment").plan.steps()[-1].fingerprint
    assert before is not None
    assert workshop.open("quick:Head", "augment").plan.steps()[-1].fingerprint == before
