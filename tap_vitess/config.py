"""The settings: the fields of `Config`, from which their JSON schema is derived.

A Config is made from the settings once; nothing else reads a raw settings dict. `settings.py` reads
and checks them. Settings are flat because environment variables (TAP_VITESS_<SETTING>) reach only
the top level; a field like `tls` combines several settings. No repr shows a secret.
"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from tap_vitess.errors import ConfigError
from tap_vitess.protocol.filters import conditions_of
from tap_vitess.protocol.images import OnPartialImage
from tap_vitess.protocol.keyranges import KeyRanges
from tap_vitess.protocol.request import CellPreference, RequestOptions
from tap_vitess.values.types import DEFAULTS, ValueOptions
from tap_vitess.vtgate.address import Address, Tls, check_host, check_metadata, tls_of

Keys = Literal["with_vindex", "primary"]
TabletType = Literal["PRIMARY", "REPLICA", "RDONLY"]
OnLostPosition = Literal["fail", "resync"]

# Seconds, 31 years: more than anybody needs, and few enough for Python's clocks and timeouts.
_LONGEST = 1_000_000_000
_PORT = {"minimum": 1, "maximum": 65_535}


_STREAM_PARTS = re.compile(r"\{(?:keyspace|table)\}")


def _told(
    title: str,
    description: str,
    default: Any,
    *,
    secret: bool = False,
    examples: Sequence[Any] = (),
    **bounds: Any,
) -> dict[str, Any]:
    """Return what a setting's JSON schema has besides the type; None means no default."""
    told = {**bounds, "title": title, "description": description}
    if default is not None:
        told["default"] = [*default] if isinstance(default, tuple) else default
    if secret:
        told |= {"secret": True, "writeOnly": True}
    return {**told, "examples": examples} if examples else told


def _setting(title: str, description: str, default: Any = None, **more: Any) -> Any:
    """Make the field of a setting; see `_told` for the arguments."""
    told = _told(title, description, default, **more)
    made = {"default_factory": dict} if default == {} else {"default": default}
    return field(**made, repr="secret" not in told, metadata=told)


