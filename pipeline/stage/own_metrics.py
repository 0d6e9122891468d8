"""Find metrics of one's own: a function, as ``module:function`` next to the recipe."""

from __future__ import annotations

from inspect import isfunction
from pathlib import Path

from rarefy.pipeline.sources import plugin_code
from rarefy.pipeline.stage import discovery
from rarefy.pipeline.terms.digests import value_sha256
from rarefy.pipeline.terms.errors import RecipeError
from rarefy.pipeline.terms.metrics import OwnMetric


def find(name: str, folder: Path) -> OwnMetric:
    """Return the function of ``module:function``, with the digest of its code.

    ``module`` is a file in ``folder``, the recipe's, or an installed module. Raises RecipeError
    with the reason if it cannot be loaded or is no function.
    """
    try:
        with plugin_code.printing_to_stderr():
            function = discovery.imported(name, folder)
    except (Exception, SystemExit) as error:
        kind = type(error).__name__
        words = f"{kind}: {error}".split()
        reason = " ".join(words)
        raise RecipeError(f"metric {name} cannot be loaded: {reason}") from error
    if not isfunction(function):
        raise RecipeError(f"metric {name} is not a function metric(predictions, labels)")
    code = plugin_code.of_module(function.__module__)
    digests = code.digests()
    digest = value_sha256(digests)
    return OwnMetric(name, function, digest)
