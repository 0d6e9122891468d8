"""Our own model is found by its name, and loads in a process that knows only transformers."""

from __future__ import annotations

import json
import subprocess
import sys

from pipeline.model import own
from pipeline.terms.vocabulary import STATIC


def test_classes_are_found_by_name_beside_those_of_transformers():
    found = own.class_named("StaticForSequenceClassification")
    assert found.config_class.model_type == STATIC
    assert own.class_named("BertModel").__name__ == "BertModel"
    assert own.class_named("StaticNonsense") is None
    assert own.class_named("") is None


def test_a_folder_with_our_type_is_read_in_a_fresh_process(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"model_type": STATIC, "buckets": 7}))
    code = (
        "import sys; from pathlib import Path; from transformers import AutoConfig; "
        "from pipeline.model import no_code; "
        "print(no_code.from_folder(AutoConfig, Path(sys.argv[1])).buckets)"
    )
    run = subprocess.run(
        [sys.executable, "-c", code, tmp_path], capture_output=True, text=True, check=True
    )
    assert run.stdout.split()[-1] == "7"


def test_what_is_wrong_with_a_config_is_said_by_whoever_reads_it(tmp_path):
    own.register(tmp_path)
    (tmp_path / "config.json").write_text("[")
    own.register(tmp_path)
