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
    "?5:.../4:.../0c/1c=77"    the same; what is proved is the second. Behind it the table's last
                               column, and which have been touched since, and as what. Where no
                               rows rest on those, the first is missing

Where shards differ, as in the middle of a rollout, the state has such a text for each.

Two things prove a layout. A snapshot's, when the stream has come to a stop position behind it
without a DDL. What a stream showed, when a stop position that was asked for afterwards is reached
without a DDL: a DDL that ran after the question is behind the stop position, and the stream shows
its columns all the same. What is not proved: if a DDL changes the columns behind rows that were
given out, or another layout shows without a DDL, the table is copied once more.

Not every DDL does. Columns added at the end, and a type that is given anew in its place, leave the
proof standing as a beginning (`_Since`): rows that show it are right in every column that no DDL
has touched since. Of those touched no more is known than that they were touched, so such rows are
in doubt; a second DDL that touches the same column makes it a misreading, unless the type it writes
is the one that was written before. For between two ALTERs a column may have been of another type or
charset, and is today what it was at first.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field

from tap_vitess._proto import query_pb2 as query
from tap_vitess.errors import HistoryLostError
from tap_vitess.protocol.alterations import ColumnChange, WrittenType
from tap_vitess.protocol.items import Alteration, Fields
from tap_vitess.values.charsets import charset_of

UNVOUCHED = "?"
_LAYOUT = r"\d+:[0-9a-f]{8}(?:,\d+:[0-9a-f]{8})*"
_TOUCHED = r"[0-9a-f]{8}=(?:\?|[0-9a-f]{8}(?::\d+:[0-9a-f]{8})?)"
_FORM = re.compile(
    rf"\?|\??{_LAYOUT}|(?:\?{_LAYOUT})?/{_LAYOUT}/(?:[0-9a-f]{{8}})?/(?:{_TOUCHED}(?:,{_TOUCHED})*)?"
)
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


