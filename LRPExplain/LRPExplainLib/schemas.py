"""Facts against the JSON schemas beside the code."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from jsonschema import Draft202012Validator
from jsonschema.exceptions import best_match

_LONGEST = 200  # characters of an explanation that quotes what it refuses


@cache
def read_schema(path: Path) -> Mapping[str, Any]:
    """A JSON schema, draft 2020-12."""
    schema: Mapping[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return schema


def schema_problem(facts: Any, schema: Mapping[str, Any]) -> str | None:
    """Where and why the schema refuses the facts, as "at classes/0/name: 3 is not a string"; None if it does not."""
    found = best_match(Draft202012Validator(schema).iter_errors(facts))
    if found is None:
        return None
    where = "/".join(str(part) for part in found.absolute_path) or "the whole"
    return f"at {where}: {found.message.splitlines()[0][:_LONGEST]}"
