"""Joins several jobs' states into one, for a job that has all their shards. Pure.

A position is one GTID set for each shard, so the positions of jobs without a common shard are parts
of one position: nothing is copied again, and nothing is lost. A table whose copy is unfinished in
one of the states is copied again: the copies of two jobs have two versions, and the end of one
would tell a target to remove the rows of the other. A table that one state lacks has no position on
that job's shards: it is forgotten, and copied as a new one. So is a table that no job reads any
more: it has kept all of its shards in each state.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from tap_vitess.errors import ConfigError, StateError
from tap_vitess.protocol.gtid import GtidSet
from tap_vitess.protocol.keyranges import KeyRanges
from tap_vitess.protocol.vgtid import Vgtid
from tap_vitess.run.layouts import Stored
from tap_vitess.run.state import Group, KeyspaceState, bookmarks_of, keyspaces_of, parse


def join_states(*states: str) -> str:
    """Join the states of several jobs that have different shards of the same keyspaces.

    Args:
        states: each as a job of the tap, the library or a load has stored it.

    Raises:
        StateError: one is not a state, or two know the same shard, or two ask for different
            columns or rows of a table.
    """
    documents = [bookmarks_of(_document(state)) for state in states]
    joined: dict[str, Any] = {}
    for key, keyspace in keyspaces_of(dict.fromkeys(k for d in documents for k in d)).items():
        found = [parse(keyspace, document[key]) for document in documents if key in document]
        if len(found) < len(documents):
            raise StateError(f"not every state given is one of the keyspace {keyspace}")
        joined[key] = join(found).render()
    return json.dumps({"bookmarks": joined}, separators=(",", ":"))


def _document(state: str) -> object:
    try:
        return json.loads(state)
    except (ValueError, RecursionError):
        raise StateError("the state given is not JSON") from None


def join(states: Sequence[KeyspaceState]) -> KeyspaceState:
    """Join states of one keyspace; raises the errors of `join_states`."""
    keyspace = states[0].keyspace
    every = [{table for group in state.groups for table in group.tables} for state in states]
    common = sorted(set.intersection(*every))
    states = sorted(states, key=lambda state: state.seq)
    why = {table: _overlap(table, states) for table in common}
    tables = [table for table in common if why[table] is None]
    if common and not tables:
        raise StateError(
            f"{keyspace}.{common[0]}: the states are not those of jobs with different shards: "
            f"{why[common[0]]}"
        )
    _check(keyspace, tables, states)
    return KeyspaceState(
        keyspace,
        tuple(
            Group(_position(table, states), {table: max(s.version(table) for s in states)})
            for table in tables
        ),
        {table: {} for table in tables if any(table in state.copies for state in states)},
        max(state.seq for state in states),
        {table: layout for table in tables if (layout := _layout(table, states))},
        {
            table: {n: p for state in states for n, p in state.altered.get(table, {}).items()}
            for table in tables
            if any(table in state.altered for state in states)
        },
        {table: states[0].rules[table] for table in tables if table in states[0].rules},
    ).merged()


def tables_of(state: str) -> set[str]:
    """Return the tables that a state follows, as `keyspace.table`; raises StateError."""
    bookmarks = bookmarks_of(_document(state))
    found = (parse(keyspace, bookmarks[key]) for key, keyspace in keyspaces_of(bookmarks).items())
    return {f"{one.keyspace}.{table}" for one in found for g in one.groups for table in g.tables}


def _overlap(table: str, states: Sequence[KeyspaceState]) -> str | None:
    """Return how the states' shards of a table overlap; None if they do not."""
    try:
        KeyRanges.of([shard for state in states for shard in _shards(table, state)])
    except ConfigError as error:
        return str(error)
    return None


def _check(keyspace: str, tables: Sequence[str], states: Sequence[KeyspaceState]) -> None:
    for table in tables:
        if len({state.rules.get(table) for state in states}) > 1:
            raise StateError(
                f"{keyspace}.{table}: the jobs ask for different columns or rows of the table"
            )


def _shards(table: str, state: KeyspaceState) -> Mapping[str, GtidSet]:
    group = state.group_of(table)
    return group.position.shards if group else {}


def _position(table: str, states: Sequence[KeyspaceState]) -> Vgtid:
    shards = {s: gtids for state in states for s, gtids in _shards(table, state).items()}
    return Vgtid(states[0].keyspace, shards)


def _layout(table: str, states: Sequence[KeyspaceState]) -> Stored | None:
    """Return a table's layout: one text if all states have the same, else one for each shard."""
    told = [state.layouts.get(table) for state in states]
    if all(isinstance(one, str) and one == told[0] for one in told):
        return told[0]
    by_shard: dict[str, str] = {}
    for state, one in zip(states, told, strict=True):
        each = dict.fromkeys(_shards(table, state), one) if isinstance(one, str) else one or {}
        by_shard |= each
    return by_shard or None
