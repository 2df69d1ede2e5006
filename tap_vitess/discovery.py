"""Keyspaces, shards, tables, columns, keys and positions, over VTGate's MySQL port.

What surprised us (facts, 7.2): information_schema answers only for `table_schema = '...'` (an
IN list silently gives nothing), from any one shard, and names the physical database; so each
keyspace is asked by itself and results are read by alias. LIKE in SHOW is a pattern, so it is
not used. An ordinary query gives at most 10,000 rows; workload olap has no such limit.
"""

from __future__ import annotations

import logging
import re
import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import groupby
from operator import itemgetter
from typing import Any

import pymysql
from pymysql.cursors import DictCursor

from tap_vitess.config import Config, Tls
from tap_vitess.errors import (
    AuthError,
    ConfigError,
    ConnectError,
    RequestError,
    RetriableError,
    VitessError,
)
from tap_vitess.vstream.ddl import INTERNAL_TABLE
from tap_vitess.vstream.gtid import GtidSet
from tap_vitess.vstream.vgtid import Vgtid

logger = logging.getLogger(__name__)

_SYSTEM = {"information_schema", "mysql", "performance_schema", "sys", "_vt"}
_SEQUENCE = "vitess_sequence"  # the comment that makes a table a sequence

_TABLES = """
select table_name as table_name, table_type as table_type, table_comment as table_comment
from information_schema.tables where table_schema = %s
"""
_COLUMNS = """
select table_name as table_name, column_name as column_name, column_type as column_type,
       is_nullable as is_nullable, character_set_name as charset, ordinal_position as position
from information_schema.columns where table_schema = %s
order by table_name, ordinal_position
"""
_KEYS = """
select table_name as table_name, index_name as index_name, seq_in_index as seq_in_index,
       column_name as column_name, non_unique as non_unique, nullable as nullable,
       sub_part as sub_part
from information_schema.statistics where table_schema = %s
order by table_name, index_name, seq_in_index
"""


@dataclass(frozen=True, slots=True)
class Column:
    """A column as information_schema has it; charset is None for what is no text."""

    name: str
    column_type: str
    nullable: bool
    charset: str | None


@dataclass(frozen=True, slots=True)
class Table:
    """A base table; `key` is the primary key in index order, else a NOT NULL unique key."""

    keyspace: str
    name: str
    columns: tuple[Column, ...]
    key: tuple[str, ...]


class Sql:
    """An open connection to VTGate's MySQL port. Use `connect`."""

    def __init__(self, connection: pymysql.Connection[DictCursor]) -> None:
        self._connection = connection

    def keyspaces(self) -> list[str]:
        """Name every keyspace VTGate knows, sorted."""
        names = {str(next(iter(row.values()))) for row in self._query("show keyspaces")}
        return sorted(names - _SYSTEM)

    def shards(self, keyspace: str) -> list[str]:
        """Name the shards that serve a keyspace, sorted."""
        names = [str(next(iter(row.values()))) for row in self._query("show vitess_shards")]
        parts = [name.split("/", 1) for name in names]
        return sorted(shard for name, shard in parts if name == keyspace)

    def position(self, keyspace: str, tablet_type: str) -> Vgtid:
        """Ask where a keyspace is now, all serving shards at once.

        Raises:
            RetriableError: a shard has no tablet (yet), as for a while after a reshard.
        """
        self._query(f"use {_quote(f'{keyspace}@{tablet_type.lower()}')}")
        rows = self._query(f"show global gtid_executed from {_quote(keyspace)}")
        shards = {str(row["shard"]): GtidSet.parse(str(row["gtid_executed"])) for row in rows}
        missing = set(self.shards(keyspace)) ^ shards.keys()
        if missing or not shards:
            raise RetriableError(
                f"{keyspace}: VTGate told the position of {', '.join(shards) or 'no shard'}, "
                f"which are not the shards that serve ({', '.join(missing)} differ)"
            )
        return Vgtid(keyspace, shards)

    def tables(self, keyspace: str) -> list[Table]:
        """Describe the base tables; views, sequences and internal tables are left out."""
        columns = _by_table(self._query(_COLUMNS, keyspace))
        indexes = _by_table(self._query(_KEYS, keyspace))
        names = sorted(
            str(row["table_name"])
            for row in self._query(_TABLES, keyspace)
            if row["table_type"] == "BASE TABLE"
            and row["table_comment"] != _SEQUENCE
            and not INTERNAL_TABLE.fullmatch(str(row["table_name"]))
        )
        return [
            Table(
                keyspace,
                name,
                tuple(map(_column, columns.get(name, []))),
                _key(indexes.get(name, []), _inexact(columns.get(name, []))),
            )
            for name in names
        ]

    def _query(self, sql: str, *arguments: str) -> list[dict[str, Any]]:
        try:
            with self._connection.cursor() as cursor:
                cursor.execute(sql, arguments)
                return list(cursor.fetchall())
        except pymysql.MySQLError as error:
            raise _explain(error) from error


