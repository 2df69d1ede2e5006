"""Which keys a copy can be resumed by. Pure.

A copy is read `ORDER BY` the key and resumed by `key > lastpk`, in VTGate's own retries too. Rows
are lost if MySQL uses two different orders for these, or does not find a value equal to its own
text. Seen on MySQL 8.0.15 and 9.7.4:

- ENUM and SET are read in the order of their numbers and compared as text.
- FLOAT, and DOUBLE(M,D), are sent rounded.
- BIT(64) is read as an unsigned number and compared as a signed one.
- If the index does not give the order, MySQL sorts, by only the first 1024 bytes of a text
  (max_sort_length). That is so if the key holds only a prefix of a column, as it must of a TEXT or
  BLOB, and if some columns of the key descend.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

_OTHER_ORDER = re.compile(r"enum|set|float|double\s*\(|bit\s*\(64\)", re.IGNORECASE)
_BYTES = re.compile(r"(var)?(char|binary)|\w*(text|blob)", re.IGNORECASE)
_NEVER_WHOLE = re.compile(r"\w*(text|blob)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class KeyPart:
    """A column of a key; prefix: only its first characters are in the index."""

    column: str
    column_type: str
    prefix: bool = False
    descending: bool = False


def why_not_resumable(key: Sequence[KeyPart]) -> str:
    """Return the columns that keep a copy from being resumed by a key; empty if it can be."""
    sorts = any(part.descending for part in key)
    return ", ".join(f"{part.column} ({why})" for part in key if (why := _why(part, sorts=sorts)))


def _why(part: KeyPart, *, sorts: bool) -> str:
    if match := _OTHER_ORDER.match(part.column_type):
        return match[0].rstrip(" (").lower()
    if part.prefix or _NEVER_WHOLE.match(part.column_type):
        return "a prefix"
    if sorts and _BYTES.match(part.column_type):
        return "together with a descending column"
    return ""
