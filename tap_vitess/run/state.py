"""The state document of a keyspace: parse, validate, change, render. Pure.

    bookmarks["vitess:<keyspace>"] = {
        "format": 1,
        "groups": [{"vgtid": "<VGTID as JSON text>", "tables": [...], "versions": [...]}],
        "copies": "<JSON text: table -> shard -> lastpk in base64, null, or true when copied>",
        "seq": 1764000000000000,
        "layouts": "<JSON text: table -> its layout at its position, see run/layouts.py>",
        "altered": "<JSON text: table -> column -> its property, if that is not the catalog's>",
            "rules": "<JSON text: table -> its rule, if it was read only in part; see run/rules.py>"
    }

A group is a position S and the tables that the shared stream follows from it; normally there is one
group. A table is in a group from the moment its copy begins; while it is in `copies` too, that copy
is unfinished. VGTIDs and copies are texts, and groups and tables are lists, because Meltano merges
nested dicts, which would bring back old shards. `versions` goes with `tables`, entry by entry: the
version of each table's copy, carried by each of its RECORDs. `seq` is the highest `_sdc_vitess_seq`
used, so that it rises across runs even if a clock does not. `altered` keeps the SCHEMA of a table
that was altered since it was discovered: if it got the catalog's again, target-duckdb would replace
the column by an empty one of the old type.
"""

from __future__ import annotations

import base64
import binascii
import functools
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final, Literal

from google.protobuf.message import DecodeError

from tap_vitess._proto import query_pb2 as query
from tap_vitess.errors import ProtocolError, StateError
from tap_vitess.protocol.vgtid import Vgtid
from tap_vitess.records.schema import is_property
from tap_vitess.run.layouts import Stored, is_layout

FORMAT = 1
_LIMIT = 2**62  # of versions and seq: beyond any clock, and sums of runs still fit a BIGINT
_BROKEN = (KeyError, TypeError, ValueError, AttributeError, RecursionError)
COPIED: Final = True
UNKNOWN = "?"  # the rule of a table in an old state: every column and row
_text = functools.partial(json.dumps, separators=(",", ":"))
NOTHING_COPIED = "*"  # the rule of a table that is not copied, because only its changes are wanted
ShardProgress = query.QueryResult | Literal[True] | None  # lastpk, COPIED, or not begun


def bookmark_key(keyspace: str) -> str:
    """Return the keyspace's key under `bookmarks`; no stream has such a name."""
    return f"vitess:{keyspace}"


def keyspaces_of(bookmarks: Iterable[str]) -> dict[str, str]:
    """Return the keyspace of each bookmark that belongs to one."""
    begin = bookmark_key("")
    return {name: name.removeprefix(begin) for name in bookmarks if name.startswith(begin)}


