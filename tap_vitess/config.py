"""The settings: their JSON schema, and the frozen Config made of them once.

Nobody else reads a raw settings dict. Settings are flat because environment variables
(TAP_VITESS_<SETTING>) reach only the top level. Secrets show in no repr.

The settings of several files are merged, the last one wins; `ENV` stands for the environment
variables. Unlike the tap's, a file `.env` is not read.
"""

from __future__ import annotations

import fnmatch
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal, get_args, get_type_hints

from jsonschema import Draft202012Validator

from tap_vitess.errors import ConfigError, VitessError
from tap_vitess.values.types import ValueOptions
from tap_vitess.vtgate.address import Address, check_metadata, tls_of

Keys = Literal["with_vindex", "primary"]
_STRINGS = {"type": "array", "items": {"type": "string"}}
_POSITIVE = {"type": "number", "exclusiveMinimum": 0}
_VALUE_OPTIONS = {option.name: option.default for option in fields(ValueOptions)}


def _value_option(name: str, title: str, description: str) -> dict[str, dict[str, Any]]:
    """Make the setting of a ValueOptions' field; its choices and default stand there."""
    choices = list(get_args(get_type_hints(ValueOptions)[name]))
    return {
        name: {
            "type": "string",
            "enum": choices,
            "default": _VALUE_OPTIONS[name],
            "title": title,
            "description": description,
        }
    }


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
        "Default: every table. Tables of gh-ost and pt-online-schema-change, such as _orders_gho, "
        "are left out beside theirs, unless a pattern begins with the _, as in shop._orders_*.",
        "examples": [["commerce.*", "customer.order_*"]],
    },
    "exclude_tables": {
        **_STRINGS,
        "title": "Excluded tables",
        "description": "Tables to leave out, as keyspace.table with shell wildcards.",
        "default": [],
        "examples": [["*.audit_log"]],
    },
    "keys": {
        "type": "string",
        "enum": ["with_vindex", "primary"],
        "default": "with_vindex",
        "title": "Keys",
        "description": "What identifies a row in a sharded keyspace, where MySQL keeps a key "
        "unique within each shard only: `with_vindex`, the table's key and the columns of its "
        "primary vindex; `primary`, the table's key alone, which loses rows unless its values are "
        "unique over all shards, as those of a sequence are.",
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
    "resync_tables": {
        **_STRINGS,
        "title": "Tables to copy again",
        "description": "Tables to copy again in this run, as keyspace.table with shell wildcards; "
        "the others keep their place. Rows that vanished meanwhile are removed by "
        "ACTIVATE_VERSION. For one run: while it is set, each run copies them from the start.",
        "default": [],
        "examples": [["shop.orders"]],
    },
    "on_partial_image": {
        "type": "string",
        "enum": ["fetch", "omit", "fail"],
        "default": "fetch",
        "title": "On a partial row image",
        "description": "What to do when the binlog does not carry every column of a changed row "
        "(binlog_row_image=NOBLOB, PARTIAL_JSON): `fetch` asks for the row's present value by its "
        "key; `omit` leaves the column out of the record, which many targets take for null; `fail` "
        "ends the table's run. An insert or update never says null for what was not sent.",
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
    "mirror_keyspace": {
        "type": "string",
        "minLength": 1,
        "title": "Mirror keyspace",
        "description": "Keep a copy of the state in a table of this keyspace, best one that is not "
        "sharded and that is not read by the tap. `tap-vitess-mirror ddl` prints the table. "
        "Default: no mirror.",
    },
    "mirror_table": {
        "type": "string",
        "minLength": 1,
        "default": "tap_vitess_mirror",
        "title": "Mirror table",
        "description": "The mirror's table; many jobs can share it. It is never read as a stream.",
    },
    "mirror_name": {
        "type": "string",
        "pattern": "^[0-9A-Za-z_.:/-]{1,255}$",
        "title": "Mirror name",
        "description": "The job's row in the mirror: of two runs with one name the older one ends "
        "with an error. Required with mirror_keyspace.",
    },
    "start_from_mirror": {
        "type": "boolean",
        "default": False,
        "title": "Start from the mirror",
        "description": "When no state is given, start from the one that the mirror holds as "
        "confirmed. Without it such a run copies all anew, and forgets what was confirmed.",
    },
    "progress_seconds": {
        "type": "number",
        "minimum": 0,
        "default": 10,
        "title": "Progress interval",
        "description": "Seconds between two lines in the log that tell how far the run is; "
        "0 = none.",
    },
    **_value_option(
        "unsigned_bigint_as",
        "BIGINT UNSIGNED as",
        "How BIGINT UNSIGNED is written; some targets cannot hold integers of 2^63 and more. "
        "decimal is a DECIMAL(20,0).",
    ),
    **_value_option(
        "tinyint1_as", "TINYINT(1) as", "How TINYINT(1), which is MySQL's BOOLEAN, is written."
    ),
    **_value_option("bit1_as", "BIT(1) as", "How BIT(1) is written."),
    **_value_option(
        "decimal_as",
        "DECIMAL as",
        "How DECIMAL is written: as a string of the format x-singer.decimal, or as a JSON number, "
        "which has every digit here, but which many targets read as a float.",
    ),
    **_value_option(
        "float_as",
        "FLOAT as",
        "How streamed FLOATs are written: rounded to six digits as SELECT shows them, which is how "
        "copied ones come, or as they are stored.",
    ),
    **_value_option(
        "zero_dates",
        "Zero dates",
        "What becomes of zero and partial dates (0000-00-00, 2024-00-10): null, an error, or "
        "strings. With string, no date column has the format date or date-time.",
    ),
    **_value_option(
        "invalid_text",
        "Invalid text",
        "What becomes of bytes that are no text of their column's charset: an error, or U+FFFD.",
    ),
    **_value_option(
        "binary_as", "BINARY and BLOB as", "How BINARY, VARBINARY and the BLOBs are written."
    ),
    **_value_option(
        "json_as", "JSON as", "How JSON is written: as the document, or as a string of its text."
    ),
    **_value_option("set_as", "SET as", "How SET is written: as x,y or as an array of labels."),
    **_value_option(
        "geometry_as",
        "Geometries as",
        "How geometries are written: as GeoJSON, as WKT behind SRID=n; (EWKT), or as WKB with the "
        "SRID in hex (EWKB).",
    ),
}

SETTINGS_SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": SETTINGS,
    "required": ["host"],
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Config(Address):
    """All settings of a run; field names are the settings', those of `values` included."""

    keyspaces: tuple[str, ...] | None
    tables: tuple[str, ...] | None
    exclude_tables: tuple[str, ...]
    keys: Keys
    tablet_type: str
    cells: tuple[str, ...]
    metadata_columns: bool
    on_lost_position: Literal["fail", "resync"]
    resync_tables: tuple[str, ...]
    on_partial_image: Literal["fetch", "omit", "fail"]
    checkpoint_seconds: float
    max_run_seconds: float | None
    copy_parallelism: int
    mirror_keyspace: str | None
    mirror_table: str
    mirror_name: str | None
    start_from_mirror: bool
    progress_seconds: float
    values: ValueOptions

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
        values["values"] = ValueOptions(**{name: values.pop(name) for name in _VALUE_OPTIONS})
        values["tls"] = tls_of(enabled=values["tls"], files=tls)
        if (values["password"] is None) != (values["user"] is None):
            raise ConfigError("settings user and password go together: one of them is missing")
        check_metadata(values)
        _check_mirror(values)
        for name, schema in SETTINGS.items():
            if schema["type"] == "array" and values[name] is not None:
                values[name] = tuple(values[name])
        return cls(**values)

    def wants(self, keyspace: str, table: str) -> bool:
        """Tell whether the settings let a table in; the mirror never is."""
        if (keyspace, table) == (self.mirror_keyspace, self.mirror_table):
            return False
        name = f"{keyspace}.{table}"
        wanted = self.tables is None or self.matches(name, self.tables)
        return wanted and not self.matches(name, self.exclude_tables)

    def names(self, keyspace: str) -> bool:
        """Tell whether the settings keyspaces or tables name a keyspace."""
        begin = f"{keyspace}."
        named = any(pattern.startswith(begin) for pattern in self.tables or ())
        return named or keyspace in (self.keyspaces or ())

    def may_want(self, keyspace: str) -> bool:
        """Tell whether the patterns could let in a table of a keyspace, whatever it has."""
        wanted = self.tables is None or any(_may_meet(p, keyspace) for p in self.tables)
        whole = tuple(p.removesuffix(".*") for p in self.exclude_tables if p.endswith(".*"))
        return wanted and not self.matches(keyspace, whole)

    @staticmethod
    def matches(name: str, patterns: tuple[str, ...]) -> bool:
        """Tell whether one of the shell patterns fits `keyspace.table`."""
        return any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)


