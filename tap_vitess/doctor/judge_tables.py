"""Judges a keyspace's tables and columns: facts in, findings out. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

from tap_vitess.config import Config, Keys
from tap_vitess.doctor.findings import INFO, WARNING, Finding, Place
from tap_vitess.doctor.judge_cluster import Problem, has
from tap_vitess.errors import ConfigError
from tap_vitess.survey.cascades import ADVICE
from tap_vitess.survey.facts import Table, Text, Version
from tap_vitess.survey.identity import ANOTHER_KEY, Key, doubt, repeats
from tap_vitess.survey.rules import check_names, resumable, rule_of
from tap_vitess.survey.streams import doubts
from tap_vitess.values.charsets import decoder

_BAD_JSON = Problem(
    ((22, 0, 3), (23, 0, 1)),
    "changes of documents with control characters may arrive as invalid JSON, which ends a run, "
    "and a DECIMAL below 1 in a document makes tablets panic, which stops the table",
    "upgrade to v22.0.3, v23.0.1 or later",
)


def tables(
    keyspace: str, wanted: Collection[str] | None, found: Sequence[Table], chosen: Sequence[Table]
) -> Iterator[Finding]:
    """Judge the tables to read; `wanted` are those of the catalog, None without a catalog."""
    names = {table.name for table in found}
    for name in sorted(set(wanted or ()) - names):
        yield Place(keyspace, table=name).error(
            "catalog", "the catalog selects a table that is not there (any more)", "discover again"
        )
    for table in chosen:
        if not table.key:
            yield Place(keyspace, table=table.name).warning(
                "key",
                "no primary key and no NOT NULL unique key: rows cannot be matched in the target, "
                "and an interrupted copy starts over",
                "add a key, or leave the table out by the setting exclude_tables",
            )
    yield Place(keyspace).ok("tables", f"{len(chosen)} tables to read")


def left_out(unmatched: Iterable[str]) -> Iterator[Finding]:
    """Report the patterns of exclude_tables that match nothing, in discovery's words."""
    for what in unmatched:
        yield Place().warning("config", what)


def streams(chosen: Iterable[Table], config: Config) -> Iterator[Finding]:
    """Judge the names of the tables' streams, over all keyspaces."""
    for what, advice in doubts(config.stream(t.keyspace, t.name) for t in chosen):
        yield Place().warning("stream_name", what, advice)


def keys(chosen: Sequence[Table], told: Mapping[str, Key], setting: Keys) -> Iterator[Finding]:
    """Judge the keys that identify rows; `told` are the catalog's."""
    for table in chosen:
        place = Place(table.keyspace, table=table.name)
        key = told.get(table.name, table.key)
        if why := repeats(key, table.uniques):
            yield place.warning("key", why, ANOTHER_KEY)
        if why := doubt(key, table.vindex):
            yield place.finding(
                INFO if setting == "primary" else WARNING,
                "key",
                f"{why}: rows of several shards with one key become one row in the target",
                "let a sequence or the application keep the key unique over the shards, and set "
                "keys to `primary`; or set keys to `with_vindex`, discover again and copy the "
                "table again",
            )
        if nullable := table.nullable(key):
            yield place.warning(
                "key",
                f"{', '.join(nullable)}, a column of the vindex and so of the key, may be NULL, "
                "which many targets refuse in a key",
                "declare it NOT NULL, or set keys to `primary`",
            )


def filters(
    chosen: Iterable[Table], wanted: Mapping[str, str], vitess: Version | None
) -> Iterator[Finding]:
    """Judge the setting filters by the tables to read."""
    tables = {f"{table.keyspace}.{table.name}": table for table in chosen}
    try:
        check_names(wanted, tables, "those to read")
    except ConfigError as error:
        yield Place().error("filter", str(error))
    for name in sorted(wanted.keys() & tables.keys()):
        place = Place(tables[name].keyspace, table=tables[name].name)
        try:
            rule = rule_of(tables[name], None, wanted[name], vitess)
        except ConfigError as error:
            yield place.error("filter", str(error))
            continue
        yield place.ok("filter", "the tablets can filter its rows as the setting says")
        if not resumable(tables[name], rule):
            yield place.info(
                "filter", "its key is a long text: a filtered copy that is cut starts over"
            )


