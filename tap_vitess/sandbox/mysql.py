"""The MySQL side of the simulated VTGate, on mysql-mimic.

Guarantees: PyMySQL and the mysql client can connect, with the password when one is set; Vitess'
SHOW statements answer with the columns and names of a real VTGate. BEGIN, COMMIT and ROLLBACK
are accepted and do nothing: each statement is a transaction.

Surprising: mysql-mimic parses every statement with sqlglot before a session sees it, and sqlglot
does not know Vitess' statements, so those are recognized by their text. mysql-mimic answers queries
of information_schema itself, without Vitess' names, unless a middleware answers first. It cannot
return the number of affected rows. Its TLS hangs if the client is quick (what asyncio has read
ahead of the handshake is lost), so there is none here.
"""

import asyncio
import itertools
import json
import re
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from decimal import Decimal
from typing import Any, cast
from weakref import WeakSet

from mysql_mimic.auth import (
    IdentityProvider,
    NativePasswordAuthPlugin,
    SimpleIdentityProvider,
    User,
)
from mysql_mimic.charset import CharacterSet
from mysql_mimic.connection import Connection
from mysql_mimic.control import LocalControl
from mysql_mimic.errors import ErrorCode, MysqlError
from mysql_mimic.results import AllowedResult, ResultColumn, ResultSet
from mysql_mimic.server import MysqlServer
from mysql_mimic.session import Query, Session
from mysql_mimic.types import ColumnType
from mysql_mimic.variables import (
    SYSTEM_VARIABLES,
    GlobalVariables,
    SessionVariables,
    VariableSchema,
)
from sqlglot import exp

from tap_vitess.sandbox import infoschema, sql
from tap_vitess.sandbox.cluster import Cluster, Shard
from tap_vitess.sandbox.faults import Faults

_VARIABLES: dict[str, VariableSchema] = {
    **SYSTEM_VARIABLES,
    "version": (str, "8.0.40-Vitess", False),
    "version_comment": (str, "Version: 22.0.3 (sandbox)", False),
    "workload": (str, "OLTP", True),
}
_NAME = r"(?:`([^`]+)`|([^\s;`]+))"
_TABLE = r"((?:`[^`]+`|[\w$-]+)(?:\.(?:`[^`]+`|[\w$]+))?)"
_QUOTED = r"`((?:[^`]|``)+)`"
_LIKE = r"(?:\s+like\s+'([^']*)')?"

# The wire type of each Python type.
_TYPES: dict[type, ColumnType] = {
    int: ColumnType.LONGLONG,
    bool: ColumnType.LONGLONG,
    float: ColumnType.DOUBLE,
    Decimal: ColumnType.NEWDECIMAL,
    bytes: ColumnType.BLOB,
}
# Seconds that connections may take to end before asyncio cancels them.
_LONGEST_END = 10.0
_OWN_STATEMENTS = (exp.Select, exp.Insert, exp.Update, exp.Delete, exp.Create)

_Rows = list[tuple[Any, ...]]
_connection_ids = itertools.count(1000)


