"""The lineage as an arc diagram: artifacts in order, each joined to what it was made from."""

from __future__ import annotations

from typing import NamedTuple

from pipeline.report.figures.chart import INK, MONOSPACE, MUTED, OTHER, Chart, Font, fit
from pipeline.verdict.record import LineageNode

STEP = 34.0
NAME = Font(INK, 13, 500)
LAST_NAME = Font(INK, 13, 650)
ORIGIN = Font(MUTED, 11)
DIGEST = Font(MUTED, 11.5, None, MONOSPACE)


class _Edge(NamedTuple):
    """Two rows of the diagram, and what the child takes the parent as."""

    parent: int
    child: int
    role: str

    @property
    def rows(self) -> int:
        return self.child - self.parent


def lineage(nodes: list[LineageNode], width: int, name: str) -> str:
    """Return the diagram. The edge to the artifact directly above is straight, others are arcs.

    Args:
        nodes: The artifacts, at least one, each after those that it was made from.
        width: The width in pixels.
        name: A name that is unique in the page.
    """
    edges = _edges(nodes)
    farthest = max((edge.rows for edge in edges), default=1)
    rail = 12.0
    if farthest > 1:
        rail += min(14.0 * farthest, 70.0)
    chart = Chart(name, width, STEP * len(nodes) + 4, "Lineage of the artifacts")
    for edge in edges:
        child = nodes[edge.child].id
        parent = nodes[edge.parent].id
        with chart.tooltip(f"{child} takes {parent} as {edge.role}"):
            _draw_edge(chart, edge, rail, farthest)
        chart.descriptions.append(f"{child} from {parent} as {edge.role}")
    y = STEP / 2
    for node in nodes:
        _draw_node(chart, node, rail, y, node is nodes[-1])
        y += STEP
    return chart.svg()


def _draw_node(chart: Chart, node: LineageNode, rail: float, y: float, last: bool) -> None:
    left = rail + 16
    room = chart.width - left - 100
    name = fit(node.id, room, 13)
    origin = fit(f"{node.stage} v{node.version} · {node.kind}", room, 11)
    chart.dot(rail, y, last)
    chart.text(left, y - 5, name, LAST_NAME if last else NAME)
    chart.text(left, y + 8, origin, ORIGIN)
    chart.text(chart.width - 4, y, node.digest[:12], DIGEST, "end")


def _edges(nodes: list[LineageNode]) -> list[_Edge]:
    """Return the edges between the nodes; parents from elsewhere have none."""
    places = {node.digest: index for index, node in enumerate(nodes)}
    edges = []
    for child, node in enumerate(nodes):
        for digest, role in node.parents.items():
            if digest in places:
                edges.append(_Edge(places[digest], child, role))
    return edges


def _draw_edge(chart: Chart, edge: _Edge, rail: float, farthest: int) -> None:
    start = STEP * (edge.parent + 0.5)
    end = STEP * (edge.child + 0.5)
    if edge.rows == 1:
        chart.line((rail, start), (rail, end), OTHER, 2)
        return
    reach = 2 * (rail - 4) * edge.rows / farthest
    bend = round(rail - reach, 1)
    middle = (start + end) / 2
    chart.path(f"M{rail} {start}Q{bend} {middle} {rail} {end}", OTHER, 1.5, "4 3")
