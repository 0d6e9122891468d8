"""A Triton repository is one by the server's own protobuf, and its parts answer together."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.consumers import environments
from tests.exporters.forms.triton_server import answer

CLOSE = 1e-5
PARSE = """
import json, sys
from pathlib import Path
from google.protobuf import json_format, text_format
from tritonclient.grpc import model_config_pb2

found = {}
for path in Path(sys.argv[1]).glob("*/config.pbtxt"):
    config = text_format.Parse(path.read_text(), model_config_pb2.ModelConfig())
    assert config.name == path.parent.name
    found[config.name] = json_format.MessageToDict(config)
print(json.dumps(found))
"""


@pytest.mark.parametrize("name", ["demo", "search"])
def test_the_server_s_protobuf_reads_the_configs_and_the_ensemble_answers(
    made: dict[str, Path], tmp_path: Path, name: str
) -> None:
    from click.testing import CliRunner

    from rarefy.flows.cli import cli

    out, home = tmp_path / "models", made[name].parents[2]
    words = ["bundle", name, str(out), "--for", "triton", "--home", str(home)]
    done = CliRunner().invoke(cli, words, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    python = environments.python("tritonclient")
    configs = json.loads(environments.run([python, "-c", PARSE, out], tmp_path))
    assert set(configs) == {name, f"{name}_tokenizer", f"{name}_text"}
    check_tensors(configs, name)
    request, response = (
        json.loads((made[name] / "samples" / f"{each}.json").read_text())
        for each in ("request", "response")
    )
    for text, expected in zip(request["texts"], response["predictions"], strict=True):
        (given,) = answer(out, configs, f"{name}_text", TEXT=[text]).astype(float)
        if "vector" in expected:
            assert given == pytest.approx(expected["vector"], abs=CLOSE)
        else:
            labels = (out / f"{name}_text/labels.txt").read_text().splitlines()
            shares = np.exp(given - given.max()) / np.exp(given - given.max()).sum()
            scores = dict(zip(labels, shares.tolist(), strict=True))
            assert scores == pytest.approx(expected["probabilities"], abs=CLOSE)


def check_tensors(configs: dict[str, Any], name: str) -> None:
    """What a step gives is what the next one and the ensemble take, with type and size."""
    known = {each["name"]: each for each in configs[f"{name}_text"]["input"]}
    for step in configs[f"{name}_text"]["ensembleScheduling"]["step"]:
        model = configs[step["modelName"]]
        taken = {each["name"]: each for each in model["input"]}
        assert set(step["inputMap"]) == set(taken)
        for key, tensor in step["inputMap"].items():
            assert known[tensor] == taken[key]
        given = {each["name"]: each for each in model["output"]}
        assert set(step["outputMap"]) == set(given)
        known |= {tensor: given[key] for key, tensor in step["outputMap"].items()}
    for each in configs[f"{name}_text"]["output"]:
        assert known[each["name"]] == each
