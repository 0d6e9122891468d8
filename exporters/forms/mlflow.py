"""A folder in the form of an MLflow model, with the flavors ``python_function`` and ``onnx``.

The first takes text and answers as the bundle's predict.py does, which is in the folder; the second
gives the graph. Written with mlflow 3.17.
"""

from __future__ import annotations

import importlib.util
import logging
import os
from pathlib import Path
from typing import Any

from rarefy.exporters import providers
from rarefy.exporters.forms.source import Source, check_anywhere, samples
from rarefy.pipeline.model.runtime import bundle_model
from rarefy.pipeline.store.artifact import RUN
from rarefy.pipeline.terms.errors import ProviderError
from rarefy.pipeline.terms.versions import distribution_version

CODE = "mlflow_model.py"
BUNDLE = "bundle"
"""The name of the artifact that holds the bundle's own files."""


def check_installed() -> None:
    """Raise ProviderError if MLflow is not installed."""
    if importlib.util.find_spec("mlflow") is None:
        raise ProviderError("MLflow is not installed; pip install mlflow-skinny")


def write(source: Source, folder: Path) -> bool:
    """Write an MLflow model to the empty ``folder``; return whether it has the flavor onnx.

    Raises ProviderError without MLflow, ModelError if the bundle is for CPUs with VNNI.
    """
    check_installed()
    save_model(folder, source=source)
    return _is_standard(source.folder / bundle_model.MODEL)


def save_model(path: Any, mlflow_model: Any = None, *, source: Source) -> None:
    """Write the model, with the name and the parameters that ``mlflow.models.Model.log`` wants.

    Raises ModelError if the bundle is for CPUs with VNNI.
    """
    # The flavor python_function runs the bundle's own predict.py, which checks the CPU; onnx not.
    check_anywhere(source, "mlflow")
    from mlflow import pyfunc
    from mlflow.models import Model

    logging.getLogger("mlflow").setLevel(logging.ERROR)
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    model = mlflow_model or Model()
    pyfunc.save_model(
        str(path),
        mlflow_model=model,
        python_model=str(Path(__file__).with_name(CODE)),
        artifacts={BUNDLE: str(source.folder)},
        signature=_signature(source),
        input_example=_example(source),
        pip_requirements=_requirements(source),
        metadata=_metadata(source),
    )
    # MLflow notes where the files were; it reads the copies, by these names.
    flavor = model.flavors[pyfunc.FLAVOR_NAME]
    flavor["model_code_path"] = CODE
    # It names the bundle's folder as it was named: by a digest, if the bundle is in the store.
    artifact = flavor["artifacts"][BUNDLE]
    place = artifact["path"]
    artifact["uri"] = place
    options = bundle_model.read(source.folder, bundle_model.OPTIONS)
    # When and on which machine the bundle was made is the house's own.
    (Path(path) / place / RUN).unlink(missing_ok=True)
    if _is_standard(Path(path) / place / bundle_model.MODEL):
        _add_onnx(model, f"{place}/{bundle_model.MODEL}", options, source.provider)
    model.save(str(Path(path) / "MLmodel"))


def _is_standard(graph: Path) -> bool:
    """Return whether ONNX's checker takes a graph, as the flavor is loaded only if it does.

    It does not know ONNX Runtime's own operators in ONNX's domain: RMSNorm is one.
    """
    import onnx

    try:
        onnx.checker.check_model(str(graph))
    except onnx.checker.ValidationError:
        return False
    return True


def _add_onnx(model: Any, graph: str, options: dict[str, Any], provider: str) -> None:
    model.add_flavor(
        "onnx",
        onnx_version=distribution_version("onnx"),
        data=graph,
        providers=[bundle_model.PROVIDERS[_PLAIN.get(provider, provider)]],
        onnx_session_options={
            "graph_optimization_level": _LEVELS[options["graph_optimization_level"]],
            "execution_mode": options["execution_mode"],
            "intra_op_num_threads": options["intra_op_num_threads"],
        },
        code=None,
    )


_PLAIN = {"openvino": "cpu", "tensorrt": "cuda"}
"""What runs the flavor instead: MLflow has no OpenVINO, and no options for TensorRT."""
_LEVELS = {"disable_all": 0, "basic": 1, "extended": 2, "all": 99}
"""ONNX Runtime's levels, as numbers of its enumeration."""


def _signature(source: Source) -> Any:
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, Schema

    if source.signature.get("pairs"):
        columns = ["text", "pair"]
    else:
        columns = ["text"]
    schema = Schema([ColSpec("string", column) for column in columns])
    return ModelSignature(inputs=schema)


def _example(source: Source) -> Any:
    """Return the bundle's sample request as a table; None if it has none, or texts in words."""
    import pandas as pd

    sample = samples(source)
    if sample is None:
        return None
    request, _ = sample
    if not all(isinstance(text, str) for text in request["texts"]):
        return None
    columns = {"text": request["texts"]}
    if request["pairs"]:
        columns["pair"] = request["pairs"]
    return pd.DataFrame(columns)


def _requirements(source: Source) -> list[str]:
    """Return what the two flavors require: what is installed here in the same version."""
    return [_as_here(package) for package in (*providers.packages(source.provider), "onnx")]


def _as_here(package: str) -> str:
    """Return a package in the version that is installed; as it is given if it is not."""
    name = package.partition(">=")[0]
    here = distribution_version(name.partition("[")[0])
    if here:
        return f"{name}=={here}"
    return package


def _metadata(source: Source) -> dict[str, Any]:
    if source.digest is None:
        return {}
    return {"task": source.task, "bundle": source.digest}
