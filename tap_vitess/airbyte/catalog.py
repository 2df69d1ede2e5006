"""Tables as Airbyte streams, and the streams a sync is configured with. Pure.

A stream has the name of its table; its namespace is the keyspace. Tables with a key can be
followed (`incremental`). Without a key, changes could not be matched in the destination, so there
is only `full_refresh`. `is_resumable` is false: it is about full refreshes, which start over.

A sync has only the columns of its catalog: Airbyte itself looks for new ones before a sync. If a
column's type no longer fits, that is an error, because the destination could not be informed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import Any, ClassVar

from tap_vitess.errors import CatalogError
from tap_vitess.records.schema import JsonSchema, StreamSchema
from tap_vitess.survey.facts import Table
from tap_vitess.values.types import DATATYPE_PROPERTIES, ValueOptions

UPDATED_AT = "_ab_cdc_updated_at"
DELETED_AT = "_ab_cdc_deleted_at"
CURSOR = "_ab_cdc_cursor"

_MOMENT = {
    "type": ["string", "null"],
    "format": "date-time",
    "airbyte_type": "timestamp_with_timezone",
}
OWN_PROPERTIES: dict[str, JsonSchema] = {
    UPDATED_AT: _MOMENT,
    DELETED_AT: _MOMENT,
    CURSOR: {"type": ["integer", "null"]},
}


def stream_of(table: Table, options: ValueOptions) -> dict[str, Any]:
    """Describe a table as an Airbyte stream.

    Raises:
        CatalogError: a column has the name of an added column.
    """
    table.check_names(OWN_PROPERTIES)
    properties = {name: _property(schema) for name, schema in table.properties(options)}
    properties |= {name: deepcopy(schema) for name, schema in OWN_PROPERTIES.items()}
    return {
        "name": table.name,
        "namespace": table.keyspace,
        "json_schema": {
            "$schema": "http://json-schema.org/draft-07/schema#",
            "type": "object",
            "properties": properties,
        },
        "supported_sync_modes": ["full_refresh", "incremental"] if table.key else ["full_refresh"],
        "is_resumable": False,
        "source_defined_cursor": True,
        "default_cursor_field": [CURSOR],
        "source_defined_primary_key": [[name] for name in table.key],
    }


def _property(schema: JsonSchema) -> JsonSchema:
    """Return a property's schema for Airbyte; of the column's datatype, keep only the charset."""
    found = {name: value for name, value in schema.items() if name != DATATYPE_PROPERTIES}
    if found.get("format") == "x-singer.decimal":
        del found["format"]
    if found.get("format") == "date-time":
        found["airbyte_type"] = "timestamp_with_timezone"
    if charset := schema.get(DATATYPE_PROPERTIES, {}).get("charset"):
        found[DATATYPE_PROPERTIES] = {"charset": charset}
    return found


@dataclass(frozen=True, slots=True)
class ConfiguredStream:
    """A stream of a sync; `primary_keys` has the catalog's order."""

    own_columns: ClassVar[Mapping[str, str]] = {
        "deleted_at": DELETED_AT,
        "commit_time": UPDATED_AT,
        "seq": CURSOR,
    }

    keyspace: str
    table: str
    properties: Mapping[str, JsonSchema]
    primary_keys: Sequence[str]
    full_refresh: bool

    @property
    def name(self) -> str:
        """The stream's name in log lines and errors."""
        return f"{self.keyspace}.{self.table}"

    @property
    def columns(self) -> frozenset[str]:
        """The configured columns of the table."""
        return frozenset(self.properties.keys() - OWN_PROPERTIES.keys())

    def stream_schema(self) -> StreamSchema:
        """Return the configured properties, to compare with the incoming columns."""
        return StreamSchema(
            self.name, self.properties, self.primary_keys, OWN_PROPERTIES, (), closed=True
        )


def configured_streams(document: object) -> list[ConfiguredStream]:
    """Read a configured catalog; raises CatalogError: it is not one, or asks for the impossible."""
    try:
        streams = [_configured(entry) for entry in document["streams"]]  # type: ignore[index]
    except (KeyError, TypeError, AttributeError, IndexError) as error:
        raise CatalogError(
            f"the catalog is not a configured catalog of Airbyte ({type(error).__name__}: {error})"
        ) from error
    names = [stream.name for stream in streams]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise CatalogError(f"the catalog has the stream {', '.join(twice)} twice")
    return streams


def _configured(entry: Mapping[str, Any]) -> ConfiguredStream:
    stream = entry["stream"]
    key = stream.get("source_defined_primary_key") or entry.get("primary_key") or ()
    found = ConfiguredStream(
        stream.get("namespace") or "",
        stream["name"],
        dict(stream["json_schema"]["properties"]),
        tuple(path[0] for path in key),
        entry["sync_mode"] == "full_refresh",
    )
    if not found.keyspace:
        raise CatalogError(
            f"stream {found.table}: the catalog does not say its namespace, which is the keyspace: "
            "refresh the source schema"
        )
    if entry["sync_mode"] not in {"full_refresh", "incremental"}:
        raise CatalogError(f"stream {found.name}: the sync mode {entry['sync_mode']} is not known")
    if not found.full_refresh:
        _check_incremental(found)
    return found


def _check_incremental(stream: ConfiguredStream) -> None:
    if not stream.primary_keys:
        raise CatalogError(
            f"stream {stream.name} has no primary key, so its changes cannot be matched: choose "
            "the sync mode full refresh"
        )
    needed: Iterable[str] = (*stream.primary_keys, DELETED_AT, CURSOR)
    if missing := [name for name in needed if name not in stream.properties]:
        raise CatalogError(
            f"stream {stream.name}: the column {', '.join(missing)} is not selected, and without "
            "it changes and deletes would be lost: select it"
        )
