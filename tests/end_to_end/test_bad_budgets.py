"""Budgets that cannot be judged: a clear message, the right exit code, and never a pass."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rarefy.pipeline.store.artifact import Artifact, Kind, Manifest, StageRecord, list_files
from tests.conftest import QUICK, QUICK_STAGES, Workshop, labelled_rows
from tests.known_times import know_times
from tests.project import Said

MEASURE = QUICK | {"models": [], "rows": 12, "seconds": 0.5}
CHAIN = ("quick:Head", "export", {"validate": MEASURE})
EASY = {"metric": "size", "max": "1 GB"}


Rarefy = Callable[..., Said]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> Workshop:
    """A workshop whose chain has run once."""
    workshop = Workshop(tmp_path_factory.mktemp("made"))
    shutil.copytree(tiny_model, workshop.folder / "model")
    shutil.copyfile(QUICK_STAGES, workshop.folder / "quick.py")
    workshop.write_rows("train.jsonl", labelled_rows(24, seed=0))
    workshop.write_rows("eval.jsonl", labelled_rows(20, seed=1))
    with pytest.MonkeyPatch.context() as patch:
        know_times(patch)
        bundle = workshop.run(*CHAIN)["export"].artifact
    workshop.store.tag("newest", bundle.digest)
    return workshop


@pytest.fixture
def shop(
    made: Workshop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, known_times: None
) -> Workshop:
    """A copy of that workshop, which is also the project's home."""
    copy = Workshop(tmp_path / "copy")
    shutil.copytree(made.folder, copy.folder)
    monkeypatch.setenv("RAREFY_HOME", str(copy.folder))
    return copy


def publish(shop: Workshop, directory: Path, tag: str, kind: Kind = Kind.BUNDLE) -> Artifact:
    """Put a folder into the store as an artifact, under a tag."""
    record = StageRecord(name="test", version=1, parameters={}, fingerprint=tag.encode().hex())
    manifest = Manifest(kind=kind, files=list_files(directory), stage=record)
    artifact = shop.store.publish(directory, manifest, {})
    shop.store.tag(tag, artifact.digest)
    return artifact


def bundle_copy(shop: Workshop, name: str) -> Path:
    """The candidate's files, which can be changed."""
    folder = shop.folder / name
    shutil.copytree(shop.store.open("newest").directory, folder)
    (folder / "manifest.json").unlink()
    return folder


# Reported before anything runs


REFUSED = [
    ([{"metric": "acuracy", "min": "80 %"}], "budgets: unknown metric 'acuracy', did you mean"),
    (
        [{"metric": "latency_p50", "max_drop": "1 point", "against": "head"}],
        "does not apply to this metric",
    ),
    (
        [{"metric": "ece", "max_regression": "5 %", "against": "head"}],
        "does not apply to this metric",
    ),
    (
        [{"metric": "accuracy", "max_drop": "1 point", "against": "haed"}],
        "budgets[0].against: 'haed' is not a stage of this recipe, and no tag in",
    ),
    (
        [{"metric": "accuracy", "max_drop": "1 point", "against": "heads"}],
        "budgets[0].against: 'heads' is not a stage of this recipe, did you mean 'head'?",
    ),
    (
        [EASY, {"metric": "size", "max_regression": "5 %", "against": "production"}],
        "budgets[1].against: 'production' is not a stage of this recipe, and no tag in",
    ),
    (
        [{"metric": "size", "max_regression": "5 %", "against": "newes"}],
        "did you mean 'newest'?",
    ),
    (
        [{"metric": "size", "max_regression": "5 %", "against": "export"}],
        "budgets[0].against: 'export' is not measured as a reference; measured are: head",
    ),
    ([EASY, {"metric": "size", "min": "2 GB"}], "at least 2e+09 and at most 1e+09"),
    ([{"metric": "accuracy", "min": 80}], "did you mean '80%'?"),
    (
        [{"metric": "latency_p50", "max": "20 MB"}],
        "'20 MB' is a size; latency_p50 takes a time",
    ),
    (
        [{"metric": ["size"], "max": "20 MB"}],
        "budgets[0].metric: Input should be a valid string",
    ),
    ([{"metric": "size", "max": "1 GB", "min": 1}], "give exactly one of max, min"),
    ([{"metric": "size", "max": "1 GB", "target": "gpu"}], "'gpu' is not a target"),
    ([{"metric": "size", "max": float("nan")}], "'.nan' is not a quantity; write it like"),
    (
        [{"metric": "size", "max": "twenty"}],
        "is not a quantity; write it like 0.03, '3%', '20 MB'",
    ),
]
"""Budgets, and what is said of them."""
COMMANDS = [("plan", case) for case in REFUSED] + [
    (command, case)
    for command in ("run", "validate")
    for case in REFUSED
    if case[1].startswith(
        ("budgets: unknown metric", "did you mean 'newest'", "budgets[0].against: 'export'")
    )
]
"""All for ``plan``; for the others, one each of the recipe, the names in it, and the chain."""


