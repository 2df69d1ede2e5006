"""A state to start from without a copy."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping

from tap_vitess.consumer.changes import DEFAULT_RETRY, by_keyspace, state_text
from tap_vitess.consumer.connection import Vitess
from tap_vitess.errors import ConfigError
from tap_vitess.state import Group, KeyspaceState
from tap_vitess.survey import Survey
from tap_vitess.vstream.reader import RetryOptions, retrying
from tap_vitess.vstream.vgtid import Vgtid


def state_at(
    vitess: Vitess,
    tables: Iterable[str],
    positions: Mapping[str, Vgtid] | None = None,
    *,
    retry: RetryOptions = DEFAULT_RETRY,
) -> str:
    """Return a state as if tables had been copied: only what changes after it will come.

    Args:
        vitess: where they are.
        tables: as `keyspace.table`.
        positions: where to start, by keyspace; where a keyspace is now, if it is not among them.
        retry: how long to ask.

    Raises:
        VitessError: VTGate does not tell where a keyspace is.
    """
    config, given = vitess.config(), dict(positions or {})
    keyspaces = by_keyspace(tables)
    if strange := [ks for ks, position in given.items() if position.keyspace != ks]:
        raise ConfigError(f"positions: that of {strange[0]} is of another keyspace")
    version = time.time_ns() // 1_000_000
    states: dict[str, KeyspaceState] = {}
    for keyspace, names in keyspaces.items():
        position = given.get(keyspace)
        if position is None:
            what = f"the position of {keyspace}"
            position = retrying(what, Survey(config, keyspace).position, retry, lambda: False)
        states[keyspace] = KeyspaceState(
            keyspace, (Group(position, dict.fromkeys(names, version)),)
        )
    return state_text({}, states)