@dataclass(frozen=True, slots=True)
class Group:
    """A position and the tables followed from it; `tables` maps each to its copy's version."""

    position: Vgtid
    tables: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class KeyspaceState:
    """Where a keyspace's tables are. Methods return a changed state."""

    keyspace: str
    groups: tuple[Group, ...] = ()
    copies: Mapping[str, Mapping[str, ShardProgress]] = field(default_factory=dict)
    seq: int = 0
    layouts: Mapping[str, Stored] = field(default_factory=dict)
    altered: Mapping[str, Mapping[str, dict[str, Any]]] = field(default_factory=dict)
    rules: Mapping[str, str] = field(default_factory=dict)

    def group_of(self, table: str) -> Group | None:
        """Return the group that follows a table."""
        return next((group for group in self.groups if table in group.tables), None)

    def version(self, table: str) -> int:
        """Return the version of a table's copy; 0 if there is none."""
        group = self.group_of(table)
        return group.tables[table] if group else 0

    def is_copied(self, table: str) -> bool:
        """Return whether a table's copy is finished, its ACTIVATE_VERSION sent."""
        return self.group_of(table) is not None and table not in self.copies

    def split(self, tables: Iterable[str]) -> KeyspaceState:
        """Split each group into the named tables and the others; all keep their position."""
        chosen = frozenset(tables)
        groups = tuple(
            Group(group.position, part)
            for group in self.groups
            for inside in (True, False)
            if (part := {t: v for t, v in group.tables.items() if (t in chosen) is inside})
        )
        return replace(self, groups=groups)

    def position_of(self, tables: frozenset[str]) -> Vgtid:
        """Return the position of the group that follows exactly these tables."""
        return next(g.position for g in self.groups if g.tables.keys() == tables)

    def moved(self, tables: frozenset[str], position: Vgtid) -> KeyspaceState:
        """Move the group that follows exactly these tables to a position."""
        changed = tuple(
            Group(position, g.tables) if g.tables.keys() == tables else g for g in self.groups
        )
        return replace(self, groups=changed)

    def joined(
        self,
        table: str,
        version: int,
        position: Vgtid,
        shards: Iterable[str],
        among: frozenset[str],
    ) -> KeyspaceState:
        """Begin a copy: the table joins the group at `position`, with nothing copied yet.

        It only joins a group whose tables are all in `among`: a group with tables that are not in
        this run does not move, and neither would the table.
        """
        state = self.without(table)
        groups = list(state.groups)
        for i, group in enumerate(groups):
            if group.position == position and group.tables.keys() <= among:
                groups[i] = Group(position, {**group.tables, table: version})
                break
        else:
            groups.append(Group(position, {table: version}))
        copies = {**state.copies, table: dict.fromkeys(shards)}
        return replace(state, groups=tuple(groups), copies=copies)

    def progressed(self, table: str, shard: str, progress: ShardProgress) -> KeyspaceState:
        """Note the progress of a shard's copy."""
        copies = {**self.copies, table: {**self.copies[table], shard: progress}}
        return replace(self, copies=copies)

    def narrowed(self, tables: frozenset[str], meets: Callable[[str], bool]) -> KeyspaceState:
        """Forget shards that `meets` rejects, in the group of exactly these tables.

        A group that would lose all its shards stays as it is.
        """
        position = self.position_of(tables)
        left = {s: gtids for s, gtids in position.shards.items() if meets(s)}
        if not left or left.keys() == position.shards.keys():
            return self
        copies = dict(self.copies)
        for table in tables & copies.keys():
            copies[table] = {s: p for s, p in copies[table].items() if meets(s)}
        moved = self.moved(tables, Vgtid(self.keyspace, left))
        return replace(moved, copies=copies)

    def recopied(self, table: str) -> KeyspaceState:
        """Request a new copy of a followed table; what was copied before does not count."""
        if self.group_of(table) is None:
            return self
        return replace(self, copies={**self.copies, table: {}})

    def restarted(self, tables: frozenset[str], position: Vgtid) -> KeyspaceState:
        """Request new copies of tables, and follow them from a position of their own."""
        state = self.split(tables)
        groups = tuple(
            Group(position, g.tables) if g.tables.keys() <= tables else g for g in state.groups
        )
        copies: dict[str, Mapping[str, ShardProgress]] = {t: {} for t in tables}
        return replace(state, groups=groups, copies={**state.copies, **copies})

    def copied(self, table: str) -> KeyspaceState:
        """Finish a copy: its ACTIVATE_VERSION has been sent."""
        return replace(self, copies={t: p for t, p in self.copies.items() if t != table})

    def without(self, table: str) -> KeyspaceState:
        """Forget a table."""
        parted = self.split({table})
        groups = tuple(group for group in parted.groups if table not in group.tables)
        return replace(self.copied(table), groups=groups)

    def merged(self) -> KeyspaceState:
        """Merge the groups with the same position."""
        tables: dict[str, dict[str, int]] = {}
        positions: dict[str, Vgtid] = {}
        for group in self.groups:
            text = group.position.to_json()
            positions[text] = group.position
            tables.setdefault(text, {}).update(group.tables)
        return replace(self, groups=tuple(Group(positions[text], t) for text, t in tables.items()))

    def render(self) -> dict[str, Any]:
        """Return the JSON value that `parse` reads."""
        copies = {
            table: {shard: _progress_text(p) for shard, p in shards.items()}
            for table, shards in self.copies.items()
        }
        return {
            "format": FORMAT,
            "groups": [
                {
                    "vgtid": group.position.to_json(),
                    "tables": list(group.tables),
                    "versions": list(group.tables.values()),
                }
                for group in self.merged().groups
            ],
            "copies": _text(copies),
            "seq": self.seq,
            "layouts": _text(dict(self.layouts), sort_keys=True),
            "altered": _text(self.altered, sort_keys=True),
            "rules": _text(dict(self.rules), sort_keys=True),
        }


