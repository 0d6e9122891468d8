"""Resolve a budget's tag: in this store, in another one, or not there yet."""

from __future__ import annotations

import json
import re

import pytest

from rarefy.pipeline.measure.predictions import files as answers
from rarefy.pipeline.recipe import recipe as recipes
from rarefy.pipeline.run.plan import baselines
from rarefy.pipeline.run.plan.plan import Plan
from rarefy.pipeline.store.artifact import Kind, Manifest, StageRecord, list_files
from rarefy.pipeline.store.remote import artifacts
from rarefy.pipeline.store.store import Store
from rarefy.pipeline.terms.budget import find_problems
from rarefy.pipeline.terms.errors import IntegrityError, ModelError, RecipeError
from tests.conftest import QUICK, Workshop
from tests.models import LABELS, TASK
from tests.pipeline.store.artifacts import damage
from tests.project import Project

CHAIN = ("quick:Head", "export", {"validate": QUICK})
PRODUCTION = {"metric": "accuracy", "max_drop": "40 points", "against": "production"}
SIZE = {"metric": "size", "max": "1 MB"}


def publish(store: Store, kind: Kind, labels=LABELS):
    """Publish a stand-in for a model with these labels."""
    with store.draft() as draft:
        config = {
            "architectures": ["BertForSequenceClassification"],
            "id2label": {str(at): name for at, name in enumerate(labels)},
        }
        (draft / "config.json").write_text(json.dumps(config))
        (draft / "kind").write_text(kind)
        stage = StageRecord(name="s", version=1, parameters={}, fingerprint="f" * 64)
        return store.publish(draft, Manifest(kind=kind, files=list_files(draft), stage=stage), {})


@pytest.mark.parametrize("kind", [Kind.BUNDLE, Kind.CHECKPOINT])
def test_a_tag_of_this_store_and_of_another_one(tmp_path, kind):
    here, there = Store(tmp_path / "here"), Store(tmp_path / "there")
    made = publish(there, kind)
    there.tag("production", made.digest)
    found = baselines.open_tag(here, f"file://{there.root}#production")
    assert found.digest == made.digest
    assert here.verify(made.digest) == []
    assert here.tags() == {}
    assert baselines.open_tag(there, "production").digest == made.digest


def test_what_answers_nothing_is_no_baseline(tmp_path):
    store = Store(tmp_path / "store")
    store.tag("report", publish(store, Kind.REPORT).digest)
    with pytest.raises(
        RecipeError, match=r"the tag points at report .*, which makes no predictions"
    ):
        baselines.open_tag(store, "report")
    store.tag("candidate", publish(store, Kind.BUNDLE).digest)
    with pytest.raises(RecipeError, match="reserved for a measured model"):
        baselines.open_tag(store, "candidate")
    with pytest.raises(RecipeError, match="is neither a URL nor an absolute path"):
        baselines.open_tag(store, "../shared#production")


def test_a_baseline_of_other_labels_or_of_none(tmp_path):
    store = Store(tmp_path / "store")
    swapped = publish(store, Kind.BUNDLE, LABELS[::-1])
    with pytest.raises(ModelError, match="labels positive, negative, but the other side has"):
        baselines.check("production", swapped.directory, TASK)
    (swapped.directory / "config.json").write_text("{}")
    with pytest.raises(ModelError, match="does not name the labels"):
        baselines.check("production", swapped.directory, TASK)


def test_no_such_tag_says_where_what_there_is_and_what_to_do(workshop: Workshop):
    store = workshop.store
    store.tag("staging", publish(store, Kind.BUNDLE).digest)
    with pytest.raises(RecipeError) as caught:
        workshop.open(*CHAIN, budgets=[SIZE, PRODUCTION]).plan.steps()
    words = (
        r"trial\.yaml:\d+: budgets\[1\]\.against: 'production' is not a stage of .*, and no tag in "
    )
    assert re.search(words, str(caught.value))
    assert (
        "(tags: staging); for a first release: `rarefy run --first` or `rarefy ci --first`"
        in str(caught.value)
    )
    store.tag("productoin", publish(store, Kind.BUNDLE).digest)
    with pytest.raises(RecipeError, match="did you mean 'productoin'"):
        workshop.open(*CHAIN, budgets=[SIZE, PRODUCTION]).plan.steps()


def test_a_first_release_leaves_those_budgets_out_and_says_so(workshop: Workshop):
    run = workshop.open(*CHAIN, budgets=[SIZE, PRODUCTION])
    run.plan.first = True
    run.plan.steps()
    assert [budget.metric for budget in run.plan.budgets] == ["size"]
    assert run.plan.absent == ["production"]
    assert run.plan.warnings[-1] == (
        "first release: the tag 'production' does not exist yet, "
        "so these budgets are skipped: accuracy max_drop"
    )


