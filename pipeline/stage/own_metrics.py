"""Find metrics of one's own: a function, as ``module:function`` next to the recipe."""

from __future__ import annotations

from pathlib import Path

from rarefy.pipeline.sources import plugin_code
from rarefy.pipeline.stage import discovery
from rarefy.pipeline.terms.digests import value_sha256
from rarefy.pipeline.terms.errors import RecipeError
from rarefy.pipeline.terms.own_metric import OwnMetric


def find(name: str, folder: Path) -> OwnMetric:
    """Return the function of ``module:function``, with the digest of its code.

    ``module`` is a file in ``folder``, the recipe's, or an installed module. Raises RecipeError
    with the reason if it cannot be loaded or is no function.
    """
    try:
        with plugin_code.printing_to_stderr():
            function = discovery.imported(name, folder)
    except (Exception, SystemExit) as error:
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise RecipeError(f"metric {name} cannot be loaded: {reason}") from error
    module = getattr(function, "__module__", None)
    if not callable(function) or isinstance(function, type) or module is None:
        raise RecipeError(f"metric {name} is not a function metric(predictions, labels)")
    code = plugin_code.of_module(module).digests()
    return OwnMetric(name, function, value_sha256(code))