@dataclass(slots=True)
class _Since:
    """What is known of a place's table beyond the layout that was proved; names are checksums.

    changes: the columns that DDLs have touched since, each as what. rows: the same when rows were
    last given out, and "?" for a column that came from nowhere.
    """

    changes: dict[str, str] = field(default_factory=dict)
    rows: dict[str, str] = field(default_factory=dict)

    @classmethod
    def parse(cls, text: str, *, given: bool) -> _Since:
        """Read what a state has; `given` tells whether rows rest on it."""
        pairs = (pair.partition("=") for pair in text.split(",") if pair)
        changes = {name: kind for name, _, kind in pairs}
        return cls(changes, dict(changes) if given else {})

    def __str__(self) -> str:
        """Write it for the state."""
        return ",".join(f"{name}={kind}" for name, kind in (self.rows | self.changes).items())

    def allows(self, change: ColumnChange) -> bool:
        """Tell whether rows that rest on what was written before are right if a type is new."""
        before = self.rows.get(_checksum([change.name]))
        return before is None or _kind(change.type, before) == before

    def note(self, changes: Iterable[ColumnChange]) -> None:
        """Take in what a DDL has touched."""
        self.changes |= {_checksum([change.name]): _kind(change.type) for change in changes}


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
        self._copied: dict[_Shard, Fields] = {}
        self._odd: set[_Shard] = set()  # has shown other columns than before, without a DDL
        self._since: dict[_Shard, _Since] = {}  # where a proof is a beginning
        self._last: dict[_Shard, str] = {}  # the table's last column, a checksum
        self._places: dict[str, set[_Shard]] = {}  # of each table, where any of these knows it
        self._told: dict[str, tuple[Iterable[str], Stored | None]] = {}  # and for which shards
        for table, texts in known.items():
            if not isinstance(texts, str):
                self._begin_by_shard(table, texts)

    def _begin_by_shard(self, table: str, texts: Mapping[str, str]) -> None:
        for shard, stored in texts.items():
            text, rests, proof = stored.partition("/")
            if rests:
                known, last, touched = proof.split("/")
                self._shards[self._place((table, shard))] = known
                self._last[table, shard] = last
                self._since[table, shard] = _Since.parse(touched, given=bool(text))
            if rests and not text:
                continue
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

    def check(self, fields: Fields, sent: Fields | None = None) -> None:
        """Compare a FIELD event of the shared stream, before its first rows are given out.

        Args:
            fields: the event.
            sent: the event as it came, where that is another: so older states know it.

        Raises:
            HistoryLostError: the events are read with a definition they were not written with.
        """
        where = fields.table, fields.shard
        known = self._known(where)
        since = self._since.get(where)
        columns = [_checksum([column.name.casefold()]) for column in fields.fields]
        self._last[where] = columns[-1]
        if not self._is_as_before(fields):
            self._odd.add(self._place(where))
        if known is None:
            self._show(fields)
            self._altered.discard(where)
        elif any(layout_of(told.fields, known) == known for told in (fields, sent or fields)):
            proved = int(known.partition(":")[0])
            if since or len(columns) > proved:
                since = self._since.setdefault(where, _Since())
                since.rows = dict.fromkeys(columns[proved:], UNVOUCHED) | since.changes
                self._show(fields)
        elif since and since.changes:
            del self._since[where]
            self._show(fields)
        else:
            error = HistoryLostError(
                f"{fields.table} on shard {fields.shard} was altered after the bookmark, and "
                "Vitess reads its older changes with today's columns; let on_lost_position be "
                "`resync` for a run to copy the table again"
            )
            error.table = fields.table
            raise error

    def _show(self, fields: Fields) -> None:
        """Note that rows are given out, some columns of which are not proved."""
        self._told.pop(fields.table, None)
        self._shown[self._place((fields.table, fields.shard))] = layout_of(fields.fields)

    def _is_as_before(self, fields: Fields) -> bool:
        """Tell whether a FIELD event does not contradict what another has shown before."""
        where = fields.table, fields.shard
        texts = (self._before.get(where), self._suspect.get(fields.table))
        copied = self._copied.get(where)
        return (copied is None or _agree(copied.fields, fields.fields)) and all(
            layout_of(fields.fields, text) == text for text in texts if text
        )

    def altered(self, alterations: Iterable[Alteration]) -> dict[str, str]:
        """Take in DDLs that change columns; say which tables' rows may have been misread."""
        misread: dict[str, str] = {}
        for alteration in alterations:
            table, where = alteration.table, (alteration.table, alteration.shard)
            self._told.pop(table, None)
            if self._leaves_right(where, alteration.changes):
                self._go_on(where, alteration.changes or ())
                continue
            if self._is_in_doubt(where):
                misread[table] = (
                    f"an ALTER on shard {where[1]} came behind changes that Vitess has perhaps "
                    "read with the columns of later"
                )
            self._suspect.pop(table, None)
            for noted in (self._shown, self._before, self._copied, self._shards, self._since):
                noted.pop(where, None)
            self._odd.discard(where)
            self._altered.add(self._place(where))
        return misread

    def _is_in_doubt(self, where: _Shard) -> bool:
        """Tell whether rows have been given out that nothing proves."""
        return where in self._shown or where in self._before or where[0] in self._suspect

    def _leaves_right(self, where: _Shard, changes: Iterable[ColumnChange] | None) -> bool:
        """Tell whether all rows that were given out are right, if they were before a DDL."""
        if changes is None:
            return False
        since = self._since.get(where, _Since())
        known = self._known(where) is not None
        if self._last_behind(where, changes) is None and (since.rows or not known):
            return False  # they lack it, and would be read with one column too many
        return all(change.added or (known and since.allows(change)) for change in changes)

    def _last_behind(self, where: _Shard, changes: Iterable[ColumnChange]) -> str | None:
        """Return a table's last column behind a DDL, None when one may be added elsewhere."""
        last = self._last.get(where, "")
        for change in changes:
            if change.added and change.after is not None and _checksum([change.after]) != last:
                return None
            last = _checksum([change.name]) if change.added else last
        return last

    def _go_on(self, where: _Shard, changes: Collection[ColumnChange]) -> None:
        """Take in a DDL that leaves the rows right; what it has changed is not proved as yet."""
        if not changes:
            return
        self._last[where] = self._last_behind(where, changes) or ""
        if self._known(where) is not None:
            self._since.setdefault(self._place(where), _Since()).note(changes)
        if text := self._before.pop(where, None):
            self._shown.setdefault(where, text)
        self._copied.pop(where, None)
        if where[0] in self._suspect:
            self._suspect[where[0]] = ""

    def copied(self, fields: Fields) -> None:
        """Note how a table looked in the snapshot of its copy, which is later than its position."""
        where = fields.table, fields.shard
        if where not in self._copied:
            self._copied[self._place(where)] = fields

    def copy_begins(self, table: str) -> None:
        """Forget a table: its rows come anew."""
        self._told.pop(table, None)
        self._vouched.pop(table, None)
        self._suspect.pop(table, None)
        for where in self._places.pop(table, ()):
            for noted in (self._shards, self._shown, self._before, self._copied, self._since):
                noted.pop(where, None)
            self._altered.discard(where)
            self._odd.discard(where)

    def reached(self, tables: frozenset[str]) -> dict[str, str]:
        """Take in that the stop position is reached; say which tables were misread."""
        self._told.clear()
        misread: dict[str, str] = {}
        for where in [where for where in self._odd if where[0] in tables]:
            misread[where[0]] = (
                f"it was altered after the stop position, and Vitess has read older changes on "
                f"shard {where[1]} with the columns of later"
            )
            self._odd.discard(where)
        proofs = {where: layout_of(fields.fields) for where, fields in self._copied.items()}
        for where, proved in (proofs | self._before).items():
            if where[0] in tables:
                self._shards[where] = proved
                for noted in (self._before, self._copied, self._shown, self._since):
                    noted.pop(where, None)
                self._altered.discard(where)
        for table in tables & self._suspect.keys():
            if text := self._suspect.pop(table):
                self._vouched[table] = text
        return misread

    def resharded(self, shards: Iterable[str]) -> None:
        """Take in that other shards have followed: what was known of some does not hold for all."""
        noted = (self._shards, self._shown, self._before, self._copied, self._since)
        places = {place for found in noted for place in found} | self._altered
        tables = {table for table, _ in places} | self._suspect.keys()
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
        if len(set(texts.values())) == 1 and "/" not in "".join(texts.values()):
            return next(iter(texts.values())) or None
        return {shard: text for shard, text in texts.items() if text}

    def _stored_of(self, where: _Shard) -> str:
        text = UNVOUCHED * self._is_in_doubt(where) + (self._text(where) or "")
        since, known = self._since.get(where), self._known(where)
        if since is None or known is None:
            return text
        given = text if text.startswith(UNVOUCHED) else ""
        return f"{given}/{known}/{self._last.get(where, '')}/{since}"

    def _text(self, where: _Shard) -> str | None:
        """Return how a shard's table is believed to look; None where nothing is known."""
        for noted in (self._shown, self._before):
            if where in noted:
                return noted[where]
        if where in self._altered:
            return None
        if where in self._shards:
            return self._shards[where]
        return self._vouched.get(where[0]) or self._suspect.get(where[0])

    def _known(self, where: _Shard) -> str | None:
        """Return the layout that is proved, as what rows must begin with."""
        if where in self._altered:
            return None
        if where not in self._since and (where in self._shown or where in self._before):
            return None
        return self._shards.get(where) or self._vouched.get(where[0])


