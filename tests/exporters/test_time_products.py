"""Times of products in each form."""

from __future__ import annotations

from rarefy.exporters import fusion, time_products
from rarefy.pipeline.model.quantization.plan import LinearPlan

FORMS = {
    "float": None,
    "dynamic": LinearPlan(precision="int8"),
    "smooth": LinearPlan(precision="int8", low=-1.0, high=1.0, factors=(2.0,) * 256),
}


def test_what_is_timed_is_what_is_exported():
    counts = {
        form: fusion.histogram(time_products._graph(256, [256, 128], layer))
        for form, layer in FORMS.items()
    }
    assert counts["float"] == {"MatMul": 2, "Add": 2}
    assert counts["dynamic"] == {"DynamicQuantizeLinear": 1, "MatMulIntegerToFloat": 2}
    assert counts["smooth"] == {"Mul": 1, "QuantizeLinear": 1, "MatMulIntegerToFloat": 2}


def test_a_larger_product_takes_longer():
    small = time_products.milliseconds(256, [64], 4, FORMS, 1)
    large = time_products.milliseconds(256, [2048], 64, FORMS, 1)
    assert list(small) == list(FORMS)
    assert all(0 < small[form] < large[form] for form in FORMS)


def test_times_that_something_else_disturbed_are_taken_again():
    asked = []

    def block(*_):
        asked.append(1)
        disturbed = len(asked) <= time_products.BLOCKS and len(asked) % 2
        return 9.0 if disturbed else 1.0

    assert time_products.milliseconds(256, [64], 4, {"float": None}, 1, block) == {"float": 1.0}
    assert len(asked) == 2 * time_products.BLOCKS
    del asked[:]
    time_products.milliseconds(
        256, [64], 4, {"float": None}, 1, lambda *_: float(asked.append(1) or len(asked))
    )
    assert len(asked) <= time_products.TIMES * time_products.BLOCKS