class VitessSession(Session):
    """One connection."""

    def __init__(self, cluster: Cluster, faults: Faults) -> None:
        super().__init__(SessionVariables(GlobalVariables(_VARIABLES)))
        self._cluster = cluster
        self._faults = faults
        # After the first one, which replaces functions like now() by values.
        self.middlewares.insert(1, self._run_own)

    async def handle_query(self, sql: str, attrs: dict[str, str]) -> AllowedResult:
        while self._faults.leave_unanswered(sql):  # noqa: ASYNC110 - a test may add it at any time
            await asyncio.sleep(0.05)
        if self._faults.lack_a_tablet(sql):
            raise _no_tablet(self.database or "unknown")
        if refused := self._faults.refuse(sql):
            raise _error(*refused)
        if (told := self._faults.answer(sql)) is not None:
            return _result(["answer"], [(told,)])
        for pattern, answer in _SHOWS:
            if match := pattern.fullmatch(sql.strip().rstrip("; \n")):
                return answer(self, match)
        return await super().handle_query(sql, attrs)

    async def use(self, database: str) -> None:
        """Accept "ks", "ks@type" and "ks:shard@type"; shards are checked by later statements."""
        self._check(database.partition("@")[0].partition(":")[0])
        self.database = database

    @property
    def cluster(self) -> Cluster:
        return self._cluster

    def keyspace(self, named: str | None) -> str:
        """The keyspace named, or the one in use."""
        keyspace = (named or self.database or "").partition("@")[0].partition(":")[0]
        if not keyspace:
            raise MysqlError("No database selected", ErrorCode.NO_DB_ERROR)
        self._check(keyspace)
        return keyspace

    def shard(self) -> Shard:
        """The shard in use; the first one if only a keyspace is in use."""
        keyspace = self.keyspace(None)
        target, _, tablet_type = (self.database or "").partition("@")
        name = target.partition(":")[2] or self._cluster.shards(keyspace)[0]
        if name not in self._cluster.shards(keyspace):
            raise _no_tablet(f"{keyspace}.{name}.{tablet_type or 'primary'}")
        self._check_tablets(keyspace, [name])
        return self._cluster.shard(keyspace, name)

    def _check_tablets(self, keyspace: str, shards: Sequence[str]) -> None:
        wanted = (self.database or "").partition("@")[2] or "primary"
        for name in shards:
            if self._cluster.shard(keyspace, name).tablet_type.lower() != wanted:
                raise _no_tablet(f"{keyspace}.{name}.{wanted}")

    def throttled_shard(self) -> Shard:
        """The shard in use, for statements that are refused in workload olap."""
        shard = self.shard()
        if str(self.variables.get("workload")).upper() == "OLAP":
            raise _error(1105, f"target: {self.database}: UNKNOWN not allowed for streaming")
        return shard

    def _check(self, keyspace: str) -> None:
        system = {"information_schema", "mysql", "performance_schema", "sys"}
        if keyspace not in self._cluster.keyspaces() and keyspace not in system:
            raise _error(1049, f"VT05003: unknown database '{keyspace}' in vschema")

    async def _run_own(self, query: Query) -> AllowedResult:
        statement = query.expression
        mine = isinstance(statement, _OWN_STATEMENTS)
        if not mine or (isinstance(statement, exp.Select) and not statement.find(exp.Table)):
            return await query.next()
        target = (self.database or "").partition("@")[0] or None
        for keyspace in re.findall(r"table_schema = '(\w+)'", statement.sql()):
            if keyspace in self._cluster.keyspaces():
                self._check_tablets(keyspace, self._cluster.shards(keyspace)[:1])
        try:
            result = sql.run(self._cluster, target, statement)
        except sql.SqlError as error:
            raise _error(error.code, error.message) from error
        return None if result is None else _result(result.names, result.rows)

    async def query(
        self, expression: exp.Expression, sql: str, attrs: dict[str, str]
    ) -> AllowedResult:
        del sql, attrs
        raise MysqlError(
            f"the sandbox does not support {expression.key.upper()}", ErrorCode.NOT_SUPPORTED_YET
        )


@contextmanager
def serve_mysql(
    cluster: Cluster,
    host: str,
    port: int,
    credentials: tuple[str, str] | None,
    faults: Faults | None = None,
) -> Iterator[int]:
    """Serves in its own thread and yields the port."""
    started: Future[tuple[int, Callable[[], object]]] = Future()
    found = Faults() if faults is None else faults
    thread = threading.Thread(
        target=lambda: asyncio.run(
            _serve(lambda: VitessSession(cluster, found), host, port, credentials, started)
        ),
        name="sandbox-mysql",
    )
    thread.start()
    try:
        bound, stop = started.result()
        try:
            yield bound
        finally:
            stop()
    finally:
        thread.join()


async def _serve(
    session: Callable[[], Session],
    host: str,
    port: int,
    credentials: tuple[str, str] | None,
    started: Future[tuple[int, Callable[[], object]]],
) -> None:
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    connections = _Connections()
    server = MysqlServer(
        control=connections,
        session_factory=session,
        identity_provider=_identities(credentials),
    )
    try:
        await server.start_server(host=host, port=port)
    except OSError as error:
        started.set_exception(error)
        return
    bound = server.sockets()[0].getsockname()[1]
    started.set_result((bound, lambda: loop.call_soon_threadsafe(stopped.set)))
    await stopped.wait()
    await _end(server, connections)


async def _end(server: MysqlServer, connections: "_Connections") -> None:
    """Ends every connection, including those that are accepted but not yet registered.

    Closing the server first would leave the sockets of these open (asyncio then silently makes no
    transport for them). So it first stops accepting, and closes the server once all have ended.
    """
    loop = asyncio.get_running_loop()
    for listening in server.sockets():
        loop.remove_reader(listening)
    deadline = loop.time() + _LONGEST_END
    this = asyncio.current_task()
    while others := asyncio.all_tasks() - {this}:
        await connections.kill_all()
        await asyncio.wait(others, timeout=0.1)
        if loop.time() > deadline:
            break
    server.close()
    connections.abort_all()
    # A transport closes its socket one turn of the loop later.
    await asyncio.sleep(0)


