"""A provider that runs little of a graph is not called active."""

from __future__ import annotations

from contextlib import nullcontext
from types import SimpleNamespace

import pytest

from pipeline.model import placement
from pipeline.terms.errors import ProviderError


@pytest.mark.parametrize(
    ("cpu", "cuda", "told"),
    [
        (["MatMulIntegerToFloat"] * 18, ["MatMul"] * 6 + ["Add"] * 40, "18 on CPU.*, 6 on CUDA"),
        (["Gather", "Add"], ["MatMul", "Gemm"], None),
        (["Gather", "Add"], ["Add"], "2 on CPU.*, 1 on CUDA"),
    ],
)
def test_the_matrix_products_say_where_a_graph_runs(cpu, cuda, told):
    """A CPU int8 graph on a GPU: the provider is active, but runs only minor nodes."""
    parts = [
        SimpleNamespace(
            ep_name=f"{name}ExecutionProvider",
            get_nodes=lambda names=names: [SimpleNamespace(op_type=one) for one in names],
        )
        for name, names in (("CPU", cpu), ("CUDA", cuda))
    ]
    session = SimpleNamespace(get_provider_graph_assignment_info=lambda: parts)
    with pytest.raises(ProviderError, match=told) if told else nullcontext():
        placement.check(session, "cuda", "CUDAExecutionProvider")