def cascades(keyspace: str, told: Mapping[str, str]) -> Iterator[Finding]:
    """Report tables whose rows change by foreign keys without being logged; told: why, by table."""
    for table, what in told.items():
        yield Place(keyspace, table=table).warning("cascade", what, ADVICE)


def copies(
    keyspace: str,
    chosen: Sequence[Table],
    not_resumable: Mapping[str, str],
    row_counts: Mapping[str, int],
) -> Iterator[Finding]:
    """Report tables that have a key, and whose copies nevertheless start over when they are cut."""
    for table in chosen:
        if table.key and (why := not_resumable.get(table.name)):
            count = row_counts.get(table.name)
            rows = "" if count is None else f" (about {count:,} rows)"
            yield Place(keyspace, table=table.name).warning(
                "copy",
                f"Vitess would lose rows if it resumed a copy by the key's {why}: an "
                f"interrupted copy starts over{rows}",
                "nothing where a copy takes minutes; a longer one must not be interrupted by "
                "max_run_seconds, or by vttablet's --vreplication_copy_phase_duration (1 hour)",
            )


def columns(
    keyspace: str, chosen: Sequence[Table], texts: Sequence[Text], vitess: Version | None
) -> Iterator[Finding]:
    """Judge the columns whose values depend on charsets, or on Vitess' version."""
    by_table: dict[str, list[Text]] = {}
    for text in texts:
        by_table.setdefault(text.table, []).append(text)
    for table in chosen:
        place = Place(keyspace, table=table.name)
        yield from _charsets(place, by_table.get(table.name, []))
        json = [c.name for c in table.columns if c.column_type.lower() == "json"]
        if json and vitess is not None and has(vitess, _BAD_JSON):
            yield place.warning("json", f"{', '.join(json)}: {_BAD_JSON.what}", _BAD_JSON.advice)


def _charsets(place: Place, texts: Sequence[Text]) -> Iterator[Finding]:
    unknown = [t for t in texts if decoder(t.charset) is None]
    foreign = [t for t in texts if t not in unknown and not _is_utf8(t.charset)]
    binary = [t for t in texts if t not in unknown + foreign and t.collation.endswith("_bin")]
    if unknown:
        yield place.error(
            "charset",
            f"{_listed(unknown)}: the charset cannot be decoded; a value in it ends a run",
            "alter the column to utf8mb4, or deselect it",
        )
    if foreign or binary:
        yield place.info("charset", f"{_listed(foreign + binary)}: read as text, given as UTF-8")


def _is_utf8(charset: str) -> bool:
    return charset == "ascii" or charset.startswith("utf8")


def _listed(texts: Iterable[Text]) -> str:
    return ", ".join(f"{text.column} ({text.collation or text.charset})" for text in texts)


def routed(keyspace: str, found: Mapping[str, str]) -> Iterator[Finding]:
    """Report tables whose queries go to another keyspace."""
    for table, other in sorted(found.items()):
        yield Place(keyspace, table=table).error(
            "moved",
            f"MoveTables: queries go to the keyspace {other}, which owns the rows; changes arrive "
            "here only as long as MoveTables copies them over, and end silently",
            f"read {other}.{table} instead",
        )


def unreadable(keyspace: str, refused: Mapping[str, str]) -> Iterator[Finding]:
    """Report tables that SELECT cannot read; VStream does not check this right."""
    for table, why in refused.items():
        yield Place(keyspace, table=table).warning(
            "select",
            f"SELECT fails: {why}",
            "grant SELECT to the user, and see whether the VSchema has the table. VStream needs "
            "neither, but what a change carries only in part can be completed by SELECT alone",
        )