class _Connections(LocalControl):
    """Knows the connections, so that it can end them.

    If their tasks are cancelled from outside, Python 3.11 prints a traceback for each. `close`
    makes a transport wait for a client that does not read, so it has to be aborted.
    """

    def __init__(self) -> None:
        super().__init__()
        self._ids: set[int] = set()
        self._transports: WeakSet[asyncio.WriteTransport] = WeakSet()

    async def add(self, connection: Connection) -> int:
        connection_id = await super().add(connection)
        self._ids.add(connection_id)
        self._transports.add(connection.stream.writer.transport)
        return connection_id

    async def remove(self, connection_id: int) -> None:
        await super().remove(connection_id)
        self._ids.discard(connection_id)

    async def kill_all(self) -> None:
        for connection_id in list(self._ids):
            await self.kill(connection_id)

    def abort_all(self) -> None:
        for transport in list(self._transports):
            transport.abort()


def _identities(credentials: tuple[str, str] | None) -> IdentityProvider:
    return SimpleIdentityProvider() if credentials is None else _OneUser(*credentials)


class _OneUser(IdentityProvider):
    def __init__(self, username: str, password: str) -> None:
        self._user = User(
            name=username,
            auth_string=NativePasswordAuthPlugin.create_auth_string(password),
            auth_plugin=NativePasswordAuthPlugin.name,
        )

    async def get_user(self, username: str) -> User | None:
        """Refuse an unknown user like a wrong password: return one that no password fits."""
        if username == self._user.name:
            return self._user
        return User(name=username, auth_string="00" * 20, auth_plugin=self._user.auth_plugin)


def _error(code: int, message: str) -> MysqlError:
    # mysql-mimic lists few of MySQL's numbers and sends any.
    return MysqlError(message, cast("ErrorCode", code))


def _no_tablet(target: str) -> MysqlError:
    return _error(1105, f"target: {target}: no healthy tablet available")


def _result(names: Sequence[str], rows: _Rows) -> ResultSet:
    columns = []
    for number, name in enumerate(names):
        value = next((row[number] for row in rows if row[number] is not None), "")
        charset = CharacterSet.binary if isinstance(value, bytes) else CharacterSet.utf8mb4
        kind = _TYPES.get(type(value), ColumnType.VAR_STRING)
        columns.append(ResultColumn(name, kind, charset))
    return ResultSet(rows, columns)


# Vitess' own statements


def _keyspaces(session: VitessSession, match: re.Match[str]) -> ResultSet:
    names = session.cluster.keyspaces()
    if match[1].lower() != "keyspaces":
        names += ["information_schema", "mysql", "sys", "performance_schema"]
    return _result(["Database"], [(name,) for name in names if _like(match[2], name)])


def _vitess_shards(session: VitessSession, match: re.Match[str]) -> ResultSet:
    cluster = session.cluster
    shards = [
        f"{space}/{shard}" for space in cluster.keyspaces() for shard in cluster.shards(space)
    ]
    return _result(["Shards"], [(name,) for name in shards if _like(match[1], name)])


def _vitess_tablets(session: VitessSession, _match: re.Match[str]) -> ResultSet:
    names = ["Cell", "Keyspace", "Shard", "TabletType", "State"]
    names += ["Alias", "Hostname", "PrimaryTermStartTime"]
    cluster = session.cluster
    rows: _Rows = [
        (
            "zone1",
            space,
            shard.name,
            shard.tablet_type,
            "SERVING" if shard.serving else "NOT_SERVING",
            shard.tablet,
            "127.0.0.1",
            "2026-01-01T00:00:00Z",
        )
        for space in cluster.keyspaces()
        for shard in cluster.all_shards(space)
    ]
    return _result(names, rows)


def _gtid_executed(session: VitessSession, match: re.Match[str]) -> ResultSet:
    keyspace = session.keyspace(match[1] or match[2])
    session.shard()
    executed = session.cluster.gtid_executed(keyspace)
    if len(executed) > 1 and not session.cluster.vschema(keyspace)[0]:
        raise _error(1105, "Keyspace does not have exactly one shard: [0xc0009f29a8 0xc0009f29c0]")
    rows: _Rows = [(keyspace, gtid_set, shard) for shard, gtid_set in executed.items()]
    return _result(["db_name", "gtid_executed", "shard"], rows)


def _global_variables(session: VitessSession, _match: re.Match[str]) -> ResultSet:
    """Answer for the MySQL of the shard in use; conditions are ignored."""
    shard = session.shard()
    values = {
        **shard.variables,
        "gtid_executed": shard.gtid_set(shard.executed),
        "gtid_purged": shard.gtid_set(shard.purged) if shard.purged else "",
    }
    return _result(["Variable_name", "Value"], list(values.items()))