@pytest.mark.parametrize(
    ("against", "words"),
    [
        ("prodution", "there is no tag 'prodution', but there is 'production'; correct the name"),
        ("{there}#productoin", "no tag 'productoin', but there is 'production'; correct the name"),
        ("{there}d#production", "no such folder; correct the URL, or create the folder"),
        ("memory://shop/sharde#production", "no such folder"),
    ],
)
def test_a_mistyped_tag_or_remote_is_no_first_release(workshop, tmp_path, against, words):
    there = Store(tmp_path / "shared")
    for store in (workshop.store, there):
        store.tag("production", publish(store, Kind.BUNDLE).digest)
    named = against.format(there=f"file://{tmp_path}/shared")
    run = workshop.open(*CHAIN, budgets=[{**PRODUCTION, "against": named}])
    run.plan.first = True
    with pytest.raises(RecipeError, match=re.escape(words)) as said:
        run.plan.steps()
    assert re.search(r"trial\.yaml:\d+: budgets\[0\]\.against: ", str(said.value))


@pytest.mark.parametrize(("against", "meant"), [("modle", "model"), ("exportation", "export")])
def test_a_mistyped_stage_is_no_first_release(workshop: Workshop, against: str, meant: str) -> None:
    run = workshop.open(*CHAIN, budgets=[{**PRODUCTION, "against": against}])
    with pytest.raises(RecipeError, match=f"; did you mean '{meant}'"):
        run.plan.steps()
    run.plan.first = True
    words = (
        rf"trial\.yaml:\d+: budgets.*there is no tag '{against}', but there is '{meant}'; correct"
    )
    with pytest.raises(RecipeError, match=words):
        run.plan.steps()


@pytest.mark.parametrize("tag", ["latest", "model-v2", "my-model", "exported-2026"])
def test_a_tag_may_have_a_name_like_a_stage(workshop: Workshop, tag: str) -> None:
    """``against: latest`` is no typing error of ``labels``."""
    chain = ({"quick:Head": {}, "as": "labels"}, "export", {"validate": QUICK})
    run = workshop.open(*chain, budgets=[{**PRODUCTION, "against": tag}])
    run.plan.first = True
    run.plan.steps()
    assert (run.plan.absent, run.plan.doubts) == ([tag], [])


def test_a_missing_tag_of_a_budget_that_compares_with_stages_is_doubted(
    workshop: Workshop,
) -> None:
    retained = {"metric": "accuracy", "min_retained": "97 %", "against": "teacher"}
    run = workshop.open(*CHAIN, budgets=[SIZE, PRODUCTION, retained])
    run.plan.first = True
    run.plan.steps()
    (doubt,) = run.plan.doubts
    assert doubt.startswith(
        "'teacher' is neither a tag yet nor one of the stages model, head, export, validate, with "
        "which min_retained usually compares"
    )
    assert doubt in run.plan.warnings


def test_a_first_release_in_a_remote_that_exists(workshop, tmp_path):
    there = Store(tmp_path / "shared")
    there.tag("spam-de", publish(there, Kind.BUNDLE).digest)
    named = f"file://{tmp_path}/shared#spam-en"
    run = workshop.open(*CHAIN, budgets=[{**PRODUCTION, "against": named}])
    run.plan.first = True
    run.plan.steps()
    assert run.plan.absent == [named]


def test_a_first_release_forgives_nothing_but_a_tag_that_is_not_there(workshop, tmp_path):
    for against, words in {
        "report": "which makes no predictions",
        f"file://{tmp_path}/not/mounted#production": "no such bucket or folder",
    }.items():
        workshop.store.tag("report", publish(workshop.store, Kind.REPORT).digest)
        run = workshop.open(*CHAIN, budgets=[PRODUCTION | {"against": against}])
        run.plan.first = True
        with pytest.raises(RecipeError, match=words) as caught:
            run.plan.steps()
        assert "--first" not in str(caught.value)


def test_with_the_tag_there_a_first_release_is_like_any_other(workshop: Workshop):
    workshop.store.tag("production", publish(workshop.store, Kind.BUNDLE).digest)
    run = workshop.open(*CHAIN, budgets=[SIZE, PRODUCTION])
    run.plan.first = True
    run.plan.steps()
    assert (len(run.plan.budgets), run.plan.absent) == (2, [])


@pytest.mark.slow
def test_a_remote_s_tag_is_measured_beside_the_candidate_and_its_move_is_noticed(
    workshop: Workshop, tmp_path
):
    url, bundle = f"file://{tmp_path}/shared", workshop.run(*CHAIN[:2])["export"].artifact
    artifacts.push(workshop.store, bundle.digest, url, "production")
    budgets = [PRODUCTION | {"against": f"{url}#production"}]
    run = workshop.run(*CHAIN, budgets=budgets)["validate"]
    found = answers.load(run.artifact.directory)
    assert found.baselines == {f"{url}#production": bundle.digest}
    ours, theirs = (found.models[name] for name in ("candidate", f"{url}#production"))
    assert ours.answers == theirs.answers != []
    assert workshop.run(*CHAIN, budgets=budgets)["validate"].cached
    other = workshop.run({"quick:Head": {"fill": "1"}}, "export")["export"].artifact
    artifacts.push(workshop.store, other.digest, url, "production")
    assert not workshop.open(*CHAIN, budgets=budgets).plan.steps()[-1].cached


