"""The catalog: keyspaces, tables, columns and keys, over VTGate's MySQL port.

What surprised us (facts, 7.2): information_schema answers only for `table_schema = '...'` (an IN
list silently gives nothing), from any one shard, and names the physical database. So there is one
query for each keyspace, and results are read by alias. For up to a minute after a reshard or a
failover nothing answers for the keyspace (error 1105); discovery waits, as a run does. A keyspace
without a tablet of the requested type, such as one that was restored from a backup and only has
replicas, gives the same error for ever; the tablets that VTGate sees show which case it is.
"""

from __future__ import annotations

import functools
import logging
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import chain

from tap_vitess.config import Config, Keys
from tap_vitess.errors import ConfigError, RequestError, RetriableError, VitessError
from tap_vitess.log import logger_of
from tap_vitess.protocol.ddl import INTERNAL_TABLE, migration_tables
from tap_vitess.survey import vschema
from tap_vitess.survey.facts import Column, Table, Tablet, none_of_type
from tap_vitess.survey.identity import Key, doubt, identity
from tap_vitess.survey.keyspace import KeyspaceSql, Survey, all_tablets, version
from tap_vitess.survey.rules import check_names, rule_of
from tap_vitess.survey.tables import by_table, unique_keys
from tap_vitess.survey.telling import Telling
from tap_vitess.values.mysql_types import is_geometry
from tap_vitess.vtgate.mysql import Sql, SqlRow, connect, text
from tap_vitess.vtgate.retry import RetryOptions, Stopping, retrying

logger = logger_of(__name__)

_SYSTEM = {"information_schema", "mysql", "performance_schema", "sys", "_vt"}
_SEQUENCE = "vitess_sequence"  # anywhere in a table's comment, this makes it a sequence for Vitess

_TABLES = """
select table_name as table_name, table_type as table_type, table_comment as table_comment
from information_schema.tables where table_schema = %s
"""
_COLUMNS = """
select table_name as table_name, column_name as column_name, column_type as column_type,
       is_nullable as is_nullable, character_set_name as charset, collation_name as collation,
       ordinal_position as position
from information_schema.columns where table_schema = %s
order by table_name, ordinal_position
"""
# `*`, because MySQL 5.7 has no SRS_ID.
_GEOMETRIES = """
select * from information_schema.columns where table_schema = %s and data_type in (
  'geometry', 'point', 'linestring', 'polygon', 'multipoint', 'multilinestring', 'multipolygon',
  'geomcollection', 'geometrycollection')
"""


def keyspaces_of(sql: Sql) -> list[str]:
    """Return every keyspace that VTGate knows, sorted."""
    return sorted({*sql.column("show keyspaces")} - _SYSTEM)


def describe(at: KeyspaceSql, keys: Keys) -> list[Table]:
    """Describe the base tables; views, sequences and internal tables are left out."""
    sql, keyspace = at.anywhere(), at.keyspace
    columns = by_table(sql.query(_COLUMNS, keyspace))
    uniques = unique_keys(at)
    srids = _srids(sql, keyspace, columns)
    names = sorted(
        str(row["table_name"])
        for row in sql.query(_TABLES, keyspace)
        if row["table_type"] == "BASE TABLE"
        and _SEQUENCE not in text(row["table_comment"])
        and not INTERNAL_TABLE.fullmatch(str(row["table_name"]))
    )
    tables = [
        Table(
            keyspace,
            name,
            tuple(_column(row, srids) for row in columns.get(name, [])),
            _key(uniques.get(name, ()), _inexact(columns.get(name, []))),
            uniques=uniques.get(name, ()),
        )
        for name in names
    ]
    keyed = [table.name for table in tables if table.key]
    vindexes = vschema.primary_vindexes(at, keyed)
    return [
        _sharded(table, vindexes[table.name], keys) if table.name in vindexes else table
        for table in tables
    ]


def _sharded(table: Table, vindex: str | None, keys: Keys) -> Table:
    names = [column.name for column in table.columns]
    inexact = [c.name for c in table.columns if _is_inexact(c.column_type)]
    key = identity(table.key, vindex, names, inexact, keys)
    return replace(table, key=key, vindex=vindex)