def _throttler_status(session: VitessSession, _match: re.Match[str]) -> ResultSet:
    names = ["shard", "enabled", "threshold", "query"]
    shard = session.throttled_shard()
    query = "select unix_timestamp(now(6))-max(ts/1000000000) as replication_lag from _vt.heartbeat"
    return _result(names, [(shard.name, int(shard.throttler), 5.0, query)])


def _throttled_apps(session: VitessSession, _match: re.Match[str]) -> ResultSet:
    apps = {"always-throttled-app": 1.0, **session.throttled_shard().throttled}
    rows: _Rows = [(app, "2036-01-01 00:00:00", Decimal(str(r))) for app, r in apps.items()]
    return _result(["app", "expire_at", "ratio"], rows)


def _vexplain(session: VitessSession, match: re.Match[str]) -> ResultSet:
    """Plan `select 1 from` tables, by the routing rules; parts of a keyspace are merged."""
    session.keyspace(None)
    planned: dict[str, list[str]] = {}
    for keyspace, table in re.findall(r"from `([^`]+)`\.`([^`]+)`", match[1]):
        session.keyspace(keyspace)
        found = session.cluster.routes.get((keyspace, table), keyspace)
        planned.setdefault(found, []).append(table)
    routes = [
        {
            "OperatorType": "Route",
            "Variant": "Scatter",
            "Keyspace": {"Name": keyspace, "Sharded": True},
            "Table": ", ".join(sorted(tables)),
        }
        for keyspace, tables in planned.items()
    ]
    plan = routes[0] if len(routes) == 1 else {"OperatorType": "Concatenate", "Inputs": routes}
    return _result(["JSON"], [(json.dumps(plan, indent=1),)])


def _gtids(session: VitessSession, _match: re.Match[str]) -> ResultSet:
    """Answer for the MySQL of the shard in use."""
    shard = session.shard()
    purged = shard.gtid_set(shard.purged) if shard.purged else ""
    return _result(["executed", "purged"], [(shard.gtid_set(shard.executed), purged)])


def _vexplain_update(session: VitessSession, match: re.Match[str]) -> ResultSet:
    """Plan an update of the rows with one value of a column."""
    keyspace = session.keyspace(None)
    table = session.cluster.tables(keyspace).get(match[1])
    if table is None:
        raise _error(1146, f"Table '{keyspace}.{match[1]}' doesn't exist")
    sharded, _ = session.cluster.vschema(keyspace)
    by_key = table.vindex_columns == (match[2],)
    plan = {
        "OperatorType": "Update",
        "Variant": ("EqualUnique" if by_key else "Scatter") if sharded else "Unsharded",
        "Keyspace": {"Name": keyspace, "Sharded": sharded},
        "Table": match[1],
    }
    return _result(["JSON"], [(json.dumps(plan, indent=1),)])


def _alter_vschema(session: VitessSession, match: re.Match[str]) -> None:
    """Accept a vindex on the column that rows are sharded by here anyway."""
    keyspace = session.keyspace(match[1])
    table = session.cluster.tables(keyspace).get(match[2])
    if table is None or table.vindex_columns != (match[3],):
        raise _error(1235, "the sandbox shards a table by the first column of its key")


def _processlist(session: VitessSession, _match: re.Match[str]) -> ResultSet:
    """List the readers of the shard in use; what VTGate opens again and again gets new ids."""
    reading = list(session.shard().circling)
    rows: _Rows = [(next(_connection_ids), 0, statement) for statement in reading]
    return _result(["id", "seconds", "statement"], rows)


def _clock(session: VitessSession, match: re.Match[str]) -> ResultSet:
    return _result([match[1]], [(Decimal(f"{session.cluster.now():.6f}"),)])


def _vschema_keyspaces(session: VitessSession, _match: re.Match[str]) -> ResultSet:
    cluster = session.cluster
    rows: _Rows = [
        (space, "true" if sharded else "false", foreign_keys, "")
        for space in cluster.keyspaces()
        for sharded, foreign_keys in [cluster.vschema(space)]
    ]
    return _result(["Keyspace", "Sharded", "Foreign Key", "Comment"], rows)


