"""The code in a model's folder never runs, and every load goes through the one function."""

from __future__ import annotations

import ast
import builtins
import json
import subprocess
import sys
from pathlib import Path

import pytest
import transformers

from rarefy.pipeline.model import checkpoint, safe_loading
from rarefy.pipeline.terms.errors import ModelError
from rarefy.pipeline.terms.recipe_parts import BAG_OF_TOKENS
from tests.models import write_model

ROOT = Path(__file__).parents[3]
LOADS = ("from_pretrained", "from_config")


@pytest.fixture
def evil(tmp_path, monkeypatch) -> Path:
    """A model that needs its own code, in front of a terminal where someone answers y."""
    monkeypatch.setattr(builtins, "input", lambda *_: "y")
    write_model(tmp_path, "bert")
    code = f"open({str(tmp_path / 'pwned')!r}, 'w')\n"
    (tmp_path / "modeling_evil.py").write_text(code)
    path, names = (
        tmp_path / "config.json",
        {"AutoConfig": "Config", "AutoModelForMaskedLM": "Model"},
    )
    values = {"auto_map": {auto: f"modeling_evil.{name}" for auto, name in names.items()}}
    path.write_text(json.dumps(json.loads(path.read_text()) | values | {"model_type": "evil"}))
    return tmp_path


def with_masked_head(directory: Path) -> transformers.PreTrainedModel:
    return safe_loading.from_folder(transformers.AutoModelForMaskedLM, directory)


@pytest.mark.parametrize(
    "load", [checkpoint.read_config, checkpoint.load_tokenizer, with_masked_head]
)
def test_a_model_that_needs_its_own_code_is_refused_in_one_line(evil, load):
    with pytest.raises(ModelError, match=r"config\.json: the model type 'evil' needs code") as said:
        load(evil)
    assert "\n" not in str(said.value)
    assert not (evil / "pwned").exists()


def test_transformers_itself_would_have_asked_and_run_it(evil):
    """The control: without our function, the answer y runs the code."""
    with pytest.raises(Exception, match=r".*"):
        transformers.AutoConfig.from_pretrained(evil, local_files_only=True)
    assert (evil / "pwned").exists()


def test_a_known_type_is_read_without_its_code(evil):
    path = evil / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"model_type": "bert"}))
    assert type(with_masked_head(evil)) is transformers.BertForMaskedLM
    assert not (evil / "pwned").exists()


def test_an_unreadable_config_is_left_to_its_reader(tmp_path):
    (tmp_path / "config.json").write_text("{")
    safe_loading.check(tmp_path)
    with pytest.raises(ModelError, match=r"config\.json"):
        checkpoint.read_config(tmp_path)


def loads() -> dict[str, ast.Call]:
    found = {}
    for folder in ("pipeline", "stages", "exporters", "flows"):
        for path in (ROOT / folder).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_bytes())):
                if isinstance(node, ast.Call) and getattr(node.func, "attr", "") in LOADS:
                    name = path.relative_to(ROOT).as_posix()
                    found[f"{name}: {ast.unparse(node.func)}"] = node
    return found


@pytest.mark.slow
def test_every_load_says_that_no_code_may_run():
    silent = []
    for place, call in loads().items():
        given = {word.arg: ast.unparse(word.value) for word in call.keywords}
        if given.get("trust_remote_code") != "False":
            silent.append(place)
    assert silent == ["pipeline/model/checkpoint.py: PeftModel.from_pretrained"], (
        "peft only adds weights to a model that is loaded already"
    )
    assert "pipeline/model/safe_loading.py: auto.from_pretrained" in loads()


def test_classes_are_found_by_name_beside_those_of_transformers():
    found = safe_loading.class_named("BagOfTokensForSequenceClassification")
    assert found.config_class.model_type == BAG_OF_TOKENS
    assert safe_loading.class_named("BertModel").__name__ == "BertModel"
    assert safe_loading.class_named("StaticNonsense") is None
    assert safe_loading.class_named("") is None


@pytest.mark.slow
def test_a_folder_with_our_type_is_read_in_a_fresh_process(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"model_type": BAG_OF_TOKENS, "buckets": 7}))
    code = (
        "import sys; from pathlib import Path; from transformers import AutoConfig; "
        "from rarefy.pipeline.model import safe_loading as no_code; "
        "print(no_code.from_folder(AutoConfig, Path(sys.argv[1])).buckets)"
    )
    run = subprocess.run(
        [sys.executable, "-c", code, tmp_path], capture_output=True, text=True, check=True
    )
    assert run.stdout.split()[-1] == "7"


def test_what_is_wrong_with_a_config_is_said_by_whoever_reads_it(tmp_path):
    safe_loading.register(tmp_path)
    (tmp_path / "config.json").write_text("[")
    safe_loading.register(tmp_path)
