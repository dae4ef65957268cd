"""The curve of a tuning for a person: a table with bars for the terminal, and a picture (SVG).

Reads a SearchTuning as the API shows it and nothing else, so a saved object can be drawn without a cluster.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree

from pydantic import ValidationError

from vectorops.kinds.searchtuning.resource import Compared, Point, Spec, Status

if TYPE_CHECKING:
    from rich.console import RenderableType

BAR = 26
"""Characters of a full bar: with the figures beside it, a line of 80."""


class NothingToPlot(ValueError):
    """The object has no curve; the message says what to do."""


@dataclass(frozen=True)
class Curve:
    """What is drawn."""

    name: str
    target_percent: int
    points: tuple[Point, ...]
    chosen: int | None
    comparison: tuple[Compared, ...]


def curve_of(body: Mapping[str, Any]) -> Curve:
    """The curve of an object. Raises NothingToPlot."""
    name = str((body.get("metadata") or {}).get("name", "?"))
    if body.get("kind", "SearchTuning") != "SearchTuning":
        raise NothingToPlot(f"{body.get('kind')} {name} is no SearchTuning: name one that has ended.")
    try:
        spec, status = Spec.model_validate(body.get("spec") or {}), Status.model_validate(body.get("status") or {})
    except ValidationError:
        raise NothingToPlot(f"SearchTuning {name} cannot be read: is it of another version?") from None
    if not status.curve:
        raise NothingToPlot(f"SearchTuning {name} has measured nothing yet: wait for `kubectl get vtune {name}`.")
    chosen = status.chosen.ef_search if status.chosen is not None else None
    points = tuple(sorted(status.curve, key=lambda point: point.ef_search))
    return Curve(name, spec.recall_target_percent, points, chosen, tuple(status.comparison))


def in_terminal(curve: Curve) -> RenderableType:
    """A table with a bar for each value, and one for the comparison."""
    from rich.console import Group

    return Group(_curve_table(curve), *([_comparison_table(curve)] if curve.comparison else []))


def _curve_table(curve: Curve) -> RenderableType:
    from rich.bar import Bar
    from rich.table import Table

    least = min(point.lower_bound_percent or point.recall_percent for point in curve.points)
    floor = min(max(0, least - 5), curve.target_percent - 1)
    table = Table(
        title=f"{curve.name}: recall by hnsw.ef_search, target {curve.target_percent} %", title_justify="left"
    )
    for heading in ("ef_search", "recall", "surely", "p95 ms", "blocks"):
        table.add_column(heading, justify="right")
    table.add_column(f"{floor} % ... 100 %", width=BAR)
    for point in curve.points:
        mark = " <-" if point.ef_search == curve.chosen else ""
        table.add_row(
            f"{point.ef_search}{mark}", f"{point.recall_percent} %", _percent(point.lower_bound_percent),
            str(point.p95_milliseconds), str(point.buffers if point.buffers is not None else "?"),
            Bar(100 - floor, 0, max(0, point.recall_percent - floor), width=BAR),
        )  # fmt: skip
    return table


def _comparison_table(curve: Curve) -> RenderableType:
    from rich.table import Table

    table = Table(title="compared, each at the smallest value that meets the target", title_justify="left")
    table.add_column("index")
    for heading in ("size", "build s", "ef_search", "recall", "surely", "p95 ms", "blocks"):
        table.add_column(heading, justify="right")
    for one in curve.comparison:
        cells = (one.size, one.build_seconds, one.ef_search, f"{one.recall_percent} %")
        rest = (_percent(one.lower_bound_percent), one.p95_milliseconds, one.buffers)
        table.add_row(one.name, *("-" if cell is None else str(cell) for cell in (*cells, *rest)))
    return table


def _percent(value: int | None) -> str:
    return "?" if value is None else f"{value} %"


def as_svg(curve: Curve) -> bytes:
    """The picture: recall, its lower bound and the target over ef_search; p95 on an axis of its own."""
    import pygal

    chart = pygal.XY(
        title=f"{curve.name}: recall by hnsw.ef_search", x_title="hnsw.ef_search", y_title="recall, %",
        show_dots=True, legend_at_bottom=True, js=(), xrange=_range(curve), secondary_range=(0, _most(curve)),
    )  # fmt: skip
    points = curve.points
    chart.add("recall", [(p.ef_search, p.recall_percent) for p in points])
    sure = [(p.ef_search, p.lower_bound_percent) for p in points if p.lower_bound_percent is not None]
    if sure:
        chart.add("surely at least", sure)
    ends = (points[0].ef_search, points[-1].ef_search)
    chart.add(f"target {curve.target_percent} %", [(end, curve.target_percent) for end in ends], show_dots=False)
    if curve.chosen is not None:
        at = next(p for p in points if p.ef_search == curve.chosen)
        chart.add(f"chosen {curve.chosen}", [(at.ef_search, at.recall_percent)], stroke=False, dots_size=6)
    chart.add("p95, ms (right)", [(p.ef_search, p.p95_milliseconds) for p in points], secondary=True)
    root = chart.render_tree()
    for parent in list(root.iter()):  # a picture that people open in their browsers runs nothing
        for child in [child for child in parent if str(child.tag).endswith("script")]:
            parent.remove(child)
    return bytes(ElementTree.tostring(root, encoding="utf-8", xml_declaration=True))


def _range(curve: Curve) -> tuple[int, int]:
    return curve.points[0].ef_search - 1, curve.points[-1].ef_search + 1


def _most(curve: Curve) -> int:
    return max(1, 2 * max(point.p95_milliseconds for point in curve.points))
