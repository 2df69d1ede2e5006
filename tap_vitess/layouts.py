"""How each table looked at its position, so that old row events are not read wrongly. Pure.

Vitess reads a row event of the past with the table's definition of today (unless vttablet tracks
schema versions), and says nothing as long as the types match by position: after a rename, a
reorder, INT to INT UNSIGNED or new ENUM labels old rows come under wrong names or with wrong
values (facts, 7.3; seen on v22). So the state remembers a table's layout at its position, and a
FIELD event that does not begin with it, with no DDL in between, ends the table's stream before
one wrong value is given out. Columns added at the end and other sizes of the same type are right.

    "4:9f3a0c21,2:77aa01b3"    4 columns, a checksum of their names, types and charsets; then for
                               each ENUM or SET its number of labels and their checksum
    "?4:9f3a0c21,2:77aa01b3"   rows have been given out with this layout, which is not proved
    "?"                        the same, and the layout is not known

Where shards differ, as in the middle of a rollout, the state has such a text for each.

Two things prove a layout. A snapshot's, when the stream has come to a stop position behind it
without a DDL. What a stream showed, when a stop position that was asked for afterwards is reached
without a DDL: a DDL that ran after the question is behind the stop position, and the stream shows
its columns all the same. What is not proved: if a DDL changes the columns behind rows that were
given out, or another layout shows without a DDL, the table is copied once more.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterable, Mapping

from tap_vitess._proto import query_pb2 as query
from tap_vitess.errors import HistoryLostError
from tap_vitess.vstream.charsets import charset_of
from tap_vitess.vstream.protocol import Fields

UNVOUCHED = "?"
_FORM = re.compile(r"\?|\??\d+:[0-9a-f]{8}(,\d+:[0-9a-f]{8})*")
_LABEL = re.compile(r"'(?:[^']|'')*'")

_Shard = tuple[str, str]  # table, shard
Stored = str | Mapping[str, str]  # of a table, or shard by shard


def layout_of(fields: Iterable[query.Field], like: str | None = None) -> str:
    """Write a layout; of as many columns and labels as `like` has, where that is given."""
    columns = list(fields)
    labels = [_LABEL.findall(c.column_type) for c in columns if _has_labels(c)]
    if like is not None:
        counts = [int(part.partition(":")[0]) for part in like.split(",")]
        columns = columns[: counts[0]]
        labels = [_LABEL.findall(c.column_type) for c in columns if _has_labels(c)]
        labels = [own[:count] for own, count in zip(labels, counts[1:], strict=False)]
    parts = [map(_column, columns), *labels]
    return ",".join(f"{len(part)}:{_checksum(part)}" for part in map(list, parts))


def is_layout(value: object) -> bool:
    """Tell whether a state's value is a layout, or one for each shard."""
    if isinstance(value, dict):
        return all(is_layout(text) for text in value.values())
    return isinstance(value, str) and _FORM.fullmatch(value) is not None


