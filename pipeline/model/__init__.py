"""Models: checkpoints, architectures, tokens, quantization plans, and what runs bundles."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(__name__, submodules=["checkpoint"])