def _may_meet(pattern: str, keyspace: str) -> bool:
    """Tell whether a pattern could fit a table of the keyspace, by what it begins with."""
    literal = re.split(r"[*?\[]", pattern, maxsplit=1)[0]
    return literal.startswith(f"{keyspace}.") or f"{keyspace}.".startswith(literal)


def _check_mirror(values: Mapping[str, Any]) -> None:
    if (values["mirror_keyspace"] is None) != (values["mirror_name"] is None):
        raise ConfigError("settings mirror_keyspace and mirror_name go together: one is missing")
    if values["start_from_mirror"] and values["mirror_keyspace"] is None:
        raise ConfigError("setting start_from_mirror: there is no mirror without mirror_keyspace")


ENVIRONMENT = "ENV"


_TRUE = {"true", "1", "yes", "on"}


def read_config(sources: Sequence[str], environment: Mapping[str, str]) -> Config:
    """Read the settings.

    Raises:
        ConfigError: a file cannot be read, or a setting is wrong. Secrets are not quoted.
    """
    return checked(_settings(sources, environment))


def checked(settings: Mapping[str, Any]) -> Config:
    """Make the Config of settings that may be wrong.

    Raises:
        ConfigError: a setting is wrong. Secrets are not quoted.
    """
    if problem := next(_problems(settings), None):
        raise ConfigError(problem)
    return Config.from_settings(settings)


