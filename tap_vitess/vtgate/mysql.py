"""A connection to VTGate's MySQL port: the only place that speaks to PyMySQL.

What surprised us: an ordinary query gives at most 10,000 rows, workload olap has no such limit.
After `use` of one shard ("ks:-80@primary") statements go to that shard's MySQL as they are, so
`@@global` variables are the tablet's own; `@@version` without `global` is still VTGate's.
"""

from __future__ import annotations

import socket
import ssl
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import pymysql
from pymysql.constants import CR
from pymysql.converters import encoders
from pymysql.cursors import DictCursor

from tap_vitess.errors import AuthError, ConnectError, ProtocolError, VitessError
from tap_vitess.vtgate import tls
from tap_vitess.vtgate.address import Address
from tap_vitess.vtgate.faults import classify

SqlRow = dict[str, Any]

_LONGEST_QUERY = 600.0  # seconds
# What PyMySQL raises beside its own errors, when it stumbles over an answer.
_GARBLED = (RuntimeError, ValueError, LookupError, TypeError, AssertionError, struct.error)

# Without a decoder PyMySQL gives text; what it is told to encode is as ever.
_AS_TEXT: dict[int | type[Any], Any] = dict(encoders.items())


class Sql:
    """An open connection to VTGate's MySQL port. Use `connect`."""

    def __init__(
        self, connection: pymysql.Connection[DictCursor], sock: socket.socket, address: Address
    ) -> None:
        self._connection = connection
        self._sock = sock
        self._address = address

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
            with _limit(self._sock, _LONGEST_QUERY), self._connection.cursor() as cursor:
                cursor.execute(sql, arguments or None)
                return list(cursor.fetchall())
        except pymysql.MySQLError as error:
            # The cause may quote the statement, values of rows included.
            code, said = _said(error)
            raise classify("mysql", code, self._address.masked(said)) from None
        except _GARBLED as error:
            raise _garbled(error, self._address) from None

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
        ProtocolError: what is made of an answer inside of the block fails.
        AuthError: the user or password is refused.
        ConfigError: a TLS file is not what its setting says.
    """
    where = address.at(address.mysql_port)
    context = tls.context(address.tls) if address.tls else None
    seconds = address.connect_timeout_seconds
    try:
        sock = socket.create_connection((address.name, address.mysql_port), timeout=seconds)
    except OSError as error:
        raise ConnectError(
            f"VTGate's MySQL port {where} does not answer ({error}): check the settings host "
            "and mysql_port"
        ) from error
    # TLS takes the first one over.
    with sock, sock.dup() as kept:
        with _limit(kept, seconds) as late:
            try:
                # A MySQL server speaks first.
                sock.recv(1, socket.MSG_PEEK)
                connection = _connection(address, context, raw=raw)
                connection.connect(sock)
            except (pymysql.MySQLError, OSError, *_GARBLED) as error:
                if late():
                    raise ConnectError(
                        f"VTGate's MySQL port {where} has accepted no login for {seconds:g} s: "
                        "check the settings host, mysql_port and connect_timeout_seconds"
                    ) from None
                raise _explain_connect(error, where, address) from None
        with connection, _understood(where):
            yield Sql(connection, kept, address)


@contextmanager
def _understood(where: str) -> Iterator[None]:
    """Tell of answers that whoever asks can make nothing of; what they are is not quoted.

    Raises:
        ProtocolError: a column is not there, a number is none, and the like.
    """
    try:
        yield
    except (*_GARBLED, AttributeError, ArithmeticError) as error:
        raise ProtocolError(
            f"VTGate's MySQL port {where} gave an answer that makes no sense "
            f"({type(error).__name__}): is it VTGate's? Please report it, with its version"
        ) from error


@contextmanager
def _limit(sock: socket.socket, seconds: float) -> Iterator[Callable[[], bool]]:
    """Cut a connection after so long; gives what tells whether that has happened.

    A socket's own timeout starts over with each byte.
    """
    cut = threading.Event()

    def end() -> None:
        cut.set()
        with suppress(OSError):  # it has been closed meanwhile
            sock.shutdown(socket.SHUT_RDWR)

    timer = threading.Timer(seconds, end)
    timer.daemon = True
    timer.start()
    try:
        yield cut.is_set
    finally:
        timer.cancel()


class _InTheClear:
    """Refuses to send the password as it is, where everybody on the way could read it."""

    def __init__(self, _: object) -> None:
        """Needs nothing of the connection."""

    def authenticate(self, _: object) -> None:
        """Refuse.

        Raises:
            AuthError: always.
        """
        raise AuthError(
            "VTGate's MySQL port asks for the password in clear text, which is not sent without "
            "TLS: set tls to true"
        )


_REFUSED: dict[str, Callable[[pymysql.Connection[Any]], Any]] = dict.fromkeys(
    ("mysql_clear_password", "dialog"), _InTheClear
)


def _connection(
    address: Address, context: ssl.SSLContext | None, *, raw: bool
) -> pymysql.Connection[DictCursor]:
    return pymysql.Connection(
        # The name the certificate is checked against; the socket is open already.
        host=tls.server_name(address.tls, address.name) if address.tls else address.name,
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
        auth_plugin_map=None if context else _REFUSED,
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


def _explain_connect(error: Exception, where: str, address: Address) -> VitessError:
    if isinstance(error, OSError):
        return ConnectError(
            f"VTGate's MySQL port {where} broke off ({error}): check the settings mysql_port and "
            "tls"
        )
    if not isinstance(error, pymysql.MySQLError):
        return _garbled(error, address)
    code, said = _said(error)
    said = address.masked(said)
    found = classify("mysql", code, said)
    why = tls.explain(error, address.tls, address.name) if address.tls else None
    if code == CR.CR_SSL_CONNECTION_ERROR:
        why = "it does not offer TLS: set it up on VTGate (mysql_server_ssl_cert), or tls to false"
    elif address.tls is None and "insecure connections" in said:
        why = tls.SPEAKS_TLS
    if why is not None:
        return ConnectError(f"VTGate's MySQL port {where}: {why}")
    if isinstance(found, AuthError):
        wanted = AuthError(f"VTGate's MySQL port {where} wants a user: set user and password")
        return found if address.user else wanted
    return ConnectError(
        f"VTGate's MySQL port {where} broke off ({' '.join(said.split())[:400]}): check the "
        "settings host, mysql_port and tls"
    )


def _garbled(error: Exception, address: Address) -> ProtocolError:
    """Say what PyMySQL raises over bytes that are not MySQL's."""
    what = "answers in what is not MySQL's protocol"
    if "LOAD_LOCAL" in str(error):
        what = "asks for a file of this machine, which no VTGate does; it was not sent"
    return ProtocolError(
        f"VTGate's MySQL port {address.at(address.mysql_port)} {what}: check the settings host "
        "and mysql_port"
    )


def _said(error: pymysql.MySQLError) -> tuple[int, str]:
    code = error.args[0] if error.args and isinstance(error.args[0], int) else 0
    return code, str(error.args[-1] if error.args else error)
