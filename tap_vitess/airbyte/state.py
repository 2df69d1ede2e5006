"""The GLOBAL state: the keyspaces' bookmarks and their streams. Pure.

    {"type": "GLOBAL", "global": {
        "shared_state": {"vitess:<keyspace>": <what run/state.py renders>},
        "stream_states": [{"stream_descriptor": {"name", "namespace"}, "stream_state": {...}}]}}

A stream is listed in `stream_states` from the moment its copy begins. When the user clears or
refreshes it, Airbyte removes it from there and leaves `shared_state` as it was. So a stream that is
not listed is forgotten, and copied again. Keyspaces that a sync does not touch keep their place.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from tap_vitess.airbyte.messages import Message, descriptor
from tap_vitess.errors import StateError
from tap_vitess.run.state import KeyspaceState, bookmark_key, parse

_PREFIX = bookmark_key("")
States = Mapping[str, KeyspaceState]  # by keyspace


def state_message(states: States, records: int) -> Message:
    """Make a STATE message; records: how many were written since the last one."""
    return {
        "type": "STATE",
        "state": {
            "type": "GLOBAL",
            "global": {
                "shared_state": {bookmark_key(ks): state.render() for ks, state in states.items()},
                "stream_states": [entry for state in states.values() for entry in _listed(state)],
            },
            "sourceStats": {"recordCount": float(records)},
        },
    }


def _listed(state: KeyspaceState) -> Iterator[Message]:
    for group in state.groups:
        for table, version in group.tables.items():
            yield {
                "stream_descriptor": descriptor(state.keyspace, table),
                "stream_state": {"version": version},
            }


def states_of(document: object) -> dict[str, KeyspaceState]:
    """Read the contents of a state file: a list of state messages, or one.

    Raises:
        StateError: it is broken, or not ours. Nothing is guessed.
    """
    found: dict[str, KeyspaceState] = {}
    for message in _messages(document):
        shared, listed = _global(message)
        for key, value in shared.items():
            keyspace = key.removeprefix(_PREFIX)
            if keyspace == key:
                raise StateError(f"the state's shared_state has {key!r}, which is not ours")
            found[keyspace] = _kept(parse(keyspace, value), listed)
    return found


def _messages(document: object) -> Iterable[Mapping[str, Any]]:
    messages = document if isinstance(document, list) else [document]
    for message in messages:
        if not isinstance(message, dict):
            raise StateError("the state is not a list of Airbyte's state messages")
        state = message.get("state", message)
        if not isinstance(state, dict):
            raise StateError("the state is not a list of Airbyte's state messages")
        if _is_empty(state):
            continue
        if state.get("type") != "GLOBAL":
            raise StateError(
                f"the state is of the type {state.get('type', 'LEGACY')}; this connector's is "
                "GLOBAL: clear the connection's data to copy again"
            )
        yield state


def _is_empty(state: Mapping[str, Any]) -> bool:
    """Return whether a state is empty, like the leftovers of full refreshes."""
    if state.get("type") == "STREAM":
        return not _member(state, "stream").get("stream_state")
    if state.get("type") == "GLOBAL":
        return not _member(state, "global").get("shared_state")
    return not {key for key in state if key != "type" and state[key]}


def _member(state: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    found = state.get(name) or {}
    if not isinstance(found, dict):
        raise StateError(f"the state is broken: its {name} is not an object")
    return found


def _global(state: Mapping[str, Any]) -> tuple[dict[str, Any], set[tuple[str, str]]]:
    try:
        shared, entries = state["global"]["shared_state"], state["global"]["stream_states"]
        names = [entry["stream_descriptor"] for entry in entries]
        listed = {(str(name.get("namespace")), str(name["name"])) for name in names}
        return dict(shared), listed
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise StateError(
            f"the state is broken ({type(error).__name__}: {error}): give that of an earlier sync, "
            "or clear the connection's data to copy again"
        ) from error


def _kept(state: KeyspaceState, listed: set[tuple[str, str]]) -> KeyspaceState:
    """Forget the tables that are not listed."""
    for group in state.groups:
        for table in group.tables:
            if (state.keyspace, table) not in listed:
                state = state.without(table)
    return state