def discover(config: Config, retry: RetryOptions) -> list[Table]:
    """Find the tables that the settings keyspaces, tables and exclude_tables select.

    Args:
        retry: how long passing faults are retried, for each keyspace.

    Raises:
        ConfigError: a keyspace does not exist, or a pattern matches no table.
        VitessError: VTGate does not describe a keyspace. It is not left out silently, because many
            users discover only once.
    """
    with connect(config) as sql:
        known = keyspaces_of(sql)
    keyspaces = known if config.keyspaces is None else config.keyspaces
    if missing := sorted(set(keyspaces) - set(known)):
        raise ConfigError(
            f"setting keyspaces: VTGate does not know {', '.join(missing)}; "
            f"it knows {', '.join(known) or 'none'}"
        )
    wanted = [keyspace for keyspace in keyspaces if config.may_want(keyspace)]
    settled = time.monotonic() + min(retry.settle, retry.budget)
    tables = [table for keyspace in wanted for table in _tables(config, keyspace, retry, settled)]
    chosen = choose(tables, keyspaces, config)
    for sentence in unmatched(tables, known, config):
        logger.warning("%s", sentence)
    _check_filters(chosen, config)
    for table in chosen:
        _tell_key(table, config.keys)
    for keyspace in dict.fromkeys(table.keyspace for table in chosen):
        survey = Survey(config, keyspace, config.tablet_type)
        names = {table.name for table in chosen if table.keyspace == keyspace}
        Telling(survey, level=logging.WARNING).cascades(names)
    return chosen


def _check_filters(chosen: Sequence[Table], config: Config) -> None:
    """Refuse filters that this Vitess does not support, and filters of other tables.

    Raises:
        ConfigError: there are such filters.
    """
    if not config.filters:
        return
    by_name = {f"{table.keyspace}.{table.name}": table for table in chosen}
    check_names(config.filters, by_name, "those to read")
    told = Survey(config, chosen[0].keyspace, config.tablet_type).ask(version)
    for name, where in config.filters.items():
        rule_of(by_name[name], None, where, told)


def _tell_key(table: Table, keys: Keys) -> None:
    name = f"{table.keyspace}.{table.name}"
    why = doubt(table.key, table.vindex)
    if why and keys == "with_vindex":
        logger.warning("%s: %s", name, why)
    if nullable := table.nullable(table.key):
        logger.warning(
            "%s: the column %s of its vindex is in its key and may be NULL, which many targets "
            "refuse in a key: declare it NOT NULL, or set keys to `primary`",
            name,
            ", ".join(nullable),
        )


def patiently_described(
    config: Config, keyspace: str, retry: RetryOptions, stopping: Stopping = lambda: False
) -> list[Table]:
    """Describe a keyspace, each time over a new connection; retry temporary faults.

    Args:
        stopping: called between two attempts; True ends them.

    Raises:
        VitessError: a permanent fault, or the last one when the budget is used up.
    """
    survey = Survey(config, keyspace, config.tablet_type)
    ask = functools.partial(survey.ask, describe, config.keys)
    try:
        return retrying(f"the tables of {keyspace}", ask, retry, stopping)
    except RetriableError as error:
        raise error.reworded(f"keyspace {keyspace}: {error.within(keyspace)}") from error
    except RequestError as error:
        raise with_the_known(error, keyspace, config) from error


def with_the_known(error: RequestError, keyspace: str, config: Config) -> RequestError:
    """Add to an error which keyspaces VTGate knows, if it does not know this one."""
    try:
        with connect(config) as sql:
            known = keyspaces_of(sql)
    except VitessError:
        return error  # the library's events need no MySQL port
    if keyspace in known:
        return error
    return error.reworded(f"{keyspace}: {error}; it knows {', '.join(known) or 'none'}")


def choose(tables: Sequence[Table], keyspaces: Iterable[str], config: Config) -> list[Table]:
    """Select tables by the settings tables and exclude_tables.

    Raises:
        ConfigError: a pattern matches no table, or none is left.
    """
    for pattern in config.tables or ():
        if not any(_matches(table, pattern) for table in tables):
            raise ConfigError(
                f"setting tables: {pattern} matches no table of {', '.join(keyspaces)}; "
                "patterns are keyspace.table"
            )
    helpers = _helpers(tables)
    chosen = [
        table
        for table in tables
        if config.wants(table.keyspace, table.name)
        and ((table.keyspace, table.name) not in helpers or _is_meant(table, config))
    ]
    if not chosen:
        raise ConfigError(
            f"there is no table to read in {', '.join(keyspaces) or 'this Vitess'}: check the "
            "settings keyspaces, tables and exclude_tables"
        )
    return chosen


