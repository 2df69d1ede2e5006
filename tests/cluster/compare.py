"""Rows of the source and of a target in one form, and what differs between them."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any

SHOWN = 5

Row = Mapping[str, Any]
Key = tuple[Any, ...]


def by_key(rows: Iterable[Row], key: Sequence[str]) -> dict[Key, dict[str, Any]]:
    """Index rows by their key, without the columns the tap adds."""
    return {
        tuple(_plain(row[column]) for column in key): {
            name: _plain(value) for name, value in row.items() if not name.startswith("_sdc_")
        }
        for row in rows
    }


def difference(source: Mapping[Key, Row], target: Mapping[Key, Row]) -> str:
    """Describe the first few rows that differ; empty when the two are equal."""
    missing = [key for key in source if key not in target]
    extra = [key for key in target if key not in source]
    changed = [key for key in source if key in target and source[key] != target[key]]
    if not (missing or extra or changed):
        return ""
    lines = [
        f"source has {len(source)} rows, target {len(target)}: {len(missing)} missing, "
        f"{len(extra)} too many, {len(changed)} different"
    ]
    lines += [f"  missing:   {source[key]}" for key in missing[:SHOWN]]
    lines += [f"  too many:  {target[key]}" for key in extra[:SHOWN]]
    lines += [f"  different: {source[key]} became {target[key]}" for key in changed[:SHOWN]]
    return "\n".join(lines)


def _plain(value: Any) -> Any:
    """Return a value of MySQL as the tap writes it."""
    if isinstance(value, datetime):
        return value.isoformat() + "+00:00"
    if isinstance(value, Decimal):
        return str(value)
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    return value
