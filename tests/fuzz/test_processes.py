"""The console scripts, as processes: broken settings, states and catalogs.

No traceback and no hang; on stdout nothing but Singer messages; exit code 0 with every row.
`TAP_VITESS_FUZZ=25` took 23 minutes on two busy cores; so did as many of test_grpc.py.
"""

from __future__ import annotations

import copy
import json
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from hypothesis import assume, event, given
from hypothesis import strategies as st
from support.fuzzing import SECRETS, TABLES, broken, cases, ended, fuzz, ids, name_of, wants
from support.pasts import Past, claims_no_more, past, state_of, went_back
from support.taps import Target, settings
from support.usable import RUNNING, some_usable

pytestmark = fuzz

# Each of another kind; where a run would get to another sandbox it is not broken.
SETTINGS: dict[str, Any] = {
    "max_run_seconds": 8,
    "tables": ["shop.*"],
    "exclude_tables": ["shop.none"],
    "keyspaces": ["shop"],
    "checkpoint_seconds": 0,
    "tablet_type": "PRIMARY",
    "stream_name": "{keyspace}-{table}",
    "cells": [],
    "max_message_bytes": 2**24,
    "filters": {"shop.alpha": "id >= 0"},
    "keys": "with_vindex",
    "json_as": "object",
    "metadata_columns": True,
    "progress_seconds": 60,
    "stream_maps": {"shop-beta": {"more": "id"}},
    "flattening_enabled": False,
}
# Without those that others of them, or the processes, need as they are.
USABLE = RUNNING - {"stream_name", "max_run_seconds", "tables", "exclude_tables"}


class Files:
    """A sandbox with a past, and the files that scripts are given."""

    def __init__(self, before: Past, folder: Path) -> None:
        self.before = before
        self.folder = folder
        self.config: dict[str, Any] = {
            **settings(before.sandbox, **SECRETS),
            "connect_timeout_seconds": 5,
            "max_run_seconds": 8,
        }

    def given(self, **documents: Any) -> list[str]:
        """Write files, those of settings among them; return the options that name them."""
        options = []
        for name, document in {"config": self.config, **documents}.items():
            path = self.folder / f"{name}.json"
            path.write_text(document if isinstance(document, str) else json.dumps(document))
            options += [f"--{name}", str(path)]
        return options


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Files]:
    with ExitStack() as stack:
        before = stack.enter_context(past())
        yield Files(before, tmp_path_factory.mktemp("files"))


def is_cut_short(errors: str) -> bool:
    return "ended after max_run_seconds" in errors


def test_settings(files: Files) -> None:
    """As the tap runs, with no state and no catalog; most cases come to their end."""
    ends = Counter[int]()

    @cases(4, slow=True)
    @given(some_usable(USABLE), st.data())
    def each(drawn: dict[str, Any], data: st.DataObject) -> None:
        found = {**SETTINGS, **drawn}
        if data.draw(st.integers(0, 3)) == 3:
            found = data.draw(broken(found, most=1))
        whole = {**files.config, **found} if isinstance(found, dict) else found
        target = Target()
        code, errors = ended("tap-vitess", files.given(config=whole), target)
        event(f"exit {code}")
        ends[code] += 1
        if code or is_cut_short(errors):
            return
        for table in TABLES:
            there = {row["id"] for row in target.records(name_of(found, table))}
            all_of_it = ids(files.before.sandbox.cluster, table)
            assert there == (all_of_it if wants(found, f"shop.{table}") else set()), errors

    each()
    assert 2 * ends[0] >= ends.total(), ends


@cases(3, slow=True)
@given(broken(SETTINGS), st.sampled_from(["doctor", "--discover", "check", "discover", "ddl"]))
def test_settings_of_others(files: Files, found: Any, what: str) -> None:
    """Nothing is copied; Airbyte's messages are JSON, and a catalog is a whole one."""
    whole = {**files.config, **found} if isinstance(found, dict) else found
    options = files.given(config=whole)
    match what:
        case "doctor":
            code, errors = ended("tap-vitess-doctor", options)
        case "--discover":
            code, errors = ended("tap-vitess", [*options, what])
        case "ddl":
            code, errors = ended("tap-vitess-mirror", [what, *options])
        case _:
            code, errors = ended("source-vitess", [what, *options])
    event(f"{what}: exit {code}")
    assert code == 0 or errors or what != "--discover"


@cases(3, slow=True)
@given(st.data())
def test_states(files: Files, data: st.DataObject) -> None:
    """With exit code 0 every row comes that the state does not claim to have."""
    before = files.before
    number = data.draw(st.integers(0, len(before.states) - 1))
    state = data.draw(broken(before.states[number]))
    truth = state_of(before.states[number])
    assume(not isinstance(state, dict) or not went_back(state, truth))
    target = copy.deepcopy(before.targets[number])
    options = files.given(state=cut(data, state), catalog=before.catalog)
    code, errors = ended("tap-vitess", options, target)
    event(f"exit {code}")
    if code or is_cut_short(errors):
        return
    found = state_of(json.loads((files.folder / "state.json").read_text()))
    for table in TABLES:
        if claims_no_more(found, truth, table):
            there = {row["id"] for row in target.contents(f"shop-{table}")}
            assert there == ids(before.sandbox.cluster, table), errors


@cases(3, slow=True)
@given(st.data())
def test_catalogs(files: Files, data: st.DataObject) -> None:
    """With exit code 0 every row comes of each stream of which a SCHEMA is told."""
    number = data.draw(st.integers(0, len(TABLES) - 1))
    document = copy.deepcopy(files.before.catalog)
    whole = {s["tap_stream_id"] for i, s in enumerate(document["streams"]) if i != number}
    document["streams"][number] = data.draw(broken(document["streams"][number]))
    target = Target()
    options = files.given(catalog=cut(data, document))
    code, errors = ended("tap-vitess", options, target)
    event(f"exit {code}")
    if code or is_cut_short(errors):
        return
    assert target.keys.keys() >= whole
    for stream in target.keys:
        there = {row["id"] for row in target.records(stream)}
        assert there == ids(files.before.sandbox.cluster, stream.removeprefix("shop-")), errors


def cut(data: st.DataObject, document: Any) -> str:
    """Write a document, and now and then a part of it only."""
    text = json.dumps(document)
    return text if data.draw(st.integers(0, 9)) else text[: data.draw(st.integers(0, len(text)))]
