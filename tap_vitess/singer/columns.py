"""The names of streams and of our own columns, and a table's JSON schema. Pure."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

from tap_vitess.survey.facts import Table
from tap_vitess.values.types import ValueOptions

DELETED_AT = "_sdc_deleted_at"
_STRING = {"type": ["string", "null"]}
_DATE_TIME = {**_STRING, "format": "date-time"}
_METADATA: dict[str, dict[str, Any]] = {
    "op": _STRING,
    "shard": _STRING,
    "commit_time": _DATE_TIME,
    "seq": {"type": ["integer", "null"]},
}
OWN_COLUMNS = {"deleted_at": DELETED_AT, **{word: f"_sdc_vitess_{word}" for word in _METADATA}}
AUTOMATIC = frozenset(OWN_COLUMNS.values())


def json_schema(table: Table, options: ValueOptions, *, metadata_columns: bool) -> dict[str, Any]:
    """Return a table's JSON schema, without limits: one ALTER would end a target's validation.

    The caller may change it: schemas share nothing.
    """
    own = {DELETED_AT: _DATE_TIME}
    if metadata_columns:
        own |= {OWN_COLUMNS[word]: schema for word, schema in _METADATA.items()}
    properties = dict(table.properties(options))
    properties |= {name: deepcopy(schema) for name, schema in own.items()}
    return {"type": "object", "properties": properties, "required": list(table.key)}
