"""Findings as MRML tables and plots, which Slicer saves, exports to CSV and shows in its table and plot views."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from vtkmodules.util.numpy_support import numpy_to_vtk, vtk_to_numpy

from ..findings.examination import Findings
from ..findings.profiles import AXIS_NAMES, Profile
from . import agreed, record
from .hierarchy import put_in_folder
from .host import tr as _
from .host import vtk
from .nodes import remove_nodes

if TYPE_CHECKING:
    from .presented import PresentedNodes

_TABLE = record.PREFIX + "Table"
_CHART = record.PREFIX + "Chart"
_SERIES = record.PREFIX + "Series"
# What `write` makes begins like this; all else is of checks
_OF_FINDINGS = ("hot spots", "segments", "ledger", "slices ", *AXIS_NAMES)
_MINUS = "\N{MINUS SIGN}"
# Colours of the plots' lines: as in the default colour map, dark enough for a white background
_COLORS = {"for": (0.84, 0.19, 0.10), "against": (0.10, 0.35, 0.85)}
Column = Sequence[float] | Sequence[str] | np.ndarray


def write(presented: PresentedNodes, findings: Findings) -> None:
    """Write the findings to the explanation's table and chart nodes; they are made when they are first wanted."""
    for part in writing(presented, findings):
        part()


def writing(presented: PresentedNodes, findings: Findings) -> list[Callable[[], object]]:
    """What `write` does, a table or a chart at a time: each adds nodes, which every selector of Slicer looks at."""
    parts: list[Callable[[], object]] = [partial(write_table, presented, "hot spots", _hot_spots(findings))]
    if findings.shares:
        parts.append(partial(write_table, presented, "segments", _shares(findings)))
    elif "segments" in presented.tables:  # of a reference that is none any more
        parts.append(partial(remove_nodes, presented.scene, [presented.tables["segments"]]))
    parts.append(partial(write_table, presented, "ledger", _ledger(findings)))
    parts += [partial(_write_profile, presented, profile) for profile in findings.profiles]
    return [partial(_in_one, presented.relevance[0], part) for part in parts]


def _in_one(first: Any, part: Callable[[], object]) -> None:
    """The nodes of a part are linked to the map: one change of it for all of them."""
    with record.together(first):
        part()


def _write_profile(presented: PresentedNodes, profile: Profile) -> None:
    """Relevance per slice along an axis: a table, and a chart with a line for each sign."""
    table = write_table(
        presented,
        f"slices {profile.name}",
        {
            _position(profile): profile.position,
            "for the class": profile.positive,
            "against the class": profile.negative,
        },
    )
    _write_chart(presented, profile, table)


def _titles() -> dict[str, str]:
    """Columns in the user's language; their names stay, as plots and scripts know them."""
    return {
        "rank": _("rank"),
        "share of relevance (%)": _("share of relevance (%)"),
        "relevance": _("relevance"),
        "volume (ml)": _("volume (ml)"),
        "mean": _("mean"),
        "peak": _("peak"),
        "segment": _("segment"),
        "overlap (%)": _("overlap (%)"),
        "for the class": _("for the class"),
        "against the class": _("against the class"),
        "times chance": _("times chance"),
        "entry": _("entry"),
        "share of target value (%)": _("share of target value (%)"),
    }


def _position(profile: Profile) -> str:
    """Such as "S (mm)": how far towards the head."""
    return f"{profile.direction[1]} (mm)"


def _hot_spots(findings: Findings) -> dict[str, Column]:
    spots = findings.hot_spots
    columns: dict[str, Column] = {
        "rank": np.array([spot.rank for spot in spots], np.int32),
        "share of relevance (%)": np.array([spot.share * 100 for spot in spots]),
        "relevance": np.array([spot.relevance for spot in spots]),
        "volume (ml)": np.array([spot.ml for spot in spots]),
        "mean": np.array([spot.mean for spot in spots]),
        "peak": np.array([spot.peak for spot in spots]),
    }
    columns |= {f"peak {axis} (mm)": np.array([spot.place[n] for spot in spots]) for n, axis in enumerate("RAS")}
    if findings.reference is not None:
        columns["segment"] = [spot.segment for spot in spots]
        columns["overlap (%)"] = np.array([spot.overlap * 100 for spot in spots])
    return columns


def _shares(findings: Findings) -> dict[str, Column]:
    rows = findings.shares
    return {
        "segment": [row.name for row in rows],
        "share of relevance (%)": np.array([row.share * 100 for row in rows]),
        "for the class": np.array([row.positive for row in rows]),
        "against the class": np.array([row.negative for row in rows]),
        "volume (ml)": np.array([row.ml for row in rows]),
        "times chance": np.array([row.density for row in rows]),
    }


def _ledger(findings: Findings) -> dict[str, Column]:
    whole = float(findings.ledger["target_value"])
    rows = [("target value", whole), *((f"in {name}", part) for name, part, _ in findings.inputs)]
    rows += [(name, float(findings.ledger.get(name, 0.0))) for name in ("absorbed", "outside", "gap")]
    return {
        "entry": [name for name, _ in rows],
        "relevance": np.array([part for _, part in rows]),
        "share of target value (%)": np.array([part / whole * 100 if whole else 0.0 for _, part in rows]),
    }


def write_table(presented: PresentedNodes, name: str, columns: Mapping[str, Column]) -> Any:
    """The explanation's table of this name with these columns; made when it is first wanted."""
    node = presented.tables.get(name) or _add(presented, "vtkMRMLTableNode", "table", name, _TABLE)
    if not _holds(node.GetTable(), columns):  # plots and table views look at each table anew
        node.SetAndObserveTable(_table(columns))
    for title, shown in _titles().items():
        if title in columns and shown != title:  # titles are saved in a file of their own
            node.SetColumnTitle(title, shown)
    node.SetUseColumnTitleAsColumnHeader(True)
    node.SetLocked(True)  # read-only in table views
    return node


