"""Rows of text in a QTableWidget that is as high as its rows, so that the panel alone scrolls."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import qt

_MOST_ROWS = 8  # a longer table scrolls


def fill(table: Any, rows: Sequence[Sequence[str]], stretched: int = 0) -> None:
    """Put ``rows`` into the table; the column ``stretched`` takes the width that is left, others stand on the right."""
    table.setRowCount(0)
    table.setRowCount(len(rows))
    for r, row in enumerate(rows):
        for c, text in enumerate(row):
            item = qt.QTableWidgetItem(text)
            item.setToolTip(text)
            if c != stretched:
                item.setTextAlignment(qt.Qt.AlignRight | qt.Qt.AlignVCenter)
            table.setItem(r, c, item)
    header = table.horizontalHeader()
    for c in range(table.columnCount):
        header.setSectionResizeMode(c, qt.QHeaderView.Stretch if c == stretched else qt.QHeaderView.ResizeToContents)
    _fit_height(table, len(rows))


def _fit_height(table: Any, rows: int) -> None:
    table.resizeRowsToContents()
    height = table.horizontalHeader().sizeHint.height() + 2 * table.frameWidth
    height += sum(table.rowHeight(r) for r in range(min(rows, _MOST_ROWS)))
    table.setFixedHeight(height)
