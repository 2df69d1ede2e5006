"""A connection to VTGate's MySQL port: the only place that speaks to PyMySQL.

What surprised us: an ordinary query gives at most 10,000 rows, workload olap has no such limit.
After `use` of one shard ("ks:-80@primary") statements go to that shard's MySQL as they are, so
`@@global` variables are the tablet's own; `@@version` without `global` is still VTGate's.
"""

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pymysql
from pymysql.constants import CR
from pymysql.converters import encoders
from pymysql.cursors import DictCursor

from tap_vitess.errors import AuthError, ConnectError, VitessError
from tap_vitess.vtgate import tls
from tap_vitess.vtgate.address import Address
from tap_vitess.vtgate.faults import classify

SqlRow = dict[str, Any]

# Without a decoder PyMySQL gives text; what it is told to encode is as ever.
_AS_TEXT: dict[int | type[Any], Any] = dict(encoders.items())


class Sql:
    """An open connection to VTGate's MySQL port. Use `connect`."""

    def __init__(self, connection: pymysql.Connection[DictCursor]) -> None:
        self._connection = connection

    def use(self, target: str) -> None:
        """Send what follows to a keyspace ("ks", "ks@replica") or to one shard ("ks:-80@primary").

        Raises:
            VitessError: VTGate does not know the keyspace.
        """
        self.query(f"use {quote(target)}")

    def query(self, sql: str, *arguments: object) -> list[SqlRow]:
        """Return all rows of a statement.

        Raises:
            VitessError: what VTGate or MySQL said, translated by `faults.classify`.
        """
        try:
            with self._connection.cursor() as cursor:
                cursor.execute(sql, arguments or None)
                return list(cursor.fetchall())
        except pymysql.MySQLError as error:
            # The cause may quote the statement, values of rows included.
            raise classify("mysql", *_said(error)) from None

    def column(self, sql: str) -> list[str]:
        """Return the first column of a statement's rows, as text; raises what `query` raises."""
        return [text(next(iter(row.values()))) for row in self.query(sql)]


@contextmanager
def connect(address: Address, *, raw: bool = False) -> Iterator[Sql]:
    """Open a connection to VTGate's MySQL port.

    Args:
        raw: whether values come as MySQL's text, as str or (binary) bytes, not as Python's types.

    Raises:
        ConnectError: nothing answers, or not in MySQL's protocol.
        AuthError: the user or password is refused.
        ConfigError: a TLS file is no such thing.
    """
    where = f"{address.host}:{address.mysql_port}"
    context = tls.context(address.tls) if address.tls else None
    try:
        sock = socket.create_connection(
            (address.host, address.mysql_port), timeout=address.connect_timeout_seconds
        )
    except OSError as error:
        raise ConnectError(
            f"VTGate's MySQL port {where} does not answer ({error}): check the settings host "
            "and mysql_port"
        ) from error
    with sock:
        try:
            # A MySQL server speaks first; PyMySQL itself would wait as long as for a query.
            sock.recv(1, socket.MSG_PEEK)
            connection = _connection(address, context, raw=raw)
            connection.connect(sock)
        except pymysql.MySQLError as error:
            raise _explain_connect(error, where, address) from error
        except OSError as error:
            raise ConnectError(
                f"VTGate's MySQL port {where} broke off ({error}): check the settings "
                "mysql_port and tls"
            ) from error
        with connection:
            yield Sql(connection)


def _connection(
    address: Address, context: ssl.SSLContext | None, *, raw: bool
) -> pymysql.Connection[DictCursor]:
    return pymysql.Connection(
        # The name the certificate is checked against; the socket is open already.
        host=tls.server_name(address.tls, address.host) if address.tls else address.host,
        user=address.user or "root",
        password=address.password or "",
        ssl=context,
        ssl_disabled=context is None,
        autocommit=True,
        charset="utf8mb4",
        init_command="set workload = 'olap'",
        read_timeout=60,
        connect_timeout=address.connect_timeout_seconds,
        cursorclass=DictCursor,
        conv=_AS_TEXT if raw else None,
        defer_connect=True,
    )


def text(value: object) -> str:
    """Return what MySQL told as text, which some versions send as bytes; empty for a NULL."""
    if value is None:
        return ""
    return value.decode() if isinstance(value, bytes) else str(value)


def quote(name: str, *, formatted: bool = False) -> str:
    """Quote an identifier; formatted: for a statement with arguments, where % is a placeholder."""
    quoted = "`" + name.replace("`", "``") + "`"
    return quoted.replace("%", "%%") if formatted else quoted


def _explain_connect(error: pymysql.MySQLError, where: str, address: Address) -> VitessError:
    code, said = _said(error)
    found = classify("mysql", code, said)
    why = tls.explain(error, address.tls, address.host) if address.tls else None
    if code == CR.CR_SSL_CONNECTION_ERROR:
        why = "it does not offer TLS: set it up on VTGate (mysql_server_ssl_cert), or tls to false"
    elif address.tls is None and "insecure connections" in said:
        why = tls.SPEAKS_TLS
    if why is not None:
        return ConnectError(f"VTGate's MySQL port {where}: {why}")
    if isinstance(found, AuthError):
        return found
    return ConnectError(
        f"VTGate's MySQL port {where} broke off ({' '.join(said.split())[:400]}): check the "
        "settings host, mysql_port and tls"
    )


def _said(error: pymysql.MySQLError) -> tuple[int, str]:
    code = error.args[0] if error.args and isinstance(error.args[0], int) else 0
    return code, str(error.args[-1] if error.args else error)