# Settings that are fields of Tls and ValueOptions, which hold their choices and defaults.
_PARTS: Mapping[str, tuple[str, str]] = {
    "tls_ca_file": (
        "TLS CA file",
        "PEM file with the certificate authority. Default: the system's.",
    ),
    "tls_cert_file": (
        "TLS client certificate",
        "PEM file with the client certificate, for mutual TLS.",
    ),
    "tls_key_file": ("TLS client key", "PEM file with the client certificate's key."),
    "tls_server_name": (
        "TLS server name",
        "Name that the server's certificate must carry, if it is not the host's.",
    ),
    "unsigned_bigint_as": (
        "BIGINT UNSIGNED as",
        "How BIGINT UNSIGNED is written; some targets cannot hold integers of 2^63 and more. "
        "decimal is a DECIMAL(20,0).",
    ),
    "tinyint1_as": ("TINYINT(1) as", "How TINYINT(1), which is MySQL's BOOLEAN, is written."),
    "bit1_as": ("BIT(1) as", "How BIT(1) is written."),
    "decimal_as": (
        "DECIMAL as",
        "How DECIMAL is written: as a string of the format x-singer.decimal, or as a JSON number, "
        "which keeps every digit but which many targets read as a float.",
    ),
    "float_as": (
        "FLOAT as",
        "How streamed FLOATs are written: rounded to six digits, as SELECT shows them and as "
        "copied ones come, or as they are stored.",
    ),
    "zero_dates": (
        "Zero dates",
        "How zero and partial dates (0000-00-00, 2024-00-10) are written: as null, as strings, "
        "or treated as an error. With string, no date column has the format date or "
        "date-time.",
    ),
    "invalid_text": (
        "Invalid text",
        "What becomes of bytes that are not text in their column's charset: an error, or U+FFFD.",
    ),
    "binary_as": ("BINARY and BLOB as", "How BINARY, VARBINARY and the BLOBs are written."),
    "json_as": ("JSON as", "How JSON is written: as the document, or as a string of its text."),
    "set_as": ("SET as", "How SET is written: as x,y or as an array of labels."),
    "geometry_as": (
        "Geometries as",
        "How geometries are written: as GeoJSON, as WKT after SRID=n; (EWKT), or as WKB with the "
        "SRID in hex (EWKB).",
    ),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Config(Address):
    """All settings of a run; the fields have the settings' names and order."""

    host: str = _setting("Host", "Host name or address of VTGate, for both ports.", minLength=1)
    grpc_port: int = _setting("gRPC port", "VTGate's gRPC port (VStream).", 15991, **_PORT)
    mysql_port: int = _setting(
        "MySQL port", "VTGate's MySQL port (discovery, shards and positions).", 15306, **_PORT
    )
    user: str | None = _setting(
        "User", "User name, for static authentication on gRPC and on the MySQL port."
    )
    password: str | None = _setting("Password", "Password of the user. Default: none.", secret=True)
    keyspaces: tuple[str, ...] | None = _setting(
        "Keyspaces",
        "Keyspaces to discover. Default: every keyspace.",
        examples=[["commerce", "customer"]],
    )
    tables: tuple[str, ...] | None = _setting(
        "Tables",
        "Tables to discover, as keyspace.table with shell wildcards (* ? [a-z]). Default: every "
        "table. Helper tables of gh-ost and pt-online-schema-change, such as _orders_gho, are "
        "skipped while the original table exists, unless a pattern starts with _, as in "
        "shop._orders_*.",
        examples=[["commerce.*", "customer.order_*"]],
    )
    exclude_tables: tuple[str, ...] = _setting(
        "Excluded tables",
        "Tables to leave out, as keyspace.table with shell wildcards.",
        (),
        examples=[["*.audit_log"]],
    )
    filters: Mapping[str, str] = _setting(
        "Filters",
        "Which rows of a table to read, by `keyspace.table`: conditions of one column each, joined "
        "by AND, as in `tenant_id = 7 AND state IN ('new', 'paid')`. The tablets filter, so other "
        "rows never leave the database. A changed filter causes a new copy of the table.",
        {},
        examples=[{"shop.orders": "tenant_id = 7"}],
    )
    keys: Keys = _setting(
        "Keys",
        "What identifies a row in a sharded keyspace, where MySQL keeps a key unique only within "
        "each shard. `with_vindex`: the table's key and the columns of its primary vindex. "
        "`primary`: the table's key alone. That loses rows unless its values are unique over all "
        "shards, as those of a sequence are.",
        "with_vindex",
    )
    shards: tuple[str, ...] | None = _setting(
        "Shards",
        "The key ranges that this job reads, to split a keyspace over several jobs: every shard "
        "inside of a range belongs to the job, and a reshard inside of it is followed. Each job "
        "has its own state. No ACTIVATE_VERSION is written, since it would remove the rows of "
        "the other jobs. Default: all shards.",
        minItems=1,
        examples=[["-40", "40-80"]],
    )
    tablet_type: TabletType = _setting("Tablet type", "Which tablets to read from.", "PRIMARY")
    cells: tuple[str, ...] = _setting(
        "Cells", "Cells to pick tablets from; not used for PRIMARY. Default: VTGate's own cell.", ()
    )
    cell_preference: CellPreference | None = _setting(
        "Cell preference",
        "Whether VTGate picks tablets in its own cell first (`preferlocalwithalias`) or in `cells` "
        "alone (`onlyspecified`); not used for PRIMARY. Default: VTGate's default, its own cell "
        "first.",
    )
    minimize_skew: bool = _setting(
        "Minimize skew",
        "Let VTGate hold back shards that are ahead of others, by the time of their commits. This "
        "does not put shards in order, and a run waits for the slowest one.",
        default=False,
    )
    tls: Tls | None = _setting("TLS", "Use TLS on both ports.")
    grpc_headers: Mapping[str, str] = _setting(
        "gRPC headers",
        "Further gRPC metadata for each call, such as an authorization header.",
        {},
        secret=True,
    )
    metadata_columns: bool = _setting(
        "Metadata columns",
        "Add _sdc_vitess_op, _sdc_vitess_shard, _sdc_vitess_commit_time and _sdc_vitess_seq to "
        "each record. _sdc_deleted_at is always there.",
        default=True,
    )
    on_lost_position: OnLostPosition = _setting(
        "On a lost position",
        "What to do when the changes after a bookmark are gone or can no longer be read (binlogs "
        "purged, old shards deleted, another cluster, a table altered since): `fail` ends with an "
        "error and keeps the bookmark; `resync` copies the affected tables again, and "
        "ACTIVATE_VERSION removes rows that were deleted in the meantime.",
        "fail",
    )
    resync_tables: tuple[str, ...] = _setting(
        "Tables to copy again",
        "Tables to copy again in this run, as keyspace.table with shell wildcards; the others "
        "keep their positions. ACTIVATE_VERSION removes rows that were deleted in the meantime. "
        "For one run: while it is set, each run copies them from the start.",
        (),
        examples=[["shop.orders"]],
    )
    on_partial_image: OnPartialImage = _setting(
        "On a partial row image",
        "What to do when the binlog does not carry every column of a changed row "
        "(binlog_row_image=NOBLOB, PARTIAL_JSON): `fetch` reads the row's current value by its "
        "key; `omit` leaves the column out of the record, which many targets read as null; "
        "`fail` ends the table's run. An insert or update never contains null for a value that "
        "was not sent.",
        "fetch",
    )
    stream_name: str = _setting(
        "Stream name",
        "What a table's stream is called. It must contain `{table}`, and `{keyspace}` too unless "
        "tables of the same name in two keyspaces may share a stream. Many targets read the "
        "part before the last hyphen as the schema, and the part after it as the table; "
        "`{keyspace}__{table}` is one table name to all of them.",
        "{keyspace}-{table}",
        minLength=1,
    )
    emit_activate_version_messages: bool = _setting(
        "Emit ACTIVATE_VERSION",
        "Write ACTIVATE_VERSION when a copy is finished. Without it, rows that vanish without a "
        "delete (TRUNCATE, FULL_TABLE, a resync) stay in every target; set it to false for a "
        "target that fails on such a message.",
        default=True,
    )
    checkpoint_seconds: float = _setting(
        "Checkpoint interval",
        "Seconds between two STATE messages; 0 = at every transaction.",
        10,
        minimum=0,
        maximum=_LONGEST,
    )
    max_run_seconds: float | None = _setting(
        "Longest run",
        "End the run at the next boundary after this many seconds; the next run resumes there. "
        "A copy that cannot be resumed (FULL_TABLE, no key) must fit into one run. Default: no "
        "limit.",
        exclusiveMinimum=0,
        maximum=_LONGEST,
    )
    copy_parallelism: int = _setting(
        "Parallel copies", "How many tables of a keyspace are copied at once.", 1, minimum=1
    )
    max_message_bytes: int | None = _setting(
        "Largest gRPC message",
        "Refuse gRPC messages above this size. Default: no limit.",
        minimum=1,
        maximum=(1 << 31) - 1,
    )
    connect_timeout_seconds: float = _setting(
        "Connect timeout",
        "How long to wait for each of VTGate's ports to answer.",
        10,
        exclusiveMinimum=0,
        maximum=_LONGEST,
    )
    mirror_keyspace: str | None = _setting(
        "Mirror keyspace",
        "Keep a copy of the state in a table of this keyspace, ideally one that is neither "
        "sharded nor read by the tap. `tap-vitess-mirror ddl` prints the table. Default: no "
        "mirror.",
        minLength=1,
    )
    mirror_table: str = _setting(
        "Mirror table",
        "The mirror's table; many jobs can share it. It is never read as a stream.",
        "tap_vitess_mirror",
        minLength=1,
    )
    mirror_name: str | None = _setting(
        "Mirror name",
        "The job's row in the mirror. Of two runs with one name, the older one ends with an error. "
        "Required with mirror_keyspace.",
        pattern="^[0-9A-Za-z_.:/-]{1,255}$",
    )
    start_from_mirror: bool = _setting(
        "Start from the mirror",
        "When no state is given, start from the one that the mirror holds as confirmed. "
        "Otherwise such a run copies everything again, and forgets what was confirmed.",
        default=False,
    )
    progress_seconds: float = _setting(
        "Progress interval",
        "Seconds between two progress lines in the log; 0 = none.",
        10,
        minimum=0,
        maximum=_LONGEST,
    )
    batch_keep_hours: float = _setting(
        "Hours to keep BATCH files",
        "With batch_config, a run removes files that earlier runs left in the same place with "
        "the same prefix, if they were written more than this many hours ago (in an object store: "
        "if those runs began so long ago).",
        24,
        minimum=0,
        maximum=_LONGEST,
    )
    values: ValueOptions = field(default=DEFAULTS)

    @classmethod
    def from_settings(cls, settings: Mapping[str, Any]) -> Config:
        """Build a Config from settings that match the JSON schema.

        Raises:
            ConfigError: settings contradict each other, or a file cannot be read.
        """
        values: dict[str, Any] = {
            name: settings.get(name, schema.get("default")) for name, schema in SETTINGS.items()
        }
        tls = {part.name: values.pop(f"tls_{part.name}") for part in fields(Tls)}
        values["values"] = ValueOptions(
            **{o.name: values.pop(o.name) for o in fields(ValueOptions)}
        )
        values["tls"] = tls_of(enabled=values["tls"], files=tls)
        if values["user"] is None and values["password"] is not None:
            raise ConfigError(
                "setting password is given without user: set user too (a user without a password "
                "needs no password setting)"
            )
        if values["user"] is not None:
            values["password"] = values["password"] or ""
        check_host(values["host"])
        check_metadata(values)
        _check_mirror(values)
        _check_patterns(values)
        _check_stream_name(values["stream_name"])
        _check_filters(values["filters"])
        _check_shards(values["shards"])
        for name, schema in SETTINGS.items():
            if schema["type"] == "array" and values[name] is not None:
                values[name] = tuple(values[name])
        return cls(**values)

    @property
    def request(self) -> RequestOptions:
        """The options that all requests of a run share."""
        return RequestOptions(
            self.tablet_type,
            self.cells,
            cell_preference=self.cell_preference,
            minimize_skew=self.minimize_skew,
        )

    @property
    def ranges(self) -> KeyRanges:
        """The part of each keyspace that is read."""
        return KeyRanges(self.shards or ())

    def stream(self, keyspace: str, table: str) -> str:
        """Return the name of a table's stream."""
        parts = {"{keyspace}": keyspace, "{table}": table}
        return _STREAM_PARTS.sub(lambda part: parts[part.group()], self.stream_name)

    def table_of(self, keyspace: str, stream: str) -> str | None:
        """Return the table of a stream; None if the stream's name does not match `stream_name`."""
        head, _, tail = self.stream_name.partition("{table}")
        head, tail = (part.replace("{keyspace}", keyspace) for part in (head, tail))
        fits = stream.startswith(head) and stream.endswith(tail)
        return stream[len(head) : len(stream) - len(tail)] or None if fits else None

    def wants(self, keyspace: str, table: str) -> bool:
        """Return whether the settings select a table; they never select the mirror."""
        if (keyspace, table) == (self.mirror_keyspace, self.mirror_table):
            return False
        name = f"{keyspace}.{table}"
        wanted = self.tables is None or self.matches(name, self.tables)
        return wanted and not self.matches(name, self.exclude_tables)

    def names(self, keyspace: str) -> bool:
        """Return whether the settings keyspaces or tables name a keyspace."""
        begin = f"{keyspace}."
        named = any(pattern.startswith(begin) for pattern in self.tables or ())
        return named or keyspace in (self.keyspaces or ())

    def may_want(self, keyspace: str) -> bool:
        """Return whether the patterns could select any table of a keyspace."""
        wanted = self.tables is None or any(_may_meet(p, keyspace) for p in self.tables)
        whole = tuple(p.removesuffix(".*") for p in self.exclude_tables if p.endswith(".*"))
        return wanted and not self.matches(keyspace, whole)

    @staticmethod
    def matches(name: str, patterns: tuple[str, ...]) -> bool:
        """Return whether one of the shell patterns fits `keyspace.table`."""
        return any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)


