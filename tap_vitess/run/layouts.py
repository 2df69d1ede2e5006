"""When an ALTER means a new copy: how each table looked at its position. Pure.

Vitess reads an old row event with the table's current definition (unless vttablet tracks schema
versions), and reports nothing as long as the types match by position. After a rename, a reorder,
INT to INT UNSIGNED or new ENUM labels, old rows come under wrong names or with wrong values (facts,
7.3; seen on v22). So the state remembers a table's layout at its position. If a FIELD event does
not begin with that layout, and no DDL came in between, the table's stream ends before one wrong
value is written. Columns added at the end and other sizes of the same type do no harm.

    "4:9f3a0c21,2:77aa01b3"    4 columns, a checksum of their names, types and charsets; then for
                               each ENUM or SET its number of labels and their checksum
    "?4:9f3a0c21,2:77aa01b3"   rows were delivered with this layout, which is not proved
    "?"                        likewise, and the layout is unknown
    "?5:.../4:.../0c/1c=77"    likewise; the second layout is the proved one. Then the table's last
                               column, and the columns touched since, with their types. If no
                               rows rely on those, the first layout is missing

If shards differ, as in the middle of a rollout, the state has such a text for each.

Reaching a stop position without a DDL proves a layout: that of a copy's snapshot, or the one that
the stream showed before the stop position was asked for (what it shows later may include the
columns of a later DDL). If a DDL changes columns after unproved rows, or if another layout appears
without a DDL, the table is copied again.

After columns added at the end, or a type stated again in its place, the proof still holds as a
beginning (`_Since`): rows that begin with it are right in every column that no DDL has touched
since. If a second DDL touches the same column, the rows in between may be misread, unless it states
the same type as before. The reason: between two ALTERs a column may have had another type or
charset, and have its first one again today.
"""

from __future__ import annotations

import re
import zlib
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping
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

Stored = str | Mapping[str, str]  # of a table, or by shard


def layout_of(fields: Iterable[query.Field], like: str | None = None) -> str:
    """Return the layout of columns; with `like`, of only as many columns and labels as it has."""
    counts = [int(part.partition(":")[0]) for part in like.split(",")] if like else []
    columns = list(fields)[: counts[0]] if like else list(fields)
    labels = [_LABEL.findall(c.column_type) for c in columns if _has_labels(c)]
    if like:
        labels = [own[:count] for own, count in zip(labels, counts[1:], strict=False)]
    parts = [map(_column, columns), *labels]
    return ",".join(f"{len(part)}:{_checksum(part)}" for part in map(list, parts))


def is_layout(value: object) -> bool:
    """Return whether a state's value is a layout, or one for each shard."""
    if isinstance(value, dict):
        return all(is_layout(text) for text in value.values())
    return isinstance(value, str) and _FORM.fullmatch(value) is not None


@dataclass(slots=True)
class _Since:
    """What is known about a shard's table beyond the proved layout; names are checksums.

    changes: the columns that DDLs have touched since, with their types. rows: the same as of the
    last delivered rows, with "?" for a column that no DDL explains.
    """

    changes: dict[str, str] = field(default_factory=dict)
    rows: dict[str, str] = field(default_factory=dict)

    @classmethod
    def parse(cls, text: str, *, given: bool) -> _Since:
        """Read it from a state; given: whether rows rely on it."""
        pairs = (pair.partition("=") for pair in text.split(",") if pair)
        changes = {name: kind for name, _, kind in pairs}
        return cls(changes, dict(changes) if given else {})

    def __str__(self) -> str:
        """Write it for the state."""
        return ",".join(f"{name}={kind}" for name, kind in (self.rows | self.changes).items())

    def allows(self, change: ColumnChange) -> bool:
        """Return whether the delivered rows stay right after a change of a column's type."""
        before = self.rows.get(_checksum([change.name]))
        return before is None or _kind(change.type, before) == before

    def later(self) -> _Since | None:
        """Return what DDLs have touched after the last rows, which prove nothing about it."""
        changes = {name: kind for name, kind in self.changes.items() if self.rows.get(name) != kind}
        return _Since(changes) if changes else None

    def note(self, changes: Iterable[ColumnChange]) -> None:
        """Note the columns that a DDL touches."""
        self.changes |= {_checksum([change.name]): _kind(change.type) for change in changes}


