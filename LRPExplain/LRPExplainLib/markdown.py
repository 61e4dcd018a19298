"""Tables as Markdown, which people read as it is, too."""

from __future__ import annotations

from collections.abc import Sequence


def table_lines(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """A table's lines, its columns aligned; a cell's "|", which would end it, becomes "/"."""
    cells = [[cell.replace("|", "/") for cell in row] for row in (header, *rows)]
    widths = [max(len(row[n]) for row in cells) for n in range(len(header))]
    heads, *body = (
        f"| {' | '.join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))} |" for row in cells
    )
    return [heads, f"|{'|'.join('-' * (width + 2) for width in widths)}|", *body]