# Of all types but Literal; the setting `tls` says whether there is a Tls.
_STRING = {"type": "string"}
_JSON_TYPES: Mapping[Any, dict[str, Any]] = {
    str: _STRING,
    int: {"type": "integer"},
    float: {"type": "number"},
    bool: {"type": "boolean"},
    tuple: {"type": "array", "items": _STRING},
    Mapping: {"type": "object", "additionalProperties": _STRING},
    Tls: {"type": "boolean", "default": False},
}


def _schemas() -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the name and the JSON schema of each setting."""
    told, hints = {found.name: found.metadata for found in fields(Config)}, get_type_hints(Config)
    for name in Config.__annotations__:
        if name == "values":
            yield from _parts(ValueOptions, "")
        else:
            yield name, {**_json_type(hints[name]), **told[name]}
        if name == "tls":
            yield from _parts(Tls, "tls_")


def _parts(kind: type[Tls | ValueOptions], begin: str) -> Iterator[tuple[str, dict[str, Any]]]:
    hints = get_type_hints(kind)
    for part in fields(kind):
        words = _told(*_PARTS[begin + part.name], part.default)
        yield begin + part.name, {**_json_type(hints[part.name]), **words}


def _json_type(hint: Any) -> dict[str, Any]:
    if get_origin(hint) in {UnionType, Union}:  # a Literal or None is a Union
        hint = next(kind for kind in get_args(hint) if kind is not NoneType)
    if get_origin(hint) is Literal:
        return {"type": "string", "enum": [*get_args(hint)]}
    return _JSON_TYPES[get_origin(hint) or hint]


SETTINGS: dict[str, dict[str, Any]] = dict(_schemas())
SETTINGS_SCHEMA: dict[str, Any] = {"type": "object", "properties": SETTINGS, "required": ["host"]}


def _may_meet(pattern: str, keyspace: str) -> bool:
    """Return whether a pattern could match a table of the keyspace, by its literal prefix."""
    literal = re.split(r"[*?\[]", pattern, maxsplit=1)[0]
    return literal.startswith(f"{keyspace}.") or f"{keyspace}.".startswith(literal)


def _check_patterns(values: Mapping[str, Any]) -> None:
    """Refuse patterns that can never match: privacy may depend on one."""
    for name in ("tables", "exclude_tables", "resync_tables"):
        for pattern in values[name] or ():
            if "." not in pattern and not pattern.startswith("*"):
                raise ConfigError(
                    f"setting {name}: {pattern!r:.200} has no dot, so it fits no table: write "
                    f"keyspace.table, as in {f'*.{pattern}'!r:.200} for any keyspace"
                )


def _check_filters(filters: Mapping[str, str]) -> None:
    for name, where in filters.items():
        if "." not in name:
            raise ConfigError(
                f"setting filters: {name!r:.200} is not a table: write keyspace.table, without "
                "wildcards"
            )
        try:
            conditions_of(where)
        except ConfigError as error:
            raise ConfigError(f"setting filters: {name:.200}: {error}") from None


def _check_shards(shards: Sequence[str] | None) -> None:
    try:
        KeyRanges.of(shards or ())
    except ConfigError as error:
        raise ConfigError(f"setting shards: {error}") from None


def _check_stream_name(template: str) -> None:
    if set("{}") & set(_STREAM_PARTS.sub("", template)):
        raise ConfigError("setting stream_name: the only placeholders are {table} and {keyspace}")
    if template.count("{table}") != 1:
        raise ConfigError("setting stream_name: write {table} exactly once, to distinguish tables")


def _check_mirror(values: Mapping[str, Any]) -> None:
    if (values["mirror_keyspace"] is None) != (values["mirror_name"] is None):
        raise ConfigError(
            "settings mirror_keyspace and mirror_name go together: one of them is missing"
        )
    if values["start_from_mirror"] and values["mirror_keyspace"] is None:
        raise ConfigError("setting start_from_mirror: there is no mirror without mirror_keyspace")
