"""The names of streams and of our own columns, and a table's JSON schema. Pure."""

from __future__ import annotations

from typing import Any

from tap_vitess.survey.facts import Table
from tap_vitess.values.types import ValueOptions

DELETED_AT = "_sdc_deleted_at"
OP = "_sdc_vitess_op"
SHARD = "_sdc_vitess_shard"
COMMIT_TIME = "_sdc_vitess_commit_time"
SEQ = "_sdc_vitess_seq"
_DATE_TIME = {"type": ["string", "null"], "format": "date-time"}
METADATA_COLUMNS: dict[str, dict[str, Any]] = {
    OP: {"type": ["string", "null"]},
    SHARD: {"type": ["string", "null"]},
    COMMIT_TIME: _DATE_TIME,
    SEQ: {"type": ["integer", "null"]},
}
AUTOMATIC = frozenset({DELETED_AT, *METADATA_COLUMNS})
OWN_COLUMNS = {
    "deleted_at": DELETED_AT,
    "op": OP,
    "shard": SHARD,
    "commit_time": COMMIT_TIME,
    "seq": SEQ,
}


def stream_name(keyspace: str, table: str) -> str:
    """Return the name of a table's stream."""
    return f"{keyspace}-{table}"


def json_schema(table: Table, options: ValueOptions, *, metadata_columns: bool) -> dict[str, Any]:
    """Return a table's JSON schema, without limits: one ALTER would end a target's validation."""
    properties = {**dict(table.properties(options)), DELETED_AT: _DATE_TIME}
    if metadata_columns:
        properties |= METADATA_COLUMNS
    return {"type": "object", "properties": properties, "required": list(table.key)}