class Layouts:
    """The layouts of a keyspace's tables at their positions, shard by shard."""

    def __init__(self, known: Mapping[str, Stored]) -> None:
        """Begin with what the state knows: a text holds for every shard of its table."""
        whole = {table: text for table, text in known.items() if isinstance(text, str)}
        self._vouched = {t: text for t, text in whole.items() if not text.startswith(UNVOUCHED)}
        # Shown by an earlier run; empty where it is not known how.
        self._suspect = {t: text[1:] for t, text in whole.items() if text.startswith(UNVOUCHED)}
        self._shards: dict[_Shard, str] = {}  # vouched, and other than the table's
        self._altered: set[_Shard] = set()  # a DDL has come, and no rows since
        self._shown: dict[_Shard, str] = {}  # rows have come, and nobody has vouched
        self._before: dict[_Shard, str] = {}  # the same, before the stop position was asked for
        self._copied: dict[_Shard, str] = {}
        self._places: dict[str, set[_Shard]] = {}  # of each table, where any of these knows it
        self._told: dict[str, tuple[Iterable[str], Stored | None]] = {}  # and for which shards
        for table, texts in known.items():
            if not isinstance(texts, str):
                self._begin_by_shard(table, texts)

    def _begin_by_shard(self, table: str, texts: Mapping[str, str]) -> None:
        for shard, text in texts.items():
            noted = self._before if text.startswith(UNVOUCHED) else self._shards
            noted[self._place((table, shard))] = text.removeprefix(UNVOUCHED)

    def _place(self, where: _Shard) -> _Shard:
        """Keep in mind that something is noted of a place."""
        self._places.setdefault(where[0], set()).add(where)
        return where

    def asked(self) -> None:
        """Note that a stop position was asked for: it can prove what was shown until now."""
        self._told.clear()
        self._before |= self._shown
        self._shown.clear()

    def check(self, fields: Fields) -> None:
        """Compare a FIELD event of the shared stream, before its first rows are given out.

        Raises:
            HistoryLostError: the events are read with a definition they were not written with.
        """
        where = fields.table, fields.shard
        known = self._known(where)
        if known is None:
            self._told.pop(fields.table, None)
            self._shown[self._place(where)] = layout_of(fields.fields)
            self._altered.discard(where)
        elif layout_of(fields.fields, known) != known:
            error = HistoryLostError(
                f"{fields.table} on shard {fields.shard} was altered after the bookmark, and "
                "Vitess reads its older changes with today's columns; let on_lost_position be "
                "`resync` for a run to copy the table again"
            )
            error.table = fields.table
            raise error

    def altered(self, places: Iterable[_Shard]) -> dict[str, str]:
        """Take in a DDL that changes columns; say which tables' rows may have been misread."""
        misread: dict[str, str] = {}
        for where in places:
            table, shard = where
            self._told.pop(table, None)
            if where in self._shown or where in self._before or table in self._suspect:
                misread[table] = (
                    f"an ALTER on shard {shard} came behind changes that Vitess has perhaps read "
                    "with the columns of later"
                )
            self._suspect.pop(table, None)
            for noted in (self._shown, self._before, self._copied, self._shards):
                noted.pop(where, None)
            self._altered.add(self._place(where))
        return misread

    def copied(self, fields: Fields) -> None:
        """Note how a table looked in the snapshot of its copy, which is later than its position."""
        where = fields.table, fields.shard
        if where not in self._copied:
            self._copied[self._place(where)] = layout_of(fields.fields)

    def copy_begins(self, table: str) -> None:
        """Forget a table: its rows come anew."""
        self._told.pop(table, None)
        self._vouched.pop(table, None)
        self._suspect.pop(table, None)
        for where in self._places.pop(table, ()):
            for noted in (self._shards, self._shown, self._before, self._copied):
                noted.pop(where, None)
            self._altered.discard(where)

    def reached(self, tables: frozenset[str]) -> dict[str, str]:
        """Take in that the stop position is reached; say which tables were misread."""
        self._told.clear()
        misread: dict[str, str] = {}
        for where, shown in list(self._shown.items()):
            table = where[0]
            proofs = (self._copied.get(where), self._before.get(where), self._suspect.get(table))
            if table in tables and any(proof not in (None, "", shown) for proof in proofs):
                misread[table] = (
                    f"it was altered after the stop position, and Vitess has read older changes on "
                    f"shard {where[1]} with the columns of later"
                )
        for noted in (self._before, self._copied):
            for where in [where for where in noted if where[0] in tables]:
                self._shards[where] = noted.pop(where)
                self._shown.pop(where, None)
                self._altered.discard(where)
        for table in tables & self._suspect.keys():
            if text := self._suspect.pop(table):
                self._vouched[table] = text
        return misread

    def resharded(self, shards: Iterable[str]) -> None:
        """Take in that other shards have followed: what was known of some does not hold for all."""
        noted = (self._shards, self._shown, self._before, self._copied, self._altered)
        tables = {table for places in noted for table, _ in places} | self._suspect.keys()
        self._told.clear()
        for table in tables & (self._vouched.keys() | self._suspect.keys()):
            self._altered |= {self._place((table, shard)) for shard in shards}

    def stored(self, tables: Mapping[str, Iterable[str]]) -> dict[str, Stored]:
        """Return what the state should know of each table; `tables` maps each to its shards.

        Each STATE asks for all tables, so what was told is kept until something of the table, or
        the object that holds its shards, is another: what holds shards is not changed in place.
        """
        found: dict[str, Stored] = {}
        for table, shards in tables.items():
            told = self._told.get(table)
            if told is None or told[0] is not shards:
                told = self._told[table] = shards, self._stored(table, shards)
            if told[1]:
                found[table] = told[1]
        return found

    def _stored(self, table: str, shards: Iterable[str]) -> Stored | None:
        """Return one text for the table, or where its shards differ one for each."""
        texts = {shard: self._stored_of((table, shard)) for shard in shards}
        if len(set(texts.values())) == 1:
            return next(iter(texts.values())) or None
        return {shard: text for shard, text in texts.items() if text}

    def _stored_of(self, where: _Shard) -> str:
        given = where in self._shown or where in self._before or where[0] in self._suspect
        return (UNVOUCHED if given else "") + (self._text(where) or "")

    def _text(self, where: _Shard) -> str | None:
        """Return how a shard's table is believed to look; None where nothing is known."""
        for noted in (self._shown, self._before, self._shards):
            if where in noted:
                return noted[where]
        if where in self._altered:
            return None
        return self._vouched.get(where[0]) or self._suspect.get(where[0])

    def _known(self, where: _Shard) -> str | None:
        if any(where in noted for noted in (self._altered, self._shown, self._before)):
            return None
        return self._shards.get(where) or self._vouched.get(where[0])


def _has_labels(column: query.Field) -> bool:
    return column.column_type.lower().startswith(("enum", "set"))


def _column(column: query.Field) -> str:
    kind = re.sub(r"\(.*\)|\bzerofill\b", "", column.column_type.lower(), flags=re.DOTALL)
    return "|".join((column.name, " ".join(kind.split()), charset_of(column.charset) or ""))


def _checksum(parts: Iterable[str]) -> str:
    return f"{zlib.crc32(chr(0).join(parts).encode()):08x}"
