"""A state kept in a table of the user: one row for each job, written by one run at a time.

Here the state is just a text. A run takes the row over with a new token (`claim`), and every write
is an UPDATE of the row that still has this token. So of two runs with one name the newer one wins,
and the older one notices at its next write.

    confirmed   what is stored durably: the only state to resume from
    emitted     what the run has promised last, for people to look at

The library's consumers keep their state in such a table too (`vstream/stores.py`). They store
what they have processed, so all of it is `confirmed`.

The token that is read back shows whether a write was done, not the number of affected rows: no
token is used twice, so a row that is ours after the UPDATE was ours during it. That also holds for
a write that is tried again after its answer was lost. The user needs SELECT, INSERT and UPDATE.
Each name must be on one shard only, because otherwise two runs could each own a row of one name. So
a table that is sharded by anything but the name is refused.

Surprising: VTGate's errors quote the values of a statement, here the state; `faults.shorten`
cuts them off.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from tap_vitess.errors import AuthError, FencedError, RequestError
from tap_vitess.survey import vschema
from tap_vitess.vtgate.address import Address
from tap_vitess.vtgate.mysql import Sql, SqlRow, connect, quote, text

VINDEX: Final = "xxhash"
# Plans of a statement that always goes to the same single shard.
_ONE_SHARD: Final = {"Unsharded", "EqualUnique", "Reference"}
_DDL = """\
create table {table} (
  name varchar(255) character set utf8mb4 collate utf8mb4_bin not null,
  token char(32) character set ascii collate ascii_bin not null,
  started_at datetime(6) not null,
  confirmed longtext character set utf8mb4 collate utf8mb4_bin,
  confirmed_at datetime(6),
  emitted longtext character set utf8mb4 collate utf8mb4_bin,
  emitted_at datetime(6),
  primary key (name)
)"""


@dataclass(frozen=True, slots=True)
class Place:
    """The row a job's state is in. Times in it are UTC.

    what: its name in errors. keyspace_from: where the user named the keyspace, for errors.
    """

    keyspace: str
    table: str
    name: str
    what: str = "the mirror"
    keyspace_from: str = "the setting mirror_keyspace"

    def __str__(self) -> str:
        return f"{self.what} {self.keyspace}.{self.table}"


def ddl(place: Place, *, sharded: bool) -> list[str]:
    """Return the statements that create the table, and in a sharded keyspace its vindex."""
    table = f"{quote(place.keyspace)}.{quote(place.table)}"
    statements = [_DDL.format(table=table)]
    if sharded:
        statements.append(f"alter vschema on {table} add vindex {VINDEX}(name) using {VINDEX}")
    return statements


def is_sharded(address: Address, place: Place) -> bool:
    """Ask whether the keyspace needs a VSchema.

    Raises:
        RequestError: VTGate does not know the keyspace.
    """
    with connect(address) as sql:
        found = vschema.keyspaces(sql)
    if place.keyspace not in found:
        raise RequestError(
            f"{place}: VTGate does not know the keyspace {place.keyspace}: check "
            f"{place.keyspace_from}"
        )
    return found[place.keyspace].sharded


def create(address: Address, place: Place) -> None:
    """Run the statements of `ddl`; raises VitessError: VTGate refuses one of them."""
    statements = ddl(place, sharded=is_sharded(address, place))
    with _opened(address, place, "may the user create tables and alter the VSchema?") as sql:
        for statement in statements:
            sql.query(statement)


@dataclass(frozen=True, slots=True)
class Claim:
    """The right to write a row, as long as nobody takes it over."""

    address: Address
    place: Place
    token: str

    def confirm(self, state: str | None) -> None:
        """Store a confirmed state; None means that nothing is confirmed.

        Raises:
            FencedError: a newer run has taken the row over; it was not changed.
            VitessError: the write failed, or may have; it is safe to try again.
        """
        self._write("confirmed", state)

    def emit(self, state: str) -> None:
        """Store a state that was only promised; raises the errors of `confirm`."""
        self._write("emitted", state)

    def _write(self, column: str, state: str | None) -> None:
        table = quote(self.place.table, formatted=True)
        change = (
            f"update {table} set {column} = %s, {column}_at = %s "  # noqa: S608
            "where name = %s and token = %s"
        )
        with _opened(self.address, self.place) as sql:
            sql.query(change, state, _now(), self.place.name, self.token)
            _check(_row(sql, self.place, "token, started_at"), self.place, self.token)


def claim(address: Address, place: Place) -> tuple[Claim, str | None]:
    """Take a row over from whoever has it; insert it if there is none.

    Returns the claim and the confirmed state.

    Raises:
        FencedError: a run that began at the same time has taken it.
        VitessError: the table is not there, is sharded by another column, or cannot be written.
    """
    token = uuid.uuid4().hex
    table = quote(place.table, formatted=True)
    with _opened(address, place) as sql:
        _check_sharding(sql, place)
        if _row(sql, place, "token") is None:
            _insert(sql, place, token)
        change = f"update {table} set token = %s, started_at = %s where name = %s"  # noqa: S608
        sql.query(change, token, _now(), place.name)
        # `confirmed` is read after the UPDATE: from then on nobody else writes it.
        row = _check(_row(sql, place, "token, started_at, confirmed"), place, token)
    confirmed = row["confirmed"]
    return Claim(address, place, token), None if confirmed is None else text(confirmed)


def _insert(sql: Sql, place: Place, token: str) -> None:
    table = quote(place.table, formatted=True)
    insert = f"insert into {table} (name, token, started_at) values (%s, %s, %s)"  # noqa: S608
    try:
        sql.query(insert, place.name, token, _now())
    except RequestError:
        if _row(sql, place, "token") is None:
            raise
        # Another run of this name has inserted it in the meantime.


def _row(sql: Sql, place: Place, columns: str) -> SqlRow | None:
    table = quote(place.table, formatted=True)
    select = f"select {columns} from {table} where name = %s"  # noqa: S608
    return next(iter(sql.query(select, place.name)), None)


def _check(row: SqlRow | None, place: Place, token: str) -> SqlRow:
    if row is None:
        raise FencedError(f"{place}: somebody has deleted the row of {place.name}")
    if text(row["token"]) != token:
        began = text(row["started_at"])
        raise FencedError(
            f"{place}: a run of {place.name} that began at {began} UTC has taken over from this "
            "one: runs of one job must not overlap, and each job needs its own name (the tap's "
            "mirror_name)"
        )
    return row


def _check_sharding(sql: Sql, place: Place) -> None:
    """Check that all writes of a name go to one shard, by a plan; nothing is executed."""
    shards = sql.column("show vitess_shards")
    if sum(name.rpartition("/")[0] == place.keyspace for name in shards) <= 1:
        return
    update = f"update {quote(place.table)} set emitted = null where name = 'x'"  # noqa: S608
    [plan] = sql.column(f"vexplain plan {update}")
    if not set(_variants(json.loads(plan))) <= _ONE_SHARD:
        raise RequestError(
            "the rows of one name may be on several shards: put its vindex on the column name"
        )


def _variants(plan: dict[str, Any]) -> Iterator[str]:
    if plan.get("OperatorType") in {"Update", "Route", "DMLWithInput"}:
        yield str(plan.get("Variant", ""))
    for part in plan.get("Inputs", ()):
        yield from _variants(part)


_ADVICE = (
    "`tap-vitess-mirror ddl` prints the table it needs; the user needs SELECT, INSERT and UPDATE "
    "on it"
)


@contextmanager
def _opened(address: Address, place: Place, advice: str = _ADVICE) -> Iterator[Sql]:
    """Open a connection to the primary, in workload oltp, since olap allows no changes."""
    with connect(address) as sql:
        try:
            sql.use(f"{place.keyspace}@primary")
            sql.query("set workload = 'oltp'")
            yield sql
        except (RequestError, AuthError) as error:
            raise error.reworded(f"{place}: {error}; {advice}") from None


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S.%f")
