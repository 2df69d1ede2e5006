"""What SQL reports about a keyspace and its shards: where they are, and what their MySQL logs.

A question is a function of a `KeyspaceSql`; those about tables are in `tables.py`, those about
what holds up streams in `blockers.py`. `Survey.ask` opens a connection for one question. A job that
has only some of the shards asks only about those (`own_shards.py`).

What surprised us. `show vitess_shards` names the shards that serve; old shards of a reshard are
not among them, although they still exist. A shard that does not exist and one without a tablet of
the requested type give the same error (1105), at once. LIKE in SHOW is a pattern, so it is not
used.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Concatenate, ParamSpec, TypeVar

from tap_vitess.errors import GtidError, ProtocolError, RetriableError
from tap_vitess.protocol.gtid import NO_GTIDS, GtidSet
from tap_vitess.protocol.keyranges import WHOLE, KeyRanges
from tap_vitess.protocol.vgtid import Vgtid
from tap_vitess.survey.facts import ShardFacts, Tablet, Version
from tap_vitess.survey.own_shards import own_shards
from tap_vitess.vtgate.address import Address
from tap_vitess.vtgate.mysql import Sql, connect, quote, text

# SHOW and not @@global: MySQL 5.7 lacks some of them, and would refuse the whole statement. But not
# for GTID sets: SHOW cuts a value at 1024 characters.
_VARIABLES = """
show global variables where variable_name in ('binlog_row_image', 'binlog_row_value_options',
'binlog_format', 'binlog_expire_logs_seconds', 'expire_logs_days',
'version', 'gtid_mode')
"""
_GTIDS = "select @@global.gtid_executed as executed, @@global.gtid_purged as purged"
_DAY = 86400

P = ParamSpec("P")
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class KeyspaceSql:
    """An open connection, with the keyspace, tablet type and key ranges to ask about."""

    sql: Sql
    keyspace: str
    tablet_type: str
    ranges: KeyRanges = WHOLE

    def anywhere(self) -> Sql:
        """Send the next queries to the keyspace; VTGate chooses the shard if any will do.

        Raises:
            RequestError: VTGate does not know the keyspace.
        """
        return self._on(self.keyspace)

    def on(self, shard: str) -> Sql:
        """Send the next queries unchanged to the MySQL of one shard."""
        return self._on(f"{self.keyspace}:{shard}")

    def _on(self, target: str) -> Sql:
        self.sql.use(f"{target}@{self.tablet_type.lower()}")
        return self.sql


Asking = Callable[Concatenate[KeyspaceSql, P], T]  # a question with its arguments


@dataclass(frozen=True)
class Survey:
    """Asks about one keyspace; each question opens a new connection.

    A run may last for hours, and a connection kept open would not.
    """

    address: Address
    keyspace: str
    tablet_type: str
    ranges: KeyRanges = WHOLE

    def ask(self, question: Asking[P, T], *arguments: P.args, **named: P.kwargs) -> T:
        """Return the answer to a question; raises its errors and those of `mysql.connect`."""
        with self.connected() as at:
            return question(at, *arguments, **named)

    @contextmanager
    def connected(self) -> Iterator[KeyspaceSql]:
        """Open a connection for several questions; raises what `mysql.connect` raises."""
        with connect(self.address) as sql, _understood(self.keyspace):
            yield KeyspaceSql(sql, self.keyspace, self.tablet_type, self.ranges)


@contextmanager
def _understood(keyspace: str) -> Iterator[None]:
    """Turn any error in reading an answer into a ProtocolError."""
    try:
        yield
    except (LookupError, ValueError, TypeError, AttributeError, RecursionError) as error:
        raise ProtocolError(
            f"{keyspace}: VTGate's MySQL port gives an answer that does not fit the question "
            f"({type(error).__name__}): is it a VTGate?"
        ) from error


# The questions


def version(at: KeyspaceSql) -> Version | None:
    """Ask for VTGate's version; None if it does not say."""
    [comment] = at.sql.column("select @@version_comment")
    match = re.search(r"Version: (\d+)\.(\d+)\.(\d+)", comment)
    return (int(match[1]), int(match[2]), int(match[3])) if match else None