@pytest.mark.parametrize(("command", "case"), COMMANDS)
def test_what_no_measurement_could_answer_is_refused(
    shop: Workshop, rarefy: Rarefy, command: str, case: tuple[list[dict[str, Any]], str]
) -> None:
    budgets, words = case
    recipe = shop.recipe({"quick:Head": {"fill": "1"}}, "export", "validate", budgets=budgets)
    ran = shop.ran()
    arguments = {"validate": ("newest", "--recipe", recipe), "plan": (recipe,)}
    said = rarefy(command, *arguments.get(command, (recipe, "--engine", "inline")))
    assert (said.code, said.out) == (2, "")
    line = said.err.strip().splitlines()[-1]
    assert line.startswith(f"rarefy: {recipe}:")
    assert words in line
    assert shop.ran() == ran, "nothing ran"


def test_a_baseline_that_answers_with_other_labels(shop: Workshop, rarefy: Rarefy) -> None:
    """Also if the labels are the same in another order, which would swap the answers."""
    for name, labels in (("other", ["cat", "dog"]), ("turned", ["positive", "negative"])):
        folder = bundle_copy(shop, name)
        config = json.loads((folder / "config.json").read_text())
        config["id2label"] = {str(at): label for at, label in enumerate(labels)}
        (folder / "config.json").write_text(json.dumps(config))
        publish(shop, folder, name)
        against = {"metric": "accuracy", "max_drop": "90 points", "against": name}
        recipe = shop.recipe(*CHAIN, budgets=[against])
        for command in (("run", recipe, "--engine", "inline"), ("validate", "newest")):
            options = () if command[0] == "run" else ("--recipe", recipe)
            said = rarefy(*command, *options)
            assert said.code == 2
            expected = f"{name}: predicts the labels {', '.join(labels)}, but the other side has"
            assert expected in said.err


def test_a_baseline_that_answers_nothing(shop: Workshop, rarefy: Rarefy) -> None:
    folder = shop.folder / "words"
    folder.mkdir()
    (folder / "word.txt").write_text("hello")
    publish(shop, folder, "words", Kind.REPORT)
    asked = {"metric": "size", "max_regression": "5 %", "against": "words"}
    said = rarefy("plan", shop.recipe(*CHAIN, budgets=[asked]))
    assert said.code == 2
    assert "the tag points at report" in said.err


def test_a_baseline_whose_bytes_were_changed(shop: Workshop, rarefy: Rarefy) -> None:
    """The size of the file does not change."""
    baseline = publish(shop, bundle_copy(shop, "old"), "production")
    graph = baseline.path("model.onnx")
    data = bytearray(graph.read_bytes())
    data[-200] ^= 1
    graph.write_bytes(bytes(data))
    asked = {"metric": "size", "max_regression": "5 %", "against": "production"}
    recipe = shop.recipe(*CHAIN, budgets=[asked])
    for command in (
        ("run", recipe, "--engine", "inline"),
        ("validate", "newest", "--recipe", recipe),
    ):
        said = rarefy(*command)
        assert said.code == 6
        assert f"artifact {baseline.short} (test) is damaged: model.onnx" in said.err


# Found during measurement


def test_twenty_rows_carry_no_margin_of_a_point(shop: Workshop, rarefy: Rarefy) -> None:
    """Both models give the same answers on all rows, which still proves nothing."""
    asked = {"metric": "accuracy", "max_drop": "1 point", "against": "newest"}
    recipe = shop.recipe(*CHAIN, budgets=[asked, EASY])
    for options, code in (((), 0), (("--strict",), 4)):
        said = rarefy("validate", "newest", "--recipe", recipe, "--json", *options)
        assert said.code == code
        assert said.json["outcome"] == "inconclusive"
        assert [b["outcome"] for b in said.json["budgets"]] == ["inconclusive", "pass"]