@dataclass(slots=True)
class _Place:
    """What is known about a table on one shard. Layouts are texts; "" is an unknown one.

    proved: the layout that rows must begin with, if it is not the table's. shown: the layout of
    rows delivered since. asked: `shown` when the stop position was asked for. copied: the columns
    in the copy's snapshot. since: what DDLs have changed without ending the proof. last: the
    checksum of the last column. odd: whether other columns have appeared without a DDL.

    What each event does to these; `-` is None, and blank is unchanged:

        event                              proved            shown   asked  copied  since
        rows, and nothing is proved                          layout
        rows as proved, with more columns                    layout                 rows
        rows of a column touched since                       layout                 -
        a stop position is asked for                                 shown
        it is reached (asked or copied)    asked or copied   -       -      -       later
        a DDL that leaves rows right                                 -      -       changes
        any other DDL                      ""                -       -      -       -
        a reshard, where shards differed   ""                                       -
    """

    proved: str | None = None
    shown: str | None = None
    asked: str | None = None
    copied: Fields | None = None
    since: _Since | None = None
    last: str = ""
    odd: bool = False

    @classmethod
    def parse(cls, stored: str) -> _Place:
        """Read a shard's text of the state."""
        text, rests, proof = stored.partition("/")
        place = cls(proved=text or None)
        if text.startswith(UNVOUCHED):
            place = cls(shown=text[1:], asked=text[1:])
        if rests:
            place.proved, place.last, touched = proof.split("/")
            place.since = _Since.parse(touched, given=bool(text))
        return place

    @property
    def differs(self) -> bool:
        """Whether more is known about this shard than about its table."""
        noted = (self.proved, self.shown, self.copied, self.since)
        return any(value is not None for value in noted)

    def reached(self) -> None:
        """Note that the stop position is reached, which proves the layout shown before."""
        proved = self.asked
        if proved is None and self.copied is not None:
            proved = layout_of(self.copied.fields)
        if proved is not None:
            self.proved = proved
            self.shown = self.asked = self.copied = None
            self.since = self.since and self.since.later()

    def contradicts(self, fields: Fields) -> bool:
        """Return whether a FIELD event shows other columns than an earlier one."""
        return not (
            (self.copied is None or _agree(self.copied.fields, fields.fields))
            and _begins(fields, self.asked)
        )

    def last_after(self, changes: Iterable[ColumnChange]) -> str | None:
        """Return the last column after a DDL; None if a column may be added elsewhere."""
        last = self.last
        for change in changes:
            if change.added and change.after is not None and _checksum([change.after]) != last:
                return None
            last = _checksum([change.name]) if change.added else last
        return last


@dataclass(slots=True)
class _Known:
    """What is known about a table.

    text: its layout on shards without one of their own, "" if unknown. proved: whether that is
    proved; else an earlier run has shown it. told: the last result of `stored`, and its shards.
    """

    text: str | None = None
    proved: bool = True
    places: defaultdict[str, _Place] = field(default_factory=lambda: defaultdict(_Place))
    told: tuple[Iterable[str], Stored | None] | None = None

    @classmethod
    def parse(cls, stored: Stored) -> _Known:
        """Read it from the state; a single text holds for every shard."""
        if isinstance(stored, str):
            return cls(stored.removeprefix(UNVOUCHED), not stored.startswith(UNVOUCHED))
        known = cls()
        known.places.update({shard: _Place.parse(text) for shard, text in stored.items()})
        return known

    def proof(self, place: _Place) -> str | None:
        """Return the proved layout, with which rows must begin."""
        if place.since is None and place.shown is not None:
            return None
        proved = self.text if self.proved else None
        return (proved if place.proved is None else place.proved) or None

    def is_in_doubt(self, place: _Place) -> bool:
        """Return whether unproved rows have been delivered."""
        return place.shown is not None or not self.proved

    def stored(self, shards: Iterable[str]) -> Stored | None:
        """Return one text for the table, or one for each shard if they differ.

        The result is kept until `told` is reset, or `shards` is another object: each STATE asks for
        all tables, and such objects are never changed in place.
        """
        if self.told is None or self.told[0] is not shards:
            texts = {shard: self._text(self.places.get(shard, _Place())) for shard in shards}
            alike = len(set(texts.values())) == 1 and "/" not in "".join(texts.values())
            by_shard = {shard: text for shard, text in texts.items() if text}
            self.told = shards, next(iter(texts.values())) if alike else by_shard
        return self.told[1]

    def _text(self, place: _Place) -> str:
        layouts = (place.shown, place.proved, self.text)
        layout = next((layout for layout in layouts if layout is not None), "")
        text = UNVOUCHED * self.is_in_doubt(place) + layout
        proof = self.proof(place)
        if place.since is None or proof is None:
            return text
        given = text if text.startswith(UNVOUCHED) else ""
        return f"{given}/{proof}/{place.last}/{place.since}"

    def leaves_right(self, place: _Place, changes: Collection[ColumnChange]) -> bool:
        """Return whether the delivered rows stay right after a DDL."""
        since, proved = place.since or _Since(), self.proof(place) is not None
        if place.last_after(changes) is None and (since.rows or not proved):
            return False  # the rows lack it, and would be read with one column too many
        return all(change.added or (proved and since.allows(change)) for change in changes)

    def keeps(self, place: _Place, changes: Collection[ColumnChange]) -> None:
        """Note a DDL that leaves the rows right; its changes are not proved yet."""
        place.last = place.last_after(changes) or ""
        if self.proof(place) is not None:
            place.since = place.since or _Since()
            place.since.note(changes)
        place.asked = place.copied = None
        if not self.proved:
            self.text = ""


