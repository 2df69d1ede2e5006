"""The settings in Airbyte's words, and back.

The settings are the tap's, with these differences. DECIMAL is written as a number and JSON as a
string, because destinations handle these best. `grpc_headers` is a string of JSON, because Airbyte
keeps no secrets in objects. There is no `metadata_columns`; the columns are always there.
Certificates can be pasted instead of given as files.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from tap_vitess.airbyte.pasted import PASTED, files_of
from tap_vitess.config import SETTINGS, SETTINGS_SCHEMA, Config
from tap_vitess.errors import ConfigError
from tap_vitess.settings import checked

DEFAULTS = {"decimal_as": "number", "json_as": "string"}
# Airbyte refreshes a stream by itself, its destinations take no files, and a refresh of one
# connection would remove the rows of others.
_OMITTED = {
    *("metadata_columns", "resync_tables", "batch_keep_hours"),
    *("stream_name", "emit_activate_version_messages", "shards"),
}
# Airbyte keeps the state and shows progress. These are not shown, but work if they are given.
_HIDDEN = {
    *("mirror_keyspace", "mirror_table", "mirror_name", "start_from_mirror"),
    "progress_seconds",
}
_CHANGES: dict[str, dict[str, Any]] = {
    "grpc_headers": {
        "type": "string",
        "description": "Further gRPC metadata for each call, such as an authorization header, as "
        'a JSON object: {"authorization": "Basic ..."}.',
    },
    "on_lost_position": {
        "description": "What to do when the changes since the last sync are gone or can no longer "
        "be read (binlogs purged, old shards deleted, another cluster, a table altered since): "
        "`fail` ends with an error and keeps the position; `resync` copies the affected tables "
        "again, and rows that were deleted in the meantime stay in the destination until the "
        "stream is refreshed."
    },
    "max_run_seconds": {
        "description": "End the sync at the next boundary after this many seconds; the next "
        "one resumes there. A full refresh must fit into one sync. Default: no limit."
    },
    "decimal_as": {
        "description": "How DECIMAL is written: as a JSON number with every digit, or as a string."
    },
}


def specification() -> dict[str, Any]:
    """Return the body of the SPEC message."""
    return {
        "protocol_version": "0.18.0",
        "supportsIncremental": True,
        "supported_destination_sync_modes": ["append", "overwrite", "append_dedup"],
        "connectionSpecification": {
            "$schema": "http://json-schema.org/draft-07/schema#",
            "title": "Vitess",
            "type": "object",
            "additionalProperties": True,
            "required": SETTINGS_SCHEMA["required"],
            "properties": {name: _property(name, order) for order, name in enumerate(_shown())},
        },
    }


def _shown() -> Iterator[str]:
    for name in SETTINGS:
        if name not in _OMITTED | _HIDDEN:
            yield name
            if name in PASTED:
                yield PASTED[name]


def _property(name: str, order: int) -> dict[str, Any]:
    if name in PASTED.values():
        return _pasted(name, order)
    found = {**SETTINGS[name], "order": order, **_CHANGES.get(name, {})}
    if found.pop("secret", False):
        found["airbyte_secret"] = True
    if found["type"] == "string" and not isinstance(found.get("default", ""), str):
        del found["default"]
    if found["type"] == "string":
        found.pop("additionalProperties", None)
    if name in DEFAULTS:
        found["default"] = DEFAULTS[name]
    return found


def _pasted(name: str, order: int) -> dict[str, Any]:
    of_file = next(SETTINGS[setting] for setting, pasted in PASTED.items() if pasted == name)
    return {
        "type": "string",
        "title": f"{of_file['title'].removesuffix(' file')}, pasted",
        "description": "The text of that PEM file, in its place.",
        "multiline": True,
        "airbyte_secret": True,
        "order": order,
    }


def config_of(settings: Mapping[str, Any]) -> Config:
    """Make a Config from Airbyte's settings.

    Raises:
        ConfigError: a setting is wrong. Secrets are not quoted.
    """
    known = {n: v for n, v in settings.items() if n not in _OMITTED and v is not None}
    if isinstance(headers := known.get("grpc_headers"), str):
        known["grpc_headers"] = _headers(headers)
    return checked({**DEFAULTS, **files_of(known)})


def _headers(text: str) -> Any:
    try:
        return json.loads(text) if text.strip() else {}
    except (ValueError, RecursionError):
        # The cause would quote the value.
        raise ConfigError("setting grpc_headers: a JSON object is expected") from None
