"""Compress a transformer into an ONNX model that meets its budgets, from Python.

    import rarefy

    recipe = rarefy.load("demo.yaml")
    print(rarefy.plan(recipe))
    result = rarefy.run(recipe)
    model = rarefy.Bundle(result.bundle)
    model.predict(["A fine film."])

Everything public is listed in ``__init__.pyi`` and in docs/reference/python.md. Importing this
module is cheap, because each name loads what it needs when it is first used.
"""

import lazy_loader

__version__ = "0.1.0"

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
