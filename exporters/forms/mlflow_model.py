"""A bundle as a model of MLflow: a table of texts in, the answers of the bundle's predict.py out.

Requires mlflow with pandas, and what the bundle's predict.py requires. MLflow runs this file, so
nothing is pickled.
"""

import functools
import importlib.util
from typing import Any

import pandas as pd
from mlflow.models import set_model
from mlflow.pyfunc import PythonModel


class Answers(PythonModel):  # type: ignore[misc]
    """The bundle in the artifact ``bundle``."""

    def load_context(self, context: Any) -> None:
        """Load the session, the tokenizer and the bundle's JSON files once.

        What a request would set of the tokenizer is set here: requests run in threads that share
        it.
        """
        path = f"{context.artifacts['bundle']}/predict.py"
        spec = importlib.util.spec_from_file_location("rarefy_bundle_predict", path)
        assert spec is not None
        assert spec.loader is not None
        bundle: Any = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(bundle)
        bundle.read = functools.cache(bundle.read)
        bundle.overlap = functools.cache(bundle.overlap)
        try:
            loaded = bundle.load()
        except SystemExit as error:
            raise RuntimeError(str(error)) from None
        signature = bundle.read("signature.json")
        if signature.get("words") or signature.get("windows"):
            bundle.overlap(loaded[1])
        bundle.load = lambda: loaded
        self.bundle = bundle

    def predict(
        self, context: Any, model_input: pd.DataFrame, params: Any = None
    ) -> list[dict[str, Any]]:
        """Return one answer for each row of the columns ``text`` and, if there is one, ``pair``.

        A text may be a list of words if the bundle answers words. Raises ValueError if a row has no
        text.
        """
        texts = column(model_input, "text")
        if "pair" in model_input:
            pairs = column(model_input, "pair")
        else:
            pairs = None
        try:
            request = self.bundle.checked({"texts": texts, "pairs": pairs})
            answers: list[dict[str, Any]] = self.bundle.answer(*request)
        except SystemExit as error:  # what a command prints is here an answer to a request
            raise ValueError(str(error)) from None
        return answers


def column(table: pd.DataFrame, name: str) -> list[Any]:
    """Return a column's texts, or lists of words, which Parquet gives as arrays."""
    missing = table[name].isna()
    if missing.any():
        raise ValueError(f"row {int(missing.to_numpy().argmax())} has no {name!r}")
    return [text if isinstance(text, str) else plain(text) for text in table[name]]


def plain(value: Any) -> Any:
    """Return an array or a tuple as a list, and all else as it is."""
    if isinstance(value, tuple):
        return list(value)
    if hasattr(value, "tolist"):
        return value.tolist()
    return value


set_model(Answers())
