"""States: refused in one sentence, or every row comes that the state does not claim to have."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import assume, event, given
from hypothesis import strategies as st
from support.fuzzing import SECRETS, TABLES, broken, cases, fuzz, ids, outcome, ran
from support.pasts import Past, claims_no_more, past, state_of, went_back
from support.taps import settings

from tap_vitess.airbyte.state import states_of
from tap_vitess.run.state import parse
from tap_vitess.singer.tap import TapVitess

pytestmark = fuzz


@pytest.fixture(scope="module")
def before() -> Iterator[Past]:
    with past() as found:
        yield found


@cases(60)
@given(st.data())
def test_a_broken_state(before: Past, data: st.DataObject) -> None:
    """An error, or every row that the state does not claim to have."""
    number = data.draw(st.integers(0, len(before.states) - 1))
    state = data.draw(broken(before.states[number]))
    assume(isinstance(state, dict))  # see tests/test_settings.py
    truth = state_of(before.states[number])
    assume(not went_back(state, truth))
    target = copy.deepcopy(before.targets[number])
    config = settings(before.sandbox, **SECRETS)
    if ran(config, target, state=state, catalog=copy.deepcopy(before.catalog)) is not None:
        return
    found = state_of(state)
    for table in TABLES:
        if claims_no_more(found, truth, table):
            event("all rows are wanted")
            there = {row["id"] for row in target.contents(f"shop-{table}")}
            assert there == ids(before.sandbox.cluster, table), table


@cases(400)
@given(st.data())
def test_a_broken_state_is_read(before: Past, data: st.DataObject) -> None:
    """By the tap and by Airbyte; what is read is written as it is read again."""
    state = data.draw(broken(data.draw(st.sampled_from(before.states)), most=3))
    whole = airbyte(data.draw(st.sampled_from(before.states)))
    kept = data.draw(broken([{"type": "GLOBAL", "global": whole}]))
    config = settings(before.sandbox, **SECRETS)
    outcome(lambda: TapVitess(config=config, state=state, catalog={"streams": []}))

    def read() -> None:
        found = state_of(state)
        assert parse("shop", found.render()) == found

    outcome(read)
    outcome(lambda: states_of(kept))


def airbyte(state: dict[str, Any]) -> dict[str, Any]:
    """Return a state as Airbyte keeps it."""
    names = [{"name": table, "namespace": "shop"} for table in TABLES]
    streams = [{"stream_descriptor": name, "stream_state": {"version": 1}} for name in names]
    return {"shared_state": state["bookmarks"], "stream_states": streams}
