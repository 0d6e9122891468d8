"""Times of products in each form."""

from __future__ import annotations

from exporters import fusion, products
from pipeline.model.quantization import LinearPlan

FORMS = {
    "float": None,
    "dynamic": LinearPlan(precision="int8"),
    "smooth": LinearPlan(precision="int8", low=-1.0, high=1.0, factors=(2.0,) * 256),
}


def test_what_is_timed_is_what_is_exported():
    counts = {
        form: fusion.histogram(products._graph(256, [256, 128], layer))
        for form, layer in FORMS.items()
    }
    assert counts["float"] == {"MatMul": 2, "Add": 2}
    assert counts["dynamic"] == {"DynamicQuantizeLinear": 1, "MatMulIntegerToFloat": 2}
    assert counts["smooth"] == {"Mul": 1, "QuantizeLinear": 1, "MatMulIntegerToFloat": 2}


def test_a_larger_product_takes_longer():
    small = products.milliseconds(256, [64], 4, FORMS, 1)
    large = products.milliseconds(256, [2048], 64, FORMS, 1)
    assert list(small) == list(FORMS)
    assert all(0 < small[form] < large[form] for form in FORMS)
