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

from rarefy.exporters.forms.source import Source, check_anywhere, samples
from rarefy.pipeline.model.runtime import bundle_files, providers
from rarefy.pipeline.store.artifact import RUN
from rarefy.pipeline.terms import extras
from rarefy.pipeline.terms.digests import distribution_version
from rarefy.pipeline.terms.errors import ProviderError

CODE = "mlflow_model.py"
BUNDLE = "bundle"
"""The name of the artifact that holds the bundle's own files."""


def check_installed() -> None:
    """Raise ProviderError if MLflow is not installed."""
    if importlib.util.find_spec("mlflow") is None:
        raise ProviderError(f"MLflow is not installed; {extras.remedy('mlflow')}")


def write(source: Source, folder: Path) -> bool:
    """Write an MLflow model to the empty ``folder``; return whether it has the flavor onnx.

    Raises ProviderError without MLflow, ModelError if the bundle is for CPUs with VNNI.
    """
    check_installed()
    save_model(folder, source=source)
    return _has_flavor(source)


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
    options = bundle_files.read(source.folder, bundle_files.OPTIONS)
    # When and on which machine the bundle was made is the house's own.
    (Path(path) / place / RUN).unlink(missing_ok=True)
    if _has_flavor(source):
        _add_onnx(model, f"{place}/{bundle_files.MODEL}", options, source.provider)
    model.save(str(Path(path) / "MLmodel"))


def _has_flavor(source: Source) -> bool:
    """Return whether MLflow may run the graph itself, in ONNX Runtime.

    Not if it was made for OpenVINO, whose answers and times would be others; nor if ONNX's checker,
    which MLflow asks, refuses it. It does not know ONNX Runtime's own operators in ONNX's domain:
    RMSNorm is one.
    """
    import onnx

    if source.provider == "openvino":
        return False
    try:
        onnx.checker.check_model(str(source.folder / bundle_files.MODEL))
    except onnx.checker.ValidationError:
        return False
    return True


def _add_onnx(model: Any, graph: str, options: dict[str, Any], provider: str) -> None:
    model.add_flavor(
        "onnx",
        onnx_version=distribution_version("onnx"),
        data=graph,
        providers=[providers.PROVIDERS[_PLAIN.get(provider, provider)]],
        onnx_session_options={
            "graph_optimization_level": _LEVELS[options["graph_optimization_level"]],
            "execution_mode": options["execution_mode"],
            "intra_op_num_threads": options["intra_op_num_threads"],
        },
        code=None,
    )


_PLAIN = {"tensorrt": "cuda"}
"""What runs the flavor instead: MLflow has no options for TensorRT."""
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
    metadata = {"task": source.task}
    if source.digest is not None:
        metadata["bundle"] = source.digest
    if source.provider != "openvino":
        metadata["least_onnxruntime"] = source.least_runtime
    return metadata