@contextmanager
def connect(config: Config) -> Iterator[Sql]:
    """Open a connection to VTGate's MySQL port.

    Raises:
        ConnectError: nothing answers, or not in MySQL's protocol.
        AuthError: the user or password is refused.
    """
    address = f"{config.host}:{config.mysql_port}"
    tls = config.tls
    try:
        sock = socket.create_connection(
            (config.host, config.mysql_port), timeout=config.connect_timeout_seconds
        )
    except OSError as error:
        raise ConnectError(
            f"VTGate's MySQL port {address} does not answer ({error}): check the settings host "
            "and mysql_port"
        ) from error
    with sock:
        try:
            connection = pymysql.Connection(
                # The name the certificate is checked against; the socket is open already.
                host=tls.server_name if tls and tls.server_name else config.host,
                user=config.user or "root",
                password=config.password or "",
                ssl=_tls_context(tls) if tls else None,
                ssl_disabled=tls is None,
                autocommit=True,
                charset="utf8mb4",
                init_command="set workload = 'olap'",
                read_timeout=60,
                connect_timeout=config.connect_timeout_seconds,
                cursorclass=DictCursor,
                defer_connect=True,
            )
            connection.connect(sock)
        except pymysql.MySQLError as error:
            raise _explain(error, address) from error
        except (OSError, ssl.SSLError) as error:
            raise ConnectError(
                f"VTGate's MySQL port {address} broke off ({error}): check the settings "
                "mysql_port and tls"
            ) from error
        with connection:
            yield Sql(connection)


def discover(sql: Sql, config: Config) -> list[Table]:
    """Find the tables the settings keyspaces, tables and exclude_tables let in.

    Raises:
        ConfigError: a keyspace is not there, or a pattern matches no table.
    """
    known = sql.keyspaces()
    keyspaces = config.keyspaces if config.keyspaces is not None else known
    if missing := sorted(set(keyspaces) - set(known)):
        raise ConfigError(
            f"setting keyspaces: VTGate does not know {', '.join(missing)}; "
            f"it knows {', '.join(known) or 'none'}"
        )
    tables = [t for keyspace in keyspaces for t in _tables(sql, keyspace, config)]
    for pattern in config.tables or ():
        if not any(_matches(table, pattern) for table in tables):
            raise ConfigError(
                f"setting tables: {pattern} matches no table of {', '.join(keyspaces)}; "
                "patterns are keyspace.table"
            )
    chosen = [table for table in tables if config.wants(table.keyspace, table.name)]
    if not chosen:
        raise ConfigError(
            f"there is no table to read in {', '.join(keyspaces) or 'this Vitess'}: check the "
            "settings keyspaces, tables and exclude_tables"
        )
    return chosen


def _tables(sql: Sql, keyspace: str, config: Config) -> list[Table]:
    """Describe a keyspace; one that nobody named and that nothing serves is passed over."""
    try:
        return sql.tables(keyspace)
    except RetriableError as error:
        if config.keyspaces is not None:
            raise
        logger.warning("keyspace %s is left out: %s", keyspace, error)
        return []


def _matches(table: Table, pattern: str) -> bool:
    return Config.matches(f"{table.keyspace}.{table.name}", (pattern,))


def _by_table(rows: list[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    name = itemgetter("table_name")
    return {str(table): list(group) for table, group in groupby(sorted(rows, key=name), key=name)}


def _column(row: dict[str, Any]) -> Column:
    return Column(
        str(row["column_name"]),
        _text(row["column_type"]),
        row["is_nullable"] == "YES",
        row["charset"],
    )


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


def _inexact(rows: list[dict[str, Any]]) -> set[str]:
    """Name the FLOAT columns: MySQL rounds them in a copy, so they cannot identify a row."""
    return {
        str(row["column_name"]) for row in rows if _text(row["column_type"]).startswith("float")
    }


def _key(rows: list[dict[str, Any]], inexact: set[str]) -> tuple[str, ...]:
    """Choose the primary key, else the NOT NULL unique key of the fewest columns."""
    keys: list[tuple[bool, int, str, tuple[str, ...]]] = []
    for index, group in groupby(rows, key=itemgetter("index_name")):
        parts = list(group)
        primary = index == "PRIMARY"
        if primary or all(_identifies(part) for part in parts):
            names = tuple(str(part["column_name"]) for part in parts)
            if not inexact & set(names):
                keys.append((not primary, len(names), str(index), names))
    return min(keys)[-1] if keys else ()


def _identifies(part: dict[str, Any]) -> bool:
    """Tell whether an index part is a whole column that is never NULL, of a unique index."""
    return (
        not int(part["non_unique"])
        and part["nullable"] != "YES"
        and part["sub_part"] is None
        and part["column_name"] is not None
    )


def _quote(name: str) -> str:
    return "`" + name.replace("`", "``") + "`"


def _tls_context(tls: Tls) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=tls.ca_file)
    if tls.cert_file is not None:
        context.load_cert_chain(tls.cert_file, tls.key_file)
    return context


def _explain(error: pymysql.MySQLError, address: str | None = None) -> VitessError:
    code = error.args[0] if error.args and isinstance(error.args[0], int) else 0
    text = " ".join(str(error.args[-1] if error.args else error).split())[:400]
    if code in {1044, 1045}:
        return AuthError(
            f"VTGate's MySQL port refuses the user or the password ({text}): check the settings "
            "user and password"
        )
    if address is not None or code in {2003, 2006, 2013}:
        return ConnectError(
            f"VTGate's MySQL port {address or ''} broke off ({text}): check the settings host, "
            "mysql_port and tls"
        )
    if re.search(r"no healthy tablet|node doesn't exist|not found|no valid tablet", text):
        return RetriableError(f"VTGate: {text} (MySQL error {code})")
    return RequestError(f"VTGate's MySQL port: {text} (MySQL error {code})")
