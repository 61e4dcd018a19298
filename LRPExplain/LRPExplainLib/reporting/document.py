"""The frame of a page that holds all it shows: nothing is fetched, nothing runs, and it prints."""

import base64
import json
from collections.abc import Iterable, Mapping
from html import escape
from pathlib import Path
from typing import Any

_STYLE = Path(__file__).with_name("style.css")
_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"


def document(title: str, parts: Iterable[str], name: str, facts: Mapping[str, Any], style: str = "") -> str:
    """A whole HTML page.

    Args:
        title: as text.
        parts: HTML, one after another; empty ones are left out.
        name: identifies the facts within the page.
        facts: JSON values that the page keeps for programs.
        style: CSS beyond what all pages share.
    """
    inside = json.dumps(facts, ensure_ascii=False, allow_nan=False).replace("<", "\\u003c")
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>\n{_STYLE.read_text(encoding='utf-8')}{style}</style>\n</head>\n"
        f"<body>\n{chr(10).join(part for part in parts if part)}\n"
        f'<script type="application/json" id="{name}">{inside}</script>\n</body>\n</html>\n'
    )


def figure(name: str, png: bytes, caption: str) -> str:
    """A picture that the page holds itself."""
    return (
        f'<figure><img alt="{escape(name)}" src="data:image/png;base64,{base64.b64encode(png).decode("ascii")}">'
        f"<figcaption>{escape(caption)}</figcaption></figure>"
    )
