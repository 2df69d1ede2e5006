"""Values that a run of the fuzzers' three tables can use, for each setting.

With them alone a run has every row, so that what lies behind the checks of settings is tried, too.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from hypothesis import strategies as st

from support.fuzzing import odd
from tap_vitess.config import SETTINGS

# With these it reaches no sandbox, or needs more than one of them.
_ELSEWHERE = {"host", "grpc_port", "mysql_port", "tls", "user", "password"}
_IN_PAIRS = {"mirror_keyspace", "mirror_name", "tls_ca_file", "tls_cert_file", "tls_key_file"}
RUNNING = SETTINGS.keys() - _ELSEWHERE - _IN_PAIRS - {"tls_server_name"}

_SECONDS = st.floats(0, 10_000) | st.integers(0, 10_000)
_LONG = st.floats(60, 10_000) | st.integers(60, 10_000)
_USABLE: Mapping[str, st.SearchStrategy[Any]] = {
    "tables": st.sampled_from([["shop.*"], ["*.alpha"], ["shop.[ab]*", "shop.gamm?"], ["*"]]),
    "exclude_tables": st.sampled_from([[], ["shop.gamm?"], ["no.*"], ["*.b*", "shop.gamma"]]),
    "keyspaces": st.just(["shop"]),
    "filters": st.sampled_from([{}, {"shop.alpha": "id >= 0"}, {"shop.alpha": "id < 999"}]),
    "shards": st.sampled_from([["-80", "80-"], ["-"]]),
    "tablet_type": st.just("PRIMARY"),
    "cells": st.sampled_from([[], ["zone1"]]),
    "resync_tables": st.sampled_from([[], ["shop.alpha"], ["*.a*"]]),
    "stream_name": st.sampled_from(
        ["{keyspace}_{table}", "{table}", "a{table}", "{keyspace}-{table}"]
    ),
    "copy_parallelism": st.integers(1, 4),
    "max_message_bytes": st.integers(1 << 16, 1 << 24),
    "grpc_headers": st.dictionaries(st.sampled_from(["x-a", "b"]), st.just("c"), max_size=2),
    "max_run_seconds": _LONG,
    "connect_timeout_seconds": _LONG,
    "checkpoint_seconds": _SECONDS,
    "progress_seconds": _SECONDS,
    "batch_keep_hours": _SECONDS,
    "mirror_table": st.sampled_from(["m", "tap_vitess_mirror"]),
    "start_from_mirror": st.just(False),  # noqa: FBT003
}


def usable(name: str) -> st.SearchStrategy[Any]:
    """Return values of a setting that a run can use; others for those that need more than it."""
    if name in _USABLE:
        return _USABLE[name]
    schema = SETTINGS[name]
    if "enum" in schema:
        return st.sampled_from(schema["enum"])
    kinds: Mapping[str, st.SearchStrategy[Any]] = {
        "boolean": st.booleans(),
        "integer": st.integers(1, 65_535),
    }
    return kinds.get(schema["type"], st.sampled_from(["a", "{table}"]))


@st.composite
def some_usable(draw: st.DrawFn, names: Collection[str]) -> dict[str, Any]:
    """Draw some settings that a run can use."""
    some = st.lists(st.sampled_from(sorted(names)), min_size=1, max_size=6, unique=True)
    return {name: draw(usable(name)) for name in draw(some)}


@st.composite
def mostly_usable(draw: st.DrawFn, names: Collection[str]) -> dict[str, Any]:
    """Draw some settings; in a part of the cases one of them is wrong."""
    found = draw(some_usable(names))
    if draw(st.integers(0, 3)) == 3:  # hypothesis likes 0 more
        found[draw(st.sampled_from(sorted(found)))] = draw(odd)
    return found