def _settings(sources: Sequence[str], environment: Mapping[str, str]) -> dict[str, Any]:
    settings: dict[str, Any] = {}
    for source in sources:
        if source == ENVIRONMENT:
            settings.update(_of_environment(environment))
        else:
            settings.update(read_settings(source))
    return settings


def read_settings(path: str) -> dict[str, Any]:
    """Read a file of settings, as they are.

    Raises:
        ConfigError: it cannot be read, or is no object.
    """
    found = read_json(path, ConfigError)
    if not isinstance(found, dict):
        raise ConfigError(f"{path}: an object of settings is expected")
    return found


def read_json(path: str, error: type[VitessError]) -> Any:
    """Read a JSON file; what is wrong with it is an `error`."""
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as cause:
        raise error(f"{path} cannot be read ({cause.strerror})") from cause
    except ValueError as cause:
        raise error(f"{path} is no JSON ({cause})") from cause


def _of_environment(environment: Mapping[str, str]) -> dict[str, Any]:
    names = {name: f"TAP_VITESS_{name.upper()}" for name in SETTINGS}
    return {
        name: _parse(name, environment[variable])
        for name, variable in names.items()
        if variable in environment
    }


def _parse(name: str, text: str) -> Any:
    kind = SETTINGS[name]["type"]
    try:
        match kind:
            case "integer":
                return int(text)
            case "number":
                return float(text)
            case "boolean":
                return text.lower() in _TRUE
            case "array" if not text.lstrip().startswith("["):
                return text.split(",")
            case "array" | "object":
                return json.loads(text)
    except ValueError:
        # The cause would quote the value.
        raise ConfigError(f"setting {name}: the environment variable is no {kind}") from None
    return text


def _problems(settings: Mapping[str, Any]) -> Iterator[str]:
    for error in Draft202012Validator(SETTINGS_SCHEMA).iter_errors(settings):
        name = str(error.absolute_path[0]) if error.absolute_path else None
        if name is None:
            yield f"settings: {error.message}"
        elif SETTINGS[name].get("secret"):
            yield f"setting {name}: {SETTINGS[name]['type']} of text is expected"
        else:
            yield f"setting {name}: {error.message}"