def shards(at: KeyspaceSql) -> list[str]:
    """Return the job's serving shards, sorted.

    Raises:
        BorderError: one is only partly within the job's ranges.
        ConfigError: the keyspace has none in them.
    """
    parts = [name.split("/", 1) for name in at.sql.column("show vitess_shards")]
    return own_shards(
        at.keyspace, [shard for name, shard in parts if name == at.keyspace], at.ranges
    )


def position(at: KeyspaceSql) -> Vgtid:
    """Ask for the keyspace's position: of all serving shards at once, or of a job's one by one.

    Raises:
        RetriableError: a shard has no tablet (yet), as for a while after a reshard.
        BorderError, ConfigError: see `shards`.
    """
    keyspace = at.keyspace
    if at.ranges.names:
        return Vgtid(keyspace, {shard: _executed(at, shard) for shard in shards(at)})
    rows = at.anywhere().query(f"show global gtid_executed from {quote(keyspace)}")
    texts = {str(row["shard"]): str(row["gtid_executed"]) for row in rows}
    found = {shard: GtidSet.parse(gtids, f"{keyspace}/{shard}") for shard, gtids in texts.items()}
    missing = set(shards(at)) ^ found.keys()
    if missing or not found:
        raise RetriableError(
            f"{keyspace}: VTGate reported the position of {', '.join(found) or 'no shard'}, "
            f"which are not the shards that serve ({', '.join(missing)} differ)"
        )
    return Vgtid(keyspace, found)


def _executed(at: KeyspaceSql, shard: str) -> GtidSet:
    return GtidSet.parse(text(at.on(shard).query(_GTIDS)[0]["executed"]), f"{at.keyspace}/{shard}")


def facts(at: KeyspaceSql, names: Iterable[str]) -> dict[str, ShardFacts]:
    """Ask the MySQL of each named shard; those that do not answer are left out.

    Raises:
        GtidError: see `shard_facts`.
    """
    found: dict[str, ShardFacts] = {}
    for shard in names:
        try:
            found[shard] = shard_facts(at, shard)
        except RetriableError:
            continue
    return found


def shard_facts(at: KeyspaceSql, shard: str) -> ShardFacts:
    """Ask one shard's MySQL about its binlogs.

    Raises:
        RetriableError: there is no such shard, or it has no tablet of this type.
        GtidError: its MySQL writes no GTIDs, or GTIDs that Vitess cannot read.
    """
    where = f"{at.keyspace}/{shard}"
    sql = at.on(shard)
    rows = (tuple(row.values()) for row in sql.query(_VARIABLES))
    values = {text(name): text(value) for name, value in rows}
    gtids = sql.query(_GTIDS)[0]
    if (mode := values.get("gtid_mode", "ON").upper()) != "ON":
        raise GtidError(f"{where}: MySQL runs with gtid_mode={mode}; {NO_GTIDS}")
    [clock] = sql.column("select unix_timestamp(now(6))")
    days = int(values.get("expire_logs_days") or 0)
    return ShardFacts(
        shard=shard,
        executed=GtidSet.parse(text(gtids["executed"]), where),
        purged=GtidSet.parse(text(gtids["purged"]), where),
        row_image=values.get("binlog_row_image", "FULL").upper(),
        row_value_options=values.get("binlog_row_value_options", "").upper(),
        binlog_format=values.get("binlog_format", "ROW").upper(),
        binlog_expire_seconds=int(values.get("binlog_expire_logs_seconds") or 0) or days * _DAY,
        mysql_version=values.get("version", ""),
        clock=float(clock),
    )


def tablets(at: KeyspaceSql) -> list[Tablet]:
    """List the tablets of the job's shards that VTGate sees in the keyspace."""
    found = (tablet for tablet in all_tablets(at) if tablet.keyspace == at.keyspace)
    return [tablet for tablet in found if at.ranges.meets(tablet.shard)]


def all_tablets(at: KeyspaceSql) -> list[Tablet]:
    """List the tablets that VTGate sees: those of the cells it watches, serving or not."""
    names = ("Cell", "Keyspace", "Shard", "TabletType", "State", "Alias", "Hostname")
    rows = at.sql.query("show vitess_tablets")
    return [Tablet(*(str(row[name]) for name in names)) for row in rows]
