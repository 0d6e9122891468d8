"""Start, load a bundle and answer one row. This process is started by ``measure.cold_start``.

It imports what a service would import, and of rarefy only the runtime, because the time of every
import counts.
"""

import importlib
import json
import sys
import time
from pathlib import Path

import numpy  # noqa: F401
import tokenizers  # noqa: F401

from rarefy.pipeline.model.runtime.bundle_model import BundleModel
from rarefy.pipeline.model.runtime.providers import library
from rarefy.pipeline.terms.errors import RarefyError


def main() -> None:
    """Answer one row; write the monotonic clock in ns after the imports, load and answer."""
    folder = Path(sys.argv[1])
    request = json.loads((folder / "request.json").read_text())
    importlib.import_module(library(request["provider"]))
    imported = time.monotonic_ns()
    try:
        provider, threads = request["provider"], request["threads"]
        model = BundleModel(Path(request["directory"]), provider=provider, threads=threads)
        loaded = time.monotonic_ns()
        model.units(request["texts"], request["pairs"])
        answered = time.monotonic_ns()
    except RarefyError as error:
        print(error, file=sys.stderr)
        sys.exit(error.exit_code)
    moments = {"imported": imported, "loaded": loaded, "answered": answered}
    (folder / "answer.json").write_text(json.dumps(moments))


if __name__ == "__main__":
    main()
