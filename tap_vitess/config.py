"""The settings: their JSON schema, and the frozen Config made of them once.

Nobody else reads a raw settings dict. Settings are flat because environment variables
(TAP_VITESS_<SETTING>) reach only the top level. Secrets show in no repr.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from tap_vitess.errors import ConfigError

_STRINGS = {"type": "array", "items": {"type": "string"}}
_POSITIVE = {"type": "number", "exclusiveMinimum": 0}

SETTINGS: dict[str, dict[str, Any]] = {
    "host": {
        "type": "string",
        "minLength": 1,
        "title": "Host",
        "description": "Host name or address of VTGate, for both ports.",
    },
    "grpc_port": {
        "type": "integer",
        "default": 15991,
        "title": "gRPC port",
        "description": "VTGate's gRPC port (VStream).",
    },
    "mysql_port": {
        "type": "integer",
        "default": 15306,
        "title": "MySQL port",
        "description": "VTGate's MySQL port (discovery, shards and positions).",
    },
    "user": {
        "type": "string",
        "title": "User",
        "description": "User name, for static authentication on gRPC and on the MySQL port.",
    },
    "password": {
        "type": "string",
        "title": "Password",
        "description": "Password of the user.",
        "secret": True,
        "writeOnly": True,
    },
    "keyspaces": {
        **_STRINGS,
        "title": "Keyspaces",
        "description": "Keyspaces to discover. Default: every keyspace.",
        "examples": [["commerce", "customer"]],
    },
    "tables": {
        **_STRINGS,
        "title": "Tables",
        "description": "Tables to discover, as keyspace.table with shell wildcards (* ? [a-z]). "
        "Default: every table.",
        "examples": [["commerce.*", "customer.order_*"]],
    },
    "exclude_tables": {
        **_STRINGS,
        "title": "Excluded tables",
        "description": "Tables to leave out, as keyspace.table with shell wildcards.",
        "default": [],
        "examples": [["*.audit_log"]],
    },
    "tablet_type": {
        "type": "string",
        "enum": ["PRIMARY", "REPLICA", "RDONLY"],
        "default": "PRIMARY",
        "title": "Tablet type",
        "description": "Which tablets to read from.",
    },
    "cells": {
        **_STRINGS,
        "title": "Cells",
        "description": "Cells to pick tablets from; not used for PRIMARY. "
        "Default: VTGate's own cell.",
        "default": [],
    },
    "tls": {
        "type": "boolean",
        "default": False,
        "title": "TLS",
        "description": "Use TLS on both ports.",
    },
    "tls_ca_file": {
        "type": "string",
        "title": "TLS CA file",
        "description": "PEM file with the certificate authority. Default: the system's.",
    },
    "tls_cert_file": {
        "type": "string",
        "title": "TLS client certificate",
        "description": "PEM file with the client certificate, for mutual TLS.",
    },
    "tls_key_file": {
        "type": "string",
        "title": "TLS client key",
        "description": "PEM file with the client certificate's key.",
    },
    "tls_server_name": {
        "type": "string",
        "title": "TLS server name",
        "description": "Name the server's certificate must carry, when it is not the host's.",
    },
    "grpc_headers": {
        "type": "object",
        "additionalProperties": {"type": "string"},
        "title": "gRPC headers",
        "description": "Further gRPC metadata for each call, such as an authorization header.",
        "default": {},
        "secret": True,
        "writeOnly": True,
    },
    "metadata_columns": {
        "type": "boolean",
        "default": True,
        "title": "Metadata columns",
        "description": "Add _sdc_vitess_op, _sdc_vitess_shard, _sdc_vitess_commit_time and "
        "_sdc_vitess_seq to each record. _sdc_deleted_at is always there.",
    },
    "on_lost_position": {
        "type": "string",
        "enum": ["fail", "resync"],
        "default": "fail",
        "title": "On a lost position",
        "description": "What to do when the changes after a bookmark are gone or can no longer be "
        "read (binlogs purged, old shards deleted, another cluster, a table altered since): `fail` "
        "says so and keeps the bookmark; `resync` copies what is concerned again, and rows that "
        "vanished meanwhile are removed by ACTIVATE_VERSION.",
    },
    "on_partial_image": {
        "type": "string",
        "enum": ["fetch", "omit", "fail"],
        "default": "fetch",
        "title": "On a partial row image",
        "description": "What to do when the binlog does not carry every column of a changed row "
        "(binlog_row_image=NOBLOB, PARTIAL_JSON): `fetch` asks for the row's present value by its "
        "key; `omit` leaves the column out of the record, which many targets take for null; `fail` "
        "ends the table's run. A record never says null for what was not sent.",
    },
    "checkpoint_seconds": {
        "type": "number",
        "minimum": 0,
        "default": 10,
        "title": "Checkpoint interval",
        "description": "Seconds between two STATE messages; 0 = at every transaction.",
    },
    "max_run_seconds": {
        **_POSITIVE,
        "title": "Longest run",
        "description": "End the run cleanly at the next boundary after so many seconds; the next "
        "run carries on. A copy that cannot be resumed (FULL_TABLE, no key) must fit into one run. "
        "Default: no limit.",
    },
    "copy_parallelism": {
        "type": "integer",
        "minimum": 1,
        "default": 1,
        "title": "Parallel copies",
        "description": "How many tables of a keyspace are copied at once.",
    },
    "max_message_bytes": {
        "type": "integer",
        "minimum": 1,
        "title": "Largest gRPC message",
        "description": "Refuse gRPC messages above this size. Default: no limit.",
    },
    "connect_timeout_seconds": {
        **_POSITIVE,
        "default": 10,
        "title": "Connect timeout",
        "description": "How long to wait for each of VTGate's ports to answer.",
    },
}

SETTINGS_SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": SETTINGS,
    "required": ["host"],
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Tls:
    """What both ports use when TLS is on; file contents are PEM."""

    ca_file: str | None
    cert_file: str | None
    key_file: str | None
    server_name: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """All settings of a run; field names are the settings'."""

    host: str
    grpc_port: int
    mysql_port: int
    user: str | None
    password: str | None = field(repr=False)
    keyspaces: tuple[str, ...] | None
    tables: tuple[str, ...] | None
    exclude_tables: tuple[str, ...]
    tablet_type: str
    cells: tuple[str, ...]
    tls: Tls | None
    grpc_headers: Mapping[str, str] = field(repr=False)
    metadata_columns: bool
    on_lost_position: Literal["fail", "resync"]
    on_partial_image: Literal["fetch", "omit", "fail"]
    checkpoint_seconds: float
    max_run_seconds: float | None
    copy_parallelism: int
    max_message_bytes: int | None
    connect_timeout_seconds: float

    @classmethod
    def from_settings(cls, settings: Mapping[str, Any]) -> Config:
        """Build the Config of settings that fit the JSON schema.

        Raises:
            ConfigError: settings contradict each other, or a file cannot be read.
        """
        values: dict[str, Any] = {
            name: settings.get(name, schema.get("default")) for name, schema in SETTINGS.items()
        }
        tls = {n.removeprefix("tls_"): values.pop(n) for n in SETTINGS if n.startswith("tls_")}
        values["tls"] = _tls(enabled=values["tls"], files=tls)
        if (values["password"] is None) != (values["user"] is None):
            raise ConfigError("settings user and password go together: one of them is missing")
        for name, schema in SETTINGS.items():
            if schema["type"] == "array" and values[name] is not None:
                values[name] = tuple(values[name])
        return cls(**values)

    def wants(self, keyspace: str, table: str) -> bool:
        """Tell whether the settings `tables` and `exclude_tables` let a table in."""
        name = f"{keyspace}.{table}"
        wanted = self.tables is None or self.matches(name, self.tables)
        return wanted and not self.matches(name, self.exclude_tables)

    @staticmethod
    def matches(name: str, patterns: tuple[str, ...]) -> bool:
        """Tell whether one of the shell patterns fits `keyspace.table`."""
        return any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)


def _tls(*, enabled: bool, files: dict[str, str | None]) -> Tls | None:
    if not enabled:
        if given := [f"tls_{name}" for name, value in files.items() if value is not None]:
            raise ConfigError(f"settings {', '.join(given)} are given, but tls is not true")
        return None
    if (files["cert_file"] is None) != (files["key_file"] is None):
        raise ConfigError("settings tls_cert_file and tls_key_file go together")
    for name in ("ca_file", "cert_file", "key_file"):
        if (path := files[name]) is not None and not Path(path).is_file():
            raise ConfigError(f"setting tls_{name}: there is no file {path}")
    return Tls(**files)