def _vschema_vindexes(session: VitessSession, match: re.Match[str]) -> ResultSet:
    """Answer with the primary vindex; for an unsharded keyspace, with none."""
    keyspace, name = (part.replace("``", "`") for part in match.groups())
    rows: _Rows = []
    if session.cluster.vschema(session.keyspace(keyspace))[0]:
        table = session.cluster.tables(keyspace).get(name)
        if table is None or table.role == "unlisted":
            raise _error(1146, f"VT05005: table '{name}' does not exist in keyspace '{keyspace}'")
        if table.role == "sharded":
            kind = "xxhash" if len(table.vindex_columns) == 1 else "multicol"
            rows = [(", ".join(table.vindex_columns), kind, kind, "", "")]
    return _result(["Columns", "Name", "Type", "Params", "Owner"], rows)


def _tables(session: VitessSession, match: re.Match[str]) -> ResultSet:
    keyspace = session.keyspace(match[2] or match[3])
    names = [f"Tables_in_{keyspace}"]
    rows: _Rows = [(table,) for table in session.cluster.tables(keyspace) if _like(match[4], table)]
    if match[1]:
        return _result([*names, "Table_type"], [(*row, "BASE TABLE") for row in rows])
    return _result(names, rows)


def _columns(session: VitessSession, match: re.Match[str]) -> ResultSet:
    groups = [group for group in match.groups() if group]
    name = groups[0]
    database, _, table = name.rpartition(".")
    keyspace = session.keyspace(groups[1] if len(groups) > 1 else database.strip("`") or None)
    definition = session.cluster.tables(keyspace).get(table.strip("`"))
    if definition is None:
        raise _error(1146, f"Table '{keyspace}.{table}' doesn't exist")
    rows: _Rows = [
        (
            column.name,
            column.column_type,
            "YES" if definition.is_nullable(column.name) else "NO",
            infoschema.column_key(definition, column.name),
            None,
            "",
        )
        for column in definition.columns
    ]
    return _result(["Field", "Type", "Null", "Key", "Default", "Extra"], rows)


def _like(pattern: str | None, name: str) -> bool:
    if pattern is None:
        return True
    parts = [
        {"%": ".*", "_": "."}.get(part) or re.escape(part.removeprefix("\\"))
        for part in re.findall(r"\\.|.", pattern, re.DOTALL)
    ]
    return re.fullmatch("".join(parts), name, re.DOTALL) is not None


def _show(pattern: str) -> re.Pattern[str]:
    return re.compile(r"show\s+" + pattern, re.IGNORECASE | re.DOTALL)


_SHOWS = (
    (_show(rf"(keyspaces|databases|schemas){_LIKE}"), _keyspaces),
    (_show(rf"vitess_shards{_LIKE}"), _vitess_shards),
    (_show(rf"vitess_tablets{_LIKE}"), _vitess_tablets),
    (_show(rf"global\s+gtid_executed(?:\s+(?:from|in)\s+{_NAME})?"), _gtid_executed),
    (re.compile(r"select\s+@@global\.gtid_executed\s.*", re.IGNORECASE), _gtids),
    (re.compile(r"select\s+(unix_timestamp\(now\(6\)\))", re.IGNORECASE), _clock),
    (
        re.compile(
            r"select\s+id\s.*\sfrom\s+information_schema\.processlist\s.*",
            re.IGNORECASE | re.DOTALL,
        ),
        _processlist,
    ),
    (_show(r"vitess_throttler\s+status"), _throttler_status),
    (_show(r"vitess_throttled_apps"), _throttled_apps),
    (
        re.compile(
            r"vexplain\s+plan\s+update\s+`([^`]+)`\s.*\swhere\s+(\w+)\s*=.*",
            re.IGNORECASE | re.DOTALL,
        ),
        _vexplain_update,
    ),
    (
        re.compile(
            r"alter\s+vschema\s+on\s+`([^`]+)`\.`([^`]+)`\s+add\s+vindex\s+\w+\((\w+)\).*",
            re.IGNORECASE,
        ),
        _alter_vschema,
    ),
    (re.compile(r"vexplain\s+plan\s+(.*)", re.IGNORECASE | re.DOTALL), _vexplain),
    (_show(r"global\s+variables\b.*"), _global_variables),
    (_show(r"vschema\s+keyspaces"), _vschema_keyspaces),
    (_show(rf"vschema\s+vindexes\s+on\s+{_QUOTED}\.{_QUOTED}"), _vschema_vindexes),
    (_show(rf"columns\s+(?:from|in)\s+{_TABLE}(?:\s+(?:from|in)\s+{_NAME})?"), _columns),
    (re.compile(rf"desc(?:ribe)?\s+{_TABLE}", re.IGNORECASE), _columns),
    (_show(rf"(full\s+)?tables(?:\s+(?:from|in)\s+{_NAME})?{_LIKE}"), _tables),
)