def broken_bundle(shop: Workshop, tag: str) -> Artifact:
    """The candidate with one weight set to NaN."""
    import numpy as np
    from onnx import TensorProto, load, numpy_helper, save

    folder = bundle_copy(shop, tag)
    model = load(folder / "model.onnx")
    floats = (w for w in model.graph.initializer if w.data_type == TensorProto.FLOAT)
    weight = max(floats, key=lambda w: np.prod(w.dims))
    values = np.array(numpy_helper.to_array(weight))
    values[...] = np.nan
    weight.CopyFrom(numpy_helper.from_array(values, weight.name))
    save(model, folder / "model.onnx")
    return publish(shop, folder, tag)


def test_a_model_that_answers_nan(shop: Workshop, rarefy: Rarefy) -> None:
    """All budgets are met, and yet the run fails."""
    broken_bundle(shop, "broken")
    recipe = shop.recipe(*CHAIN, budgets=[EASY])
    assert rarefy("validate", "newest", "--recipe", recipe).code == 0
    said = rarefy("validate", "broken", "--recipe", recipe, "--json")
    assert said.code == 3
    first, second = said.json["budgets"]
    assert first["reason"] == "candidate predicted NaN or infinity on 20 of 20 rows"
    assert (first["outcome"], second["outcome"]) == ("fail", "pass")


def test_a_baseline_that_answers_nan(shop: Workshop, rarefy: Rarefy) -> None:
    broken_bundle(shop, "production")
    asked = {"metric": "accuracy", "max_drop": "50 points", "against": "production"}
    recipe = shop.recipe(*CHAIN, budgets=[asked])
    said = rarefy("validate", "newest", "--recipe", recipe, "--json")
    assert said.code == 3
    reason = said.json["budgets"][0]["reason"]
    assert reason == "production predicted NaN or infinity on 20 of 20 rows"


def test_a_target_that_this_machine_has_not(shop: Workshop, rarefy: Rarefy) -> None:
    import onnxruntime

    if "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        pytest.skip("this machine has the provider")
    targets = [{"name": "gpu", "provider": "cuda"}]
    recipe = shop.recipe(*CHAIN, budgets=[EASY], targets=targets)
    for command in (
        ["validate", "newest", "--recipe", recipe],
        ["run", recipe, "--engine", "inline"],
    ):
        said = rarefy(*command)
        assert (said.code, said.out) == (5, "")
        assert "provider 'cuda' is not active" in said.err
    assert rarefy("plan", recipe).code == 0, "it may run elsewhere"


def test_a_runner_that_is_throttled_half_way(
    shop: Workshop, rarefy: Rarefy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever the measured times are, the result is neither a pass nor a fail."""
    from rarefy.pipeline.measure.latency import session as latency

    why = "calibration work took 1.7 times as long at the end"
    take = latency.measure

    def throttled(*arguments: Any, **options: Any) -> Any:
        return take(*arguments, **options).model_copy(update={"throttled": why})

    monkeypatch.setattr(latency, "measure", throttled)
    recipe = shop.recipe(*CHAIN, budgets=[EASY, {"metric": "latency_p50", "max": "10 s"}])
    said = rarefy("validate", "newest", "--recipe", recipe, "--json")
    assert said.code == 4
    assert said.json["evidence"] == [f"cpu: {why}; its timings cannot support a verdict"]
    assert [b["outcome"] for b in said.json["budgets"]] == ["pass", "inconclusive"]
    recipe = shop.recipe(*CHAIN, budgets=[{"metric": "latency_p50", "max": "1 us"}])
    said = rarefy("validate", "newest", "--recipe", recipe)
    assert (said.code, said.out) == (4, "verdict: inconclusive\n")
    assert f"no verdict: cpu: {why}" in said.err
    missed = shop.recipe(*CHAIN, budgets=[{"metric": "size", "max": 1}])
    assert rarefy("validate", "newest", "--recipe", missed).code == 3, "bytes are not timed"
