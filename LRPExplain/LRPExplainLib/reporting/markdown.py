"""The Markdown of our own tables as HTML: headings, tables and paragraphs, nothing else."""

import re
from collections.abc import Iterator, Sequence
from html import escape
from itertools import groupby

_NUMBER = re.compile(r"[-–−+]?[\d.]*(e[-+]?\d+)?\s?(%|±.*)?$")


def html_of(markdown: str) -> str:
    """HTML of what `evaluation.tables` writes; its headings become one level lower."""
    return "\n".join(_blocks(markdown.splitlines()))


def table(header: Sequence[str], rows: Sequence[Sequence[str]], numbered: bool = True) -> str:
    """An HTML table; cells are escaped, and those that hold figures are set as such."""
    head = "".join(f"<th>{escape(cell)}</th>" for cell in header)
    body = "\n".join("<tr>" + "".join(_cell(cell, numbered) for cell in row) + "</tr>" for row in rows)
    return f"<table><thead><tr>{head}</tr></thead><tbody>\n{body}\n</tbody></table>"


def _cell(text: str, numbered: bool) -> str:
    kind = ' class="n"' if numbered and _NUMBER.match(text) else ""
    return f"<td{kind}>{escape(text)}</td>"


def _blocks(lines: Sequence[str]) -> Iterator[str]:
    for kind, group in groupby(lines, _kind):
        block = list(group)
        if kind == "heading":
            for line in block:
                level = len(line) - len(line.lstrip("#")) + 1
                yield f"<h{level}>{escape(line.lstrip('# '))}</h{level}>"
        elif kind == "table":
            cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in block]
            yield table(cells[0], cells[2:])
        elif kind == "text":
            yield f"<p>{escape(' '.join(block))}</p>"


def _kind(line: str) -> str:
    if not line.strip():
        return "blank"
    return {"#": "heading", "|": "table"}.get(line[0], "text")