def unmatched(tables: Sequence[Table], known: Iterable[str], config: Config) -> list[str]:
    """Return warnings for exclude_tables that match nothing: privacy may depend on one.

    Args:
        tables: all tables of the examined keyspaces.
        known: every keyspace; a pattern may match a table of one that was not examined.
    """
    others = set(known) - {table.keyspace for table in tables}
    return [
        f"setting exclude_tables: {pattern} matches no table, so it leaves none out; patterns are "
        "keyspace.table, and the case of letters counts"
        for pattern in config.exclude_tables
        if not any(_matches(table, pattern) for table in tables)
        and not any(Config.matches(f"{keyspace}.", (_begin(pattern),)) for keyspace in others)
    ]


def _begin(pattern: str) -> str:
    """Return the part of a pattern for keyspaces; empty if it matches all of them."""
    keyspace, dot, _ = pattern.partition(".")
    return keyspace + dot if keyspace.strip("*") else ""


def _tables(config: Config, keyspace: str, retry: RetryOptions, settled: float) -> list[Table]:
    """Describe a keyspace; skip one without a tablet to ask, unless a setting names it.

    Args:
        retry: how long to wait for a keyspace that has tablets.
        settled: when VTGate has had time to see all tablets, by the monotonic clock.
    """
    budget = max(0.0, settled - time.monotonic())
    brief = replace(retry, budget=budget, longest_wait=min(1.0, retry.longest_wait))
    try:
        return patiently_described(config, keyspace, brief)
    except RetriableError as error:
        seen = Survey(config, keyspace, config.tablet_type).ask(all_tablets)
        if (why := absence(seen, keyspace, config)) is None:
            return patiently_described(config, keyspace, retry)
        if config.names(keyspace):
            raise ConfigError(f"keyspace {keyspace}: {why}") from error
    logger.warning("keyspace %s is left out: %s", keyspace, why)
    return []


def absence(seen: Sequence[Tablet], keyspace: str, config: Config) -> str | None:
    """Return why no tablet will answer for a keyspace; None if one may come.

    Args:
        seen: all tablets that VTGate sees. A VTGate that has just started sees none. If it sees
            none of a keyspace that a setting names, the reason may be temporary.
    """
    own = [tablet for tablet in seen if tablet.keyspace == keyspace]
    if own:
        return none_of_type(own, config.tablet_type)
    return "VTGate sees no tablet of it" if seen and not config.names(keyspace) else None


def _helpers(tables: Sequence[Table]) -> set[tuple[str, str]]:
    """Return the helper tables of gh-ost and pt-online-schema-change whose original exists."""
    names: dict[str, list[str]] = {}
    for table in tables:
        names.setdefault(table.keyspace, []).append(table.name)
    return {(ks, name) for ks, among in names.items() for name in migration_tables(among)}


def _is_meant(table: Table, config: Config) -> bool:
    """Return whether a pattern names a helper table on purpose: the pattern starts with `_`."""
    patterns = tuple(p for p in config.tables or () if p.partition(".")[2].startswith("_"))
    return Config.matches(f"{table.keyspace}.{table.name}", patterns)


def _matches(table: Table, pattern: str) -> bool:
    return Config.matches(f"{table.keyspace}.{table.name}", (pattern,))


def _column(row: SqlRow, srids: Mapping[tuple[str, str], int | None]) -> Column:
    name = str(row["column_name"])
    return Column(
        name,
        text(row["column_type"]),
        row["is_nullable"] == "YES",
        row["charset"],
        srids.get((str(row["table_name"]), name)),
        row["collation"],
    )


def _srids(
    sql: Sql, keyspace: str, columns: Mapping[str, Sequence[SqlRow]]
) -> dict[tuple[str, str], int | None]:
    """Return the SRIDs of geometry columns; ask nothing if there are none."""
    rows = chain.from_iterable(columns.values())
    if not any(is_geometry(text(row["column_type"])) for row in rows):
        return {}
    found = [
        {name.lower(): value for name, value in row.items()}
        for row in sql.query(_GEOMETRIES, keyspace)
    ]
    return {(str(row["table_name"]), str(row["column_name"])): row.get("srs_id") for row in found}


def _inexact(rows: list[SqlRow]) -> set[str]:
    """Return the FLOAT columns: MySQL rounds them in a copy, so they cannot identify a row."""
    return {str(row["column_name"]) for row in rows if _is_inexact(text(row["column_type"]))}


def _is_inexact(column_type: str) -> bool:
    return column_type.startswith("float")


def _key(uniques: Iterable[Key], inexact: set[str]) -> Key:
    """Return the first key that identifies rows; empty if none does."""
    return next((key for key in uniques if not inexact & set(key)), ())