def _holds(table: Any | None, columns: Mapping[str, Column]) -> bool:
    """Whether a table has these columns already."""
    if table is None or [table.GetColumnName(n) for n in range(table.GetNumberOfColumns())] != [*columns]:
        return False
    return all(_equals(table.GetColumn(n), values) for n, values in enumerate(columns.values()))


def _equals(column: Any, values: Column) -> bool:
    if isinstance(values, np.ndarray):
        return bool(column.IsA("vtkDataArray") and np.array_equal(vtk_to_numpy(column), values, equal_nan=True))
    if not column.IsA("vtkStringArray") or column.GetNumberOfValues() != len(values):
        return False
    return all(column.GetValue(n) == str(value) for n, value in enumerate(values))


def _table(columns: Mapping[str, Column]) -> Any:
    table = vtk.vtkTable()
    for title, values in columns.items():
        if isinstance(values, np.ndarray):
            column = numpy_to_vtk(np.ascontiguousarray(values), deep=True)
        else:
            column = vtk.vtkStringArray()
            for value in values:
                column.InsertNextValue(str(value))
        column.SetName(title)
        table.AddColumn(column)
    return table


def _add(presented: PresentedNodes, class_name: str, role: str, name: str, attribute: str) -> Any:
    scene, first = presented.scene, presented.relevance[0]
    node = scene.AddNewNodeByClass(class_name, scene.GenerateUniqueName(f"{first.GetName()} {name}"))
    node.SetAttribute(attribute, name)
    record.mark(node, role)
    record.link(first, role, [*(old for old in record.linked(first, role) if old is not None), node])
    put_in_folder(first, [node])
    return node


def _write_chart(presented: PresentedNodes, profile: Profile, table: Any) -> None:
    titles = {
        "sagittal": _("Relevance per sagittal slice"),
        "coronal": _("Relevance per coronal slice"),
        "axial": _("Relevance per axial slice"),
    }
    names = {"for": _("for {target}"), "against": _("against {target}")}
    lines = [
        Line(names[what].format(target=presented.target), _position(profile), f"{what} the class", color)
        for what, color in _COLORS.items()
    ]
    directions = f" {_MINUS} ".join(profile.direction)
    axis = _("{directions} (mm); red: for, blue: against").format(directions=directions)
    new = profile.name not in presented.charts
    chart = write_chart(presented, profile.name, table, lines, (titles[profile.name], axis, _("Relevance")))
    if new:
        chart.SetLegendVisibility(False)  # it would lie over the peak


@dataclass(frozen=True)
class Line:
    """One line of a chart: its name, the columns of the table, its colour (RGB in 0..1)."""

    name: str
    x: str
    y: str
    color: tuple[float, float, float]
    dashed: bool = False


def write_chart(
    presented: PresentedNodes, name: str, table: Any, lines: Sequence[Line], titles: tuple[str, str, str]
) -> Any:
    """The explanation's chart of this name, made when it is first wanted; ``titles``: of the chart, x and y.

    The lines of one that is there get their names again, unless the user has renamed them.
    """
    chart = presented.charts.get(name)
    if chart is not None:
        wanted = {f"{name} {line.y}": line.name for line in lines}
        for series in record.linked(presented.relevance[0], "series"):
            known = wanted.get(series.GetAttribute(_SERIES)) if series is not None else None
            if known and series.GetName() == series.GetAttribute(record.NAME):
                _call(series, known)
        return chart
    chart = _add(presented, "vtkMRMLPlotChartNode", "chart", name, _CHART)
    title, x, y = titles
    chart.SetTitle(title)
    chart.SetXAxisTitle(x)
    chart.SetYAxisTitle(y)
    for line in lines:
        series = _add(presented, "vtkMRMLPlotSeriesNode", "series", f"{name} {line.y}", _SERIES)
        _call(series, line.name)
        series.SetAndObserveTableNodeID(table.GetID())
        series.SetXColumnName(line.x)
        series.SetYColumnName(line.y)
        series.SetPlotType(series.PlotTypeScatter)
        series.SetMarkerStyle(series.MarkerStyleNone)
        series.SetLineStyle(series.LineStyleDash if line.dashed else series.LineStyleSolid)
        series.SetLineWidth(2)
        series.SetColor(*line.color)
        chart.AddAndObservePlotSeriesNodeID(series.GetID())
    return chart


def _call(series: Any, name: str) -> None:
    """Name it, and note that the name is ours."""
    series.SetName(name)
    series.SetAttribute(record.NAME, name)


def rename(first: Any, old: str, new: str) -> None:
    """What was named after a map, tables, charts and hot spots, is named after it again where the user let it be."""
    for node in record.every_node(first):
        if node.GetName() and node.GetName().startswith(f"{old} "):
            node.SetName(first.GetScene().GenerateUniqueName(new + node.GetName()[len(old) :]))


def forget_checks(first: Any) -> None:
    """Remove what checks found of a map whose voxels are others now."""
    first.RemoveAttribute(record.VERDICT)
    agreed.forget(first)
    for role, attribute in {"table": _TABLE, "chart": _CHART, "series": _SERIES}.items():
        made = [node for node in record.linked(first, role) if node is not None]
        checked = [node for node in made if not (node.GetAttribute(attribute) or "").startswith(_OF_FINDINGS)]
        remove_nodes(first.GetScene(), checked)
