"""Where a bundle comes from: found in the runs and in the store."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil

import pytest

from pipeline.release import bundles, provenance
from pipeline.run import folder, names
from pipeline.store.home import Home
from pipeline.verdict import history
from pipeline.verdict.provenance import Provenance
from tests.desk import Desk
from tests.pipeline.store.artifacts import damage


def test_a_run_s_bundle_knows_run_model_and_stages(desk: Desk) -> None:
    home = Home(desk.home)
    bundle = bundles.find("tiny", home)
    found = provenance.of(bundle, home)
    assert found.run == desk.run
    assert found.record is not None
    assert found.record.name == "tiny"
    assert (found.model, found.base) == ("encoder", None)
    assert found.stages == ("import", "head", "export")
    assert found.relation == "finetune"
    row = found.scored(bundle.digest)
    assert row is not None
    assert (row.id, row.metric) == ("export", "accuracy")


def test_a_digest_finds_the_same_run(desk: Desk) -> None:
    home = Home(desk.home)
    assert provenance.of(bundles.find(desk.digest, home), home).run == desk.run


def test_a_run_whose_store_is_gone_still_knows_its_model(desk: Desk) -> None:
    bundle = bundles.find(str(desk.run / "bundle"), Home(desk.home))
    empty = Home(desk.home / "other")
    found = provenance.of(bundle, empty)
    assert (found.model, found.stages) == ("encoder", ("import", "head", "export"))
    assert not empty.path.exists(), "to look made nothing"


def test_a_student_of_another_model_is_made_from_that_model(desk: Desk) -> None:
    def taught(values) -> None:
        (head,) = [node for node in values["lineage"] if node["stage"] == "head"]
        head |= {"stage": "distill", "parameters": {"student": "hub:owner/small@main"}}

    desk.record(taught)
    bundle = bundles.find(str(desk.run / "bundle"), Home(desk.home))
    found = provenance.of(bundle, Home(desk.home / "other"))
    assert (found.base, found.licence, found.relation) == ("owner/small", None, "finetune")


def test_a_bundle_that_no_run_made_has_no_facts_but_its_stage(desk: Desk, tmp_path) -> None:
    desk.record(lambda values: values.update(lineage=[]))
    home = Home(desk.home)
    found = provenance.of(bundles.find(str(desk.run), home), home)
    assert (found.run, found.record) == (None, None)
    assert found.stages == ("import", "head", "export")


def test_a_damaged_record_is_passed_over(desk: Desk) -> None:
    (desk.run / "run.json").write_text(json.dumps({"digest": desk.digest}))
    home = Home(desk.home)
    assert provenance.of(bundles.find("tiny", home), home).record is None


def test_data_sets_of_the_hub_are_named_once(desk: Desk) -> None:
    recipe = (
        "data: {train: 'hub:me/reviews@main/a.parquet', eval: 'hub:me/reviews@main/b.parquet', "
        "unlabelled: 'hub:me/more@main/c.parquet', text: text}"
    )
    desk.record(lambda values: values.update(recipe=recipe))
    home = Home(desk.home)
    found = provenance.of(bundles.find("tiny", home), home)
    assert found.datasets == ("me/reviews", "me/more")
    assert found.tested == "me/reviews"


def test_rows_of_this_machine_are_no_data_set_of_the_hub(desk: Desk) -> None:
    desk.record(lambda v: v.update(recipe="data: {train: 'hub:me/reviews@main', eval: mine.csv}"))
    home = Home(desk.home)
    found = provenance.of(bundles.find("tiny", home), home)
    assert (found.datasets, found.tested) == (("me/reviews",), None)


def test_a_damaged_ancestor_ends_the_chain_and_stops_nothing(desk: Desk) -> None:
    desk.record(lambda values: values.update(lineage=[]))
    home = Home(desk.home)
    (first,) = (
        each
        for each in desk.store.digests()
        if desk.store.open(each).manifest.stage.name == "import"
    )
    damage(desk.store.directory(first) / "manifest.json")
    found = provenance.of(bundles.find("tiny", home), home)
    assert found.stages == ("head", "export")
    assert found.relation is None


def test_a_verdict_is_about_the_bundle_that_was_measured(desk: Desk) -> None:
    home = Home(desk.home)
    bundle = bundles.find("tiny", home)
    assert provenance.of(bundle, home).judges(bundle.digest)
    desk.record(
        lambda values: values["measurements"]["models"]["candidate"].update(digest="0" * 64)
    )
    assert not provenance.of(bundle, home).judges(bundle.digest)


@pytest.mark.parametrize(
    ("outcome", "said"),
    [("pass", None), ("fail", "fail: too large"), ("inconclusive", "inconclusive: too large")],
)
def test_a_verdict_that_is_no_pass_is_said_with_its_reason(desk: Desk, outcome, said) -> None:
    desk.verdict(outcome)
    desk.record(lambda values: values["verdict"]["budgets"][0].update(reason="too large"))
    home = Home(desk.home)
    found = provenance.of(bundles.find("tiny", home), home)
    assert found.verdict is not None
    assert found.verdict.outcome == outcome
    assert found.caveat == (said and f"the verdict on this bundle is {said}")


def test_a_later_run_without_a_verdict_does_not_hide_one(desk: Desk) -> None:
    desk.verdict("fail")
    later = shutil.copytree(desk.run, desk.run.with_name("later")) / "run.json"
    values = json.loads(later.read_text()) | {"name": "later", "verdict": None}
    later.write_text(json.dumps(values))
    os.utime(later, (2e9, 2e9))
    home = Home(desk.home)
    found = provenance.of(bundles.find(desk.digest, home), home)
    assert found.name == "later"
    assert found.verdict is not None
    assert found.verdict.outcome == "fail"


@pytest.mark.parametrize("newer", ["fail", "pass"])
def test_the_newest_verdict_counts_whoever_gave_it(desk: Desk, newer: str) -> None:
    """`rarefy validate` leaves a row in the history, and no record of a run."""
    desk.verdict("pass" if newer == "fail" else "fail")
    home = Home(desk.home)
    bundle = bundles.find("tiny", home)
    record = folder.read(desk.run)
    assert record.verdict is not None
    verdict = record.verdict.model_copy(update={"outcome": newer})
    later = {"verdict": verdict, "measured_at": "2999-01-01T00:00:00+00:00"}
    history.History(desk.home / history.FILE).add(record.model_copy(update=later))
    found = provenance.of(bundle, home)
    assert found.verdict is not None
    assert found.verdict.outcome == newer
    assert (found.caveat is None) == (newer == "pass")


@pytest.mark.parametrize(("measured", "pages"), [("this", 2), ("another", 0), ("none", 2)])
def test_pages_about_another_bundle_of_the_run_are_left_out(desk: Desk, measured, pages) -> None:
    """Those of a run without validate are about no other."""
    for name in (names.REPORT, names.SUMMARY, names.VERDICT):
        (desk.run / name).touch()
    if measured == "none":
        desk.record(lambda values: values.update(measurements=None, verdict=None))
    if measured == "another":
        digest = {"digest": "0" * 64}
        desk.record(lambda values: values["measurements"]["models"]["candidate"].update(digest))
    home = Home(desk.home)
    bundle = bundles.find("tiny", home)
    known = dataclasses.replace(provenance.of(bundle, home), verdict=None)
    assert len(provenance.pages(known, bundle)) == pages


def test_a_bundle_without_a_verdict_has_no_caveat() -> None:
    assert Provenance().caveat is None


@pytest.mark.parametrize(
    ("stages", "relation"),
    [
        (("import", "quantize", "export"), "quantized"),
        (("import", "finetune", "quantize", "export"), "finetune"),
        (("import", "export"), None),
        (("export",), None),
        ((), None),
    ],
)
def test_what_was_trained_is_no_mere_quantization(stages, relation) -> None:
    assert Provenance(stages=stages).relation == relation


def test_a_model_of_the_hub_has_its_name_there() -> None:
    assert Provenance(model="hub:me/base@v1").base == "me/base"
    assert Provenance(model="package:some/model").base is None
