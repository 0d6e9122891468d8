"""A bundle as a model of MLflow: a table of texts in, the answers of the bundle's predict.py out.

Requires mlflow with pandas, and what the bundle's predict.py requires. MLflow runs this file, so
nothing is pickled.
"""

import importlib.util
from typing import Any

import pandas as pd
from mlflow.models import set_model
from mlflow.pyfunc import PythonModel


class Answers(PythonModel):  # type: ignore[misc]
    """The bundle in the artifact ``bundle``."""

    def load_context(self, context: Any) -> None:
        """Load the bundle once."""
        path = f"{context.artifacts['bundle']}/predict.py"
        spec = importlib.util.spec_from_file_location("rarefy_bundle_predict", path)
        assert spec is not None
        assert spec.loader is not None
        program: Any = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(program)
        self.model = program.Model()

    def predict(
        self, context: Any, model_input: pd.DataFrame, params: Any = None
    ) -> list[dict[str, Any]]:
        """Return one answer for each row of the columns ``text`` and, if there is one, ``pair``.

        A text may be a list of words if the bundle answers words. Raises ValueError if a row cannot
        be answered, or has no text.
        """
        texts = column(model_input, "text")
        pairs = None
        if "pair" in model_input:
            pairs = column(model_input, "pair")
        answers: list[dict[str, Any]] = self.model(texts, pairs)
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