class Layouts:
    """The layouts of a keyspace's tables at their positions, shard by shard."""

    def __init__(self, known: Mapping[str, Stored]) -> None:
        """Start from the layouts in the state."""
        self._tables = defaultdict[str, _Known](_Known)
        self._tables.update({table: _Known.parse(stored) for table, stored in known.items()})

    def _all(self) -> Iterator[_Known]:
        """Yield what is known about each table, to be changed."""
        for known in self._tables.values():
            known.told = None
            yield known

    def asked(self) -> None:
        """Note that a stop position was asked for: it can prove what was shown until now."""
        for known in self._all():
            for place in known.places.values():
                place.asked = place.shown

    def check(self, fields: Fields, sent: Fields | None = None) -> None:
        """Check a FIELD event of the shared stream, before its first rows are delivered.

        Args:
            sent: the event as it came, if that differs: older states have its layout.

        Raises:
            HistoryLostError: Vitess reads rows with another definition than they were written with.
        """
        known = self._tables[fields.table]
        place = known.places[fields.shard]
        proof = known.proof(place)
        columns = [_checksum([column.name.casefold()]) for column in fields.fields]
        place.last, known.told = columns[-1], None
        suspect = None if known.proved else known.text
        place.odd |= place.contradicts(fields) or not _begins(fields, suspect)
        if proof is not None and any(_begins(told, proof) for told in (fields, sent or fields)):
            proved = int(proof.partition(":")[0])
            if place.since is None and len(columns) <= proved:
                return
            place.since = place.since or _Since()
            place.since.rows = dict.fromkeys(columns[proved:], UNVOUCHED) | place.since.changes
        elif proof is not None and not (place.since and place.since.changes):
            raise HistoryLostError(
                f"{fields.table} on shard {fields.shard} was altered after the bookmark, and "
                "Vitess reads its older changes with today's columns; set on_lost_position to "
                "`resync` for a run to copy the table again",
                table=fields.table,
            )
        else:
            place.since = None
        place.shown = layout_of(fields.fields)

    def altered(self, alterations: Iterable[Alteration]) -> dict[str, str]:
        """Note DDLs that change columns; return which tables' rows may be misread, and why."""
        misread: dict[str, str] = {}
        for alteration in alterations:
            known, changes = self._tables[alteration.table], alteration.changes
            place = known.places[alteration.shard]
            known.told = None
            if changes is not None and known.leaves_right(place, changes):
                if changes:
                    known.keeps(place, changes)
                continue
            if known.is_in_doubt(place):
                misread[alteration.table] = (
                    f"an ALTER on shard {alteration.shard} came after changes that Vitess has "
                    "perhaps read with the columns of a later table definition"
                )
            if not known.proved:
                known.text, known.proved = None, True
            known.places[alteration.shard] = _Place(proved="", last=place.last)
        return misread

    def copied(self, fields: Fields) -> None:
        """Note a table's columns in the snapshot of its copy, which is later than its position."""
        place = self._tables[fields.table].places[fields.shard]
        place.copied = place.copied or fields

    def copy_begins(self, table: str) -> None:
        """Forget a table: its rows come again."""
        self._tables.pop(table, None)

    def reached(self, tables: frozenset[str]) -> dict[str, str]:
        """Note that the stop position is reached; return which tables were misread, and why."""
        misread: dict[str, str] = {}
        for table in tables & self._tables.keys():
            known = self._tables[table]
            known.told = None
            for shard, place in known.places.items():
                if place.odd:
                    misread[table] = (
                        f"it was altered after the stop position, and Vitess has read older "
                        f"changes on shard {shard} with the columns of a later table "
                        "definition"
                    )
                    place.odd = False
                place.reached()
            known.text, known.proved = known.text or None, True
        return misread

    def resharded(self, shards: Iterable[str]) -> None:
        """Note a reshard: what was known about some shards does not hold for the new ones."""
        for known in self._all():
            differ = not known.proved or any(place.differs for place in known.places.values())
            if known.text is not None and differ:
                for place in [known.places[shard] for shard in shards]:
                    place.proved, place.since = "", None

    def stored(self, tables: Mapping[str, Iterable[str]]) -> dict[str, Stored]:
        """Return each table's layout for the state; `tables` maps each to its shards."""
        known = ((table, self._tables.get(table), shards) for table, shards in tables.items())
        found = {table: one.stored(shards) for table, one, shards in known if one is not None}
        return {table: text for table, text in found.items() if text}


def _begins(fields: Fields, layout: str | None) -> bool:
    """Return whether columns begin with a layout; all do if it is unknown."""
    return not layout or layout_of(fields.fields, layout) == layout


def _kind(written: WrittenType, like: str | None = None) -> str:
    """Return a type as text; with `like`, with only as many labels as it has."""
    words, count = _checksum(written.words), len(written.labels)
    if like is not None and ":" in like:
        count = int(like.split(":")[1])
    labels = written.labels[:count]
    return f"{words}:{len(labels)}:{_checksum(labels)}" if labels else words


def _agree(some: Iterable[query.Field], others: Iterable[query.Field]) -> bool:
    """Return whether the columns that both have are the same, and the labels that both have."""
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