def _kind(written: WrittenType, like: str | None = None) -> str:
    """Write a type; with as many labels as `like` has, where that is given."""
    words, count = _checksum(written.words), len(written.labels)
    if like is not None and ":" in like:
        count = int(like.split(":")[1])
    labels = written.labels[:count]
    return f"{words}:{len(labels)}:{_checksum(labels)}" if labels else words


def _agree(some: Iterable[query.Field], others: Iterable[query.Field]) -> bool:
    """Tell whether columns are the same, as far as both are there; so with labels."""
    pairs = list(zip(some, others, strict=False))
    labels = [
        [_LABEL.findall(c.column_type) for c in pair] for pair in pairs if _has_labels(pair[0])
    ]
    return all(_column(one) == _column(other) for one, other in pairs) and all(
        one[: len(other)] == other[: len(one)] for one, other in labels
    )


def _has_labels(column: query.Field) -> bool:
    return column.column_type.lower().startswith(("enum", "set"))


def _column(column: query.Field) -> str:
    kind = re.sub(r"\(.*\)|\bzerofill\b", "", column.column_type.lower(), flags=re.DOTALL)
    return "|".join((column.name, " ".join(kind.split()), charset_of(column.charset) or ""))


def _checksum(parts: Iterable[str]) -> str:
    return f"{zlib.crc32(chr(0).join(parts).encode()):08x}"