def parse(keyspace: str, value: object) -> KeyspaceState:
    """Read a keyspace's bookmark; None is the state of a first run.

    Raises:
        StateError: the value is broken or of another format.
    """
    if value is None:
        return KeyspaceState(keyspace)
    where = f"bookmark {bookmark_key(keyspace)}"
    if not isinstance(value, dict):
        raise StateError(f"{where}: an object is expected, not {type(value).__name__}")
    if value.get("format") != FORMAT:
        raise StateError(
            f"{where}: format {value.get('format')!r} is not known to this version of tap-vitess, "
            f"which reads format {FORMAT}; upgrade it, or run without state to copy again"
        )
    try:
        groups = tuple(_group(keyspace, group) for group in value["groups"])
        copies = {
            table: {shard: _progress(p) for shard, p in shards.items()}
            for table, shards in json.loads(value["copies"]).items()
        }
        # Old states have none of these.
        layouts, altered = (json.loads(value.get(name, "{}")) for name in ("layouts", "altered"))
        rules = _rules(value, groups)
        seq = _integer(value["seq"])
        state = KeyspaceState(keyspace, groups, copies, seq, layouts, altered, rules)
        _check(state)
    except (*_BROKEN, ProtocolError, DecodeError) as error:
        raise StateError(
            f"{where} is broken ({type(error).__name__}: {error}); give the state of an "
            "earlier run, or run without state to copy again"
        ) from error
    return state


def bookmarks_of(document: object) -> dict[str, Any]:
    """Return the bookmarks of a whole Singer state; those of other taps may be among them.

    Raises:
        StateError: it is not a Singer state. The SDK takes some such documents for a first run's.
    """
    if isinstance(document, dict) and "value" in document and "bookmarks" not in document:
        raise StateError("the state given is a STATE message: give what stands under its value")
    if isinstance(document, dict) and "singer_state" in document:
        raise StateError("the state given is Meltano's: give what stands under its singer_state")
    bookmarks = document.get("bookmarks", {}) if isinstance(document, dict) else None
    if not isinstance(bookmarks, dict) or not all(isinstance(b, dict) for b in bookmarks.values()):
        raise StateError(
            "the state given is not a Singer state: an object with an object of bookmarks is "
            "expected"
        )
    return bookmarks


def _group(keyspace: str, value: Mapping[str, Any]) -> Group:
    tables, versions = value["tables"], value["versions"]
    if not isinstance(tables, list) or not all(isinstance(t, str) for t in tables):
        raise ValueError("tables is not a list of names")
    pairs = zip(tables, map(_integer, versions), strict=True)
    return Group(Vgtid.from_json(keyspace, value["vgtid"]), dict(pairs))


def _rules(value: Mapping[str, Any], groups: Iterable[Group]) -> dict[str, str]:
    if "rules" not in value:
        return dict.fromkeys((table for group in groups for table in group.tables), UNKNOWN)
    rules = json.loads(value["rules"])
    if not isinstance(rules, dict) or not all(isinstance(rule, str) for rule in rules.values()):
        raise ValueError("a rule is invalid")
    return rules


def _check(state: KeyspaceState) -> None:
    names = [table for group in state.groups for table in group.tables]
    if len(names) != len(set(names)):
        raise ValueError("a table stands in two groups")
    if not state.copies.keys() <= set(names):
        raise ValueError("a copy's table stands in no group")
    if not isinstance(state.layouts, dict) or not all(map(is_layout, state.layouts.values())):
        raise ValueError("a layout is invalid")
    properties = [prop for columns in state.altered.values() for prop in columns.values()]
    if not all(map(is_property, properties)):
        raise ValueError("an altered property is invalid")


def _integer(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < _LIMIT:
        raise ValueError("a version or seq is not a natural number below 2^62")
    return value


def _progress(value: object) -> ShardProgress:
    if value is None or value is True:
        return value
    if not isinstance(value, str):
        raise TypeError("a shard's progress is neither lastpk, null nor true")
    try:
        lastpk = query.QueryResult.FromString(base64.b64decode(value, validate=True))
    except binascii.Error as error:
        raise ValueError("a lastpk is not base64") from error
    if len(lastpk.rows) != 1 or not lastpk.fields:
        raise ValueError("a lastpk has no fields or not one row")
    return lastpk


def _progress_text(progress: ShardProgress) -> str | Literal[True] | None:
    if progress is None or progress is True:
        return progress
    return base64.b64encode(progress.SerializeToString(deterministic=True)).decode()