@pytest.mark.slow
def test_a_damaged_baseline_is_not_measured(workshop: Workshop):
    bundle = workshop.run(*CHAIN[:2])["export"].artifact
    other = workshop.run({"quick:Head": {"fill": "1"}}, "export")["export"].artifact
    workshop.store.tag("production", other.digest)
    damage(other.directory / "model.onnx")
    with pytest.raises(IntegrityError, match=rf"artifact {other.short} \(export\) is damaged"):
        workshop.run(*CHAIN, budgets=[PRODUCTION])
    assert bundle.digest != other.digest


def test_a_missing_baseline_that_is_in_no_recipe_has_no_line_of_it(workshop: Workshop) -> None:
    pointed = baselines.with_baseline(recipes.load(workshop.recipe(*CHAIN)), "production")
    with pytest.raises(RecipeError) as caught:
        Plan(pointed, workshop.store).steps()
    assert str(caught.value).startswith(f"--baseline production: no tag in {workshop.store.root}")


def test_a_baseline_replaces_no_mistyped_stage(workshop: Workshop) -> None:
    """``against: exprot`` would be compared with production alone, in silence."""
    teacher = {"metric": "accuracy", "min_retained": "97 %", "against": "exprot"}
    loaded = recipes.load(workshop.recipe(*CHAIN, budgets=[SIZE, teacher]))
    words = r"trial\.yaml:\d+: budgets\[1\]\.against: 'exprot' is not a stage.* there is 'export'"
    with pytest.raises(RecipeError, match=words):
        baselines.with_baseline(loaded, "production")


@pytest.mark.parametrize(
    ("task", "data", "main"),
    [
        ("text-classification", {}, "accuracy"),
        ("text-classification", {"label": None}, "agreement"),
        ("multi-label-classification", {"label": "tags"}, "micro_f1"),
        ("regression", {}, "spearman"),
        ("regression", {"text": ["query", "text"], "group": "query"}, "ndcg_10"),
        ("token-classification", {"label": "tags"}, "entity_f1"),
        ("sentence-embeddings", {"text": ["a", "b"], "label": None, "corpus": "c"}, "ndcg_10"),
        ("sentence-embeddings", {"text": ["a", "b"]}, "spearman"),
    ],
)
def test_a_baseline_s_usual_budgets_are_on_the_task_s_main_score(workshop, task, data, main):
    files = {"train": "train.jsonl", "eval": "eval.jsonl"}
    loaded = recipes.load(workshop.recipe("export", task=task, data=files | data))
    pointed = baselines.with_baseline(loaded, "production").recipe
    assert [budget.metric for budget in pointed.budgets] == [main, "latency_p50", "size"]
    assert find_problems(pointed.budgets) == []


@pytest.mark.parametrize("anchor", ["anchor", "file:///models#anchor"])
def test_budgets_against_the_anchor_stay(workshop: Workshop, anchor: str) -> None:
    kept = {"metric": "accuracy", "max_drop": "2 points", "against": anchor}
    loaded = recipes.load(workshop.recipe(*CHAIN, budgets=[PRODUCTION, kept]))
    pointed = baselines.with_baseline(loaded, "staging").recipe
    assert [budget.against for budget in pointed.budgets] == ["staging", anchor]
    loaded = recipes.load(workshop.recipe(*CHAIN, budgets=[kept]))
    pointed = baselines.with_baseline(loaded, "staging").recipe
    assert [budget.against for budget in pointed.budgets] == [anchor, *["staging"] * 3]


def test_a_short_budget_is_shown_at_its_line_for_each_that_it_stands_for(project: Project) -> None:
    short = "  - max_regression: 5 %\n    against: production\n  - {metric: size, max: 5 MB}\n"
    for text, lines in (
        (f"budgets:\n{short}", ["  - max_regression: 5 %"] * 3 + [short.splitlines()[2]]),
        (one := "budgets: {max_regression: 5 %, against: production}\n", [one.strip()] * 3),
    ):
        path = project.recipe("quickstages:Head", budgets=text)
        written = path.read_text().splitlines()
        loaded = baselines.with_baseline(recipes.load(path), "staging")
        assert [written[line - 1] for line in loaded.budget_lines] == lines
        assert loaded.tags == ("staging",)
        assert [b.metric for b in loaded.recipe.budgets][:3] == ["accuracy", "latency_p50", "size"]
