"""The lineage of artifacts."""

from __future__ import annotations

from rarefy.pipeline.report.figures.lineage import lineage
from tests.pipeline.report.factory import report_data
from tests.pipeline.report.figures.shapes import tooltips


def test_every_edge_is_told_once() -> None:
    nodes = report_data().lineage
    names = {node.digest: node.id for node in nodes}
    expected = [
        f"{node.id} takes {names[parent]} as {role}"
        for node in nodes
        for parent, role in node.parents.items()
        if parent in names
    ]
    assert expected
    assert sorted(tooltips(lineage(nodes, 400, "l"))) == sorted(expected)


def test_a_parent_from_elsewhere_has_no_edge() -> None:
    node = report_data().lineage[0].model_copy(update={"parents": {"0" * 64: "input"}})
    assert tooltips(lineage([node], 400, "l")) == []
