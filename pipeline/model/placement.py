"""Where a session's nodes run: on the provider that was asked for, or elsewhere."""

from __future__ import annotations

from collections import Counter
from typing import Any

from pipeline.terms.errors import ProviderError


def check(session: Any, provider: str, name: str) -> None:
    """Raise ProviderError if a provider is registered but most of the work runs elsewhere.

    The work is counted in matrix products: a GPU provider supports few of those in an int8 graph
    made for CPUs. ``name``: ONNX Runtime's for the provider.
    """
    nodes: Counter[str] = Counter()
    products: Counter[str] = Counter()
    for part in session.get_provider_graph_assignment_info():
        operators = [node.op_type for node in part.get_nodes()]
        nodes[part.ep_name] += len(operators)
        products[part.ep_name] += sum(map(_is_product, operators))
    work, what = (products, "matrix products") if products.total() else (nodes, "nodes")
    own = work[name]
    if not own or 2 * own < work.total():
        where = ", ".join(f"{count} on {other}" for other, count in work.items() if count)
        raise ProviderError(
            f"provider {provider!r} is active, but most {what} run elsewhere: {where}; "
            "export the model for this provider"
        )


def _is_product(operator: str) -> bool:
    return operator == "Gemm" or any(word in operator for word in ("MatMul", "Attention"))
