"""Tables of a Vitess as a dlt source: one resource and one stream for all of them.

The position is in the source's part of dlt's state, which dlt stores in the destination with the
package that it belongs to. Nothing else is stored.

    merge    one row for each key: deletes are hard deletes, a key's newest row in a package wins
    append   one row for each change, a history; always used for tables without a key

When the end of a package is read, the package is not loaded yet. So rows of older versions of a
table are removed after the load (`remove_older_rows`), and the state remembers which, in case the
process ends before.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, MutableMapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import dlt
from dlt.common.destination import DestinationCapabilitiesContext
from dlt.extract import DltResource, DltSource

from tap_vitess.dlt.columns import DELETED_AT, SEQ, Hint, Shape, newest, shape_of
from tap_vitess.dlt.feed import Feed, columns_of
from tap_vitess.dlt.first import FirstCopy, has_new_keys, is_empty
from tap_vitess.dlt.older import check_jobs, note_older, remove_older_rows
from tap_vitess.dlt.settings import settings_of
from tap_vitess.errors import ConfigError
from tap_vitess.log import logger_of
from tap_vitess.survey.facts import Table
from tap_vitess.values.kernels import pyarrow
from tap_vitess.vstream import TableCopied, TableRows

logger = logger_of(__name__)

NAME = "vitess"  # of the source, of its resource and of dlt's schema
Write = Literal["merge", "append"]
TableFormat = Literal["delta", "iceberg"]
FileFormat = Literal["parquet", "insert_values"]
_ITEM_ROWS = 50_000  # of a table that dlt is given at once
_HELD_BYTES = 128 << 20  # of all tables that wait for more rows

State = MutableMapping[str, Any]


@dataclass(frozen=True)
class Manner:
    """How tables are written.

    write: see above. table_names: how a table is called in the destination. table_format: of a
    destination that has files.
    """

    write: Write = "merge"
    table_names: str = "{table}"
    table_format: TableFormat | None = None

    def name_of(self, table: Table) -> str:
        """Return what a table is called in the destination.

        Raises:
            ConfigError: the template has other words.
        """
        try:
            name = self.table_names.format(keyspace=table.keyspace, table=table.name)
        except (KeyError, IndexError, ValueError, AttributeError):
            name = ""
        if not name.strip():
            raise ConfigError("table_names: a template of {keyspace} and {table} is expected")
        return name

    def check(
        self, feed: Feed, named: Callable[[str], str], taken: Collection[str] = frozenset()
    ) -> None:
        """Refuse what would mix tables up or put NULL where the binlog says nothing.

        taken: the names of tables that dlt has for itself.

        Raises:
            ConfigError: two tables have one name, or a setting does not fit.
        """
        names: dict[str, str] = {}
        for name, table in feed.tables.items():
            if other := names.get(found := named(self.name_of(table))):
                raise ConfigError(
                    f"{other} and {name} would both be the table {found}: set table_names to "
                    "`{keyspace}_{table}`, or leave one out by exclude_tables"
                )
            if found in taken:
                raise ConfigError(
                    f"{name} would be the table {found}, which is one of dlt's own: set "
                    "table_names to `{keyspace}_{table}`, or leave the table out by exclude_tables"
                )
            names[found] = name
            if not table.key and self.write == "merge":
                logger.warning("%s has no key: its changes are appended, each as a row", name)
        if feed.config.shards and self.write == "merge" and not feed.config.metadata_columns:
            raise ConfigError(
                "setting shards: rows are removed by the shard that they name, so set "
                "metadata_columns to true"
            )
        if self.write == "merge" and feed.config.on_partial_image == "omit":
            raise ConfigError(
                "on_partial_image: with omit a merge would put NULL in columns that the binlog "
                "does not carry; set it to `fetch` or `fail`, or write to `append`"
            )

    def strategy(self, caps: DestinationCapabilitiesContext, where: str) -> str:
        """Choose how a destination merges.

        Raises:
            ConfigError: it cannot.
        """
        known = caps.supported_merge_strategies or []
        if where == "filesystem" and self.table_format is None:
            raise ConfigError(
                "files cannot be merged into: set table_format to `delta`, or write to `append` "
                "for a history of changes"
            )
        if "delete-insert" in known and where != "filesystem":
            return "delete-insert"
        if "upsert" in known:
            return "upsert"
        raise ConfigError(
            f"the destination {where} cannot merge: set write to `append` for a history of changes"
        )


def file_format(caps: DestinationCapabilitiesContext) -> FileFormat | None:
    """Choose how a destination is given rows; None is its own choice.

    Never CSV, where dlt would prefer it: its CSV has no difference between an empty text and NULL,
    and no binary values.
    """
    known = caps.supported_loader_file_formats or []
    preferred = caps.preferred_loader_file_format
    if caps.loader_file_format_selector is not None and preferred is not None:
        _, known = caps.loader_file_format_selector(preferred, known, table_schema={"name": NAME})
    if "parquet" in known:
        return "parquet"
    return "insert_values" if "insert_values" in known else None


def vitess_source(
    host: str | None = None,
    *,
    tables: list[str] | None = None,
    columns: Mapping[str, Sequence[str]] | None = None,
    write: Write = "merge",
    table_names: str = "{table}",
    table_format: TableFormat | None = None,
    **settings: Any,
) -> DltSource:
    """Return tables of a Vitess as a source; each run loads them up to where Vitess is now.

    Args:
        host: of VTGate; for defaults, and for what is not given, see docs/load.md.
        tables: patterns of `keyspace.table`.
        columns: of tables by `keyspace.table` of which only some columns are to be read; those of
            the key and of the primary vindex are in any case.
        write: "merge", or "append" for a history of changes.
        table_names: what tables are called, with {keyspace} and {table}.
        table_format: "delta" to merge into files.
        settings: the tap's.

    Raises:
        ConfigError: a setting is wrong.
    """
    config = settings_of({"host": host, "tables": tables, **settings})
    manner = Manner(write, table_names, table_format)
    read = columns_of(columns or {})

    def items() -> Iterator[Any]:
        state = dlt.current.source_state()
        remove_older_rows(dlt.current.pipeline(), state)
        with Feed(config, state.get("state"), read) as feed:
            yield from package_of(feed, manner, state)
            if feed.error is not None:
                raise feed.error

    return source_of(items)


def source_of(items: Any) -> DltSource:
    """Make a source of a function of no arguments that yields what `package_of` does."""

    @dlt.source(name=NAME)
    def vitess() -> DltResource:
        found: DltResource = dlt.resource(items, name=NAME)
        return found

    return vitess()


def package_of(
    feed: Feed, manner: Manner, state: State, appended: set[str] | None = None
) -> Iterator[Any]:
    """Yield the next package of a feed as dlt's items, and then change the state.

    appended: gets the names of the tables whose rows are not merged, but appended to an empty
    table. A job of theirs must not be repeated. Without it all are merged.
    """
    tables = _Tables(feed, manner, appended)
    for item in feed.package():
        if isinstance(item, TableRows):
            yield from tables.add(item)
        elif isinstance(item, TableCopied):
            yield from tables.finish(item)
    yield from tables.rest()
    state["state"] = feed.state
    older = {
        manner.name_of(feed.tables[name]): version
        for name, version in feed.copied.items()
        if name not in tables.appended
    }
    if manner.write == "merge":
        note_older(state, older, feed.config.ranges)


@dataclass
class _Waiting:
    """Rows of one schema of a table that dlt was not given yet."""

    shape: Shape
    batches: list[Any] = field(default_factory=list)
    rows: int = 0

    def taken(self, *, but: int = 0) -> Any:
        """Take all batches but the last ones; return them as a pyarrow.Table."""
        count = len(self.batches) - but
        found = pyarrow().Table.from_batches(self.batches[:count], self.shape.schema)
        del self.batches[:count]
        self.rows -= len(found)
        return found


class _Tables:
    """The tables of a package. Shards of a table have other schemas while it is altered.

    The last batch of a table stays until the end: dlt goes by the hints of a table's last item, and
    only the end tells whether its rows are appended.
    """

    def __init__(self, feed: Feed, manner: Manner, appended: set[str] | None) -> None:
        self._feed = feed
        self._manner = manner
        self._schema = dlt.current.source_schema()
        named = self._schema.naming.normalize_table_identifier
        manner.check(feed, named, self._schema.dlt_table_names())
        destination = dlt.current.pipeline().destination
        where = destination.destination_type.rpartition(".")[2]
        self._waiting: dict[str, dict[Any, _Waiting]] = {}  # by table and schema
        self._bytes = 0
        merged = manner.write == "merge" and any(t.key for t in feed.tables.values())
        caps = destination.capabilities()
        self._strategy = manner.strategy(caps, where) if merged else None
        if feed.config.shards:
            check_jobs(dlt.current.pipeline(), merges=self._strategy == "delete-insert")
        self._file_format = file_format(caps)
        by_driver = caps.loader_file_format_selector is not None
        self._by_driver = by_driver and self._file_format == "parquet"
        self.appended = set() if appended is None else appended
        may_append = appended is not None and self._strategy == "delete-insert"
        known = feed.known() if may_append else feed.tables
        alone = not feed.config.shards
        self._untold = {
            n for n, t in feed.tables.items() if n not in known and has_new_keys(t, alone=alone)
        }
        self._first: dict[str, FirstCopy] = {}

    def add(self, item: TableRows) -> Iterator[Any]:
        """Take rows; yield items of dlt's."""
        of_table = self._waiting.setdefault(item.name, {})
        waiting = of_table.get(item.rows.schema)
        if waiting is None:
            waiting = _Waiting(self._shape(item.name, item.rows.schema))
            of_table[item.rows.schema] = waiting
        rows = waiting.shape.rows(item.rows)
        self._look(item, rows)
        waiting.batches.append(rows)
        waiting.rows += item.rows.num_rows
        self._bytes += item.rows.nbytes
        if self._bytes >= _HELD_BYTES:
            self._bytes = 0
            yield from self._give(but=1)
        elif waiting.rows >= _ITEM_ROWS and not self._is_held(item.name):
            yield from self._some(item.name, waiting, but=1)

    def _look(self, item: TableRows, rows: Any) -> None:
        """Find out whether a table's rows can be appended."""
        name = item.name
        if name in self._untold:
            self._untold.discard(name)
            where = self._manner.name_of(self._feed.tables[name])
            where = self._schema.naming.normalize_table_identifier(where)
            if is_empty(dlt.current.pipeline(), where):
                self._first[name] = FirstCopy(self._feed.tables[name].key)
                self.appended.add(name)
        if name in self._first and not self._first[name].add(item, rows):
            self._merge(name)

    def _merge(self, name: str) -> None:
        del self._first[name]
        self.appended.discard(name)

    def finish(self, item: TableCopied) -> Iterator[Any]:
        """Make the table, even if it has no rows.

        ADBC takes no empty files, and as INSERTs a JSON column would be of another type than by
        ADBC: in Postgres an empty table that has one comes with its first row.
        """
        name = self._manner.name_of(self._feed.tables[item.name])
        known = self._schema.naming.normalize_table_identifier(name) in self._schema.tables
        if known or item.name in self._waiting:
            return
        shape = self._shape(item.name, self._feed.schema_of(item.name))
        documents = any(hint["data_type"] == "json" for hint in shape.hints.values())
        if not (self._by_driver and documents):
            empty = shape.schema.empty_table()
            format_: FileFormat | None = "insert_values" if self._by_driver else None
            yield self._item(item.name, empty, shape.hints, format_)

    def rest(self) -> Iterator[Any]:
        """Yield all that has waited."""
        for name in [n for n, first in self._first.items() if not first.is_each_key_once()]:
            self._merge(name)
        for name, of_table in self._waiting.items():
            if self._is_held(name):
                yield self._whole(name, list(of_table.values()))
        yield from self._give()

    def _give(self, *, but: int = 0) -> Iterator[Any]:
        for name, of_table in self._waiting.items():
            for waiting in of_table.values():
                if not self._is_held(name):
                    yield from self._some(name, waiting, but=but)

    def _some(self, name: str, waiting: _Waiting, *, but: int) -> Iterator[Any]:
        if len(waiting.batches) > but:
            yield self._item(name, waiting.taken(but=but), waiting.shape.hints)

    def _whole(self, name: str, parts: list[_Waiting]) -> Any:
        """Return all rows of a table's package, each key once."""
        rows = pyarrow().concat_tables([p.taken() for p in parts], promote_options="default")
        hints = {name: hint for part in parts for name, hint in part.shape.hints.items()}
        return self._item(name, newest(rows, self._feed.tables[name].key), hints)

    def _is_held(self, name: str) -> bool:
        """Return whether a table's package has to be seen whole: each key may be there once."""
        return self._strategy == "upsert" and bool(self._feed.tables[name].key)

    def _shape(self, name: str, schema: Any) -> Shape:
        table = self._feed.tables[name]
        naming = self._schema.naming
        where = naming.normalize_table_identifier(self._manner.name_of(table))
        known = self._schema.tables.get(where, {"columns": {}})["columns"]
        return shape_of(
            name,
            schema,
            table.key,
            known,
            naming.normalize_identifier,
            metadata_columns=self._feed.config.metadata_columns,
        )

    def _item(
        self, name: str, rows: Any, hints: Mapping[str, Hint], format_: FileFormat | None = None
    ) -> Any:
        told = self._hints(self._feed.tables[name], hints, format_ or self._file_format)
        return dlt.mark.with_hints(rows, told, create_table_variant=True)

    def _hints(self, table: Table, hints: Mapping[str, Hint], format_: FileFormat | None) -> Any:
        columns: dict[str, Any] = dict(hints)
        write: Any = "append"
        name = f"{table.keyspace}.{table.name}"
        if self._manner.write == "merge" and table.key and name not in self.appended:
            write = {"disposition": "merge", "strategy": self._strategy}
            columns[DELETED_AT] = {"name": DELETED_AT, "hard_delete": True}
            columns[SEQ] = {"name": SEQ, "dedup_sort": "desc"}
        return dlt.mark.make_hints(
            table_name=self._manner.name_of(table),
            primary_key=list(table.key) if self._manner.write == "merge" else None,
            write_disposition=write,
            columns=columns,
            table_format=self._manner.table_format,
            file_format=format_,
        )
