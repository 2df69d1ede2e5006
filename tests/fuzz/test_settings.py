"""Settings: taken or refused in one sentence, by each front end alike; a run has what they want."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.fuzzing import (
    SECRETS,
    TABLES,
    cases,
    fuzz,
    guarded,
    ids,
    name_of,
    odd,
    one_line,
    outcome,
    ran,
    wants,
)
from support.taps import Target, settings
from support.usable import RUNNING, mostly_usable, usable

from tap_vitess.airbyte.spec import config_of
from tap_vitess.config import SETTINGS, Config
from tap_vitess.errors import VitessError
from tap_vitess.sandbox.server import Sandbox
from tap_vitess.settings import OF_THE_SDK, checked, of_environment, read_config
from tap_vitess.singer.tap import TapVitess

pytestmark = fuzz

NAMES = [*SETTINGS, *sorted(OF_THE_SDK), "tabels", "ssl", "", "a" * 300, "\x1b[31m", "\ud800"]


@st.composite
def given_settings(draw: st.DrawFn) -> dict[str, Any]:
    """Draw settings of which some may be wrong."""
    found = {"host": "nowhere.invalid", **SECRETS}
    for name in draw(st.lists(st.sampled_from([*SETTINGS]), max_size=4)):
        found[name] = draw(usable(name))
    for name in draw(st.lists(st.sampled_from(NAMES), max_size=2)):
        found[name] = draw(odd)
    return found


def by_tap(found: Mapping[str, Any]) -> Config:
    return TapVitess(config=dict(found), catalog={"streams": []}).settings


def by_environment(found: Mapping[str, Any]) -> Config:
    texts = {
        f"TAP_VITESS_{name.upper()}": value if isinstance(value, str) else json.dumps(value)
        for name, value in found.items()
    }
    return checked(of_environment(texts))


@cases(300)
@given(given_settings())
def test_settings_are_taken_or_refused(found: dict[str, Any]) -> None:
    """By the doctor, the tap and Airbyte; of the tap's own settings all say the same."""
    refused = {}
    fronts: list[Callable[[Mapping[str, Any]], Config]] = [checked, by_tap, config_of]
    for take in [*fronts, by_environment]:
        error = outcome(lambda take=take: take(found))  # type: ignore[misc]
        if error:
            one_line(error)
        refused[take.__name__] = error is not None
    if not OF_THE_SDK & found.keys():
        assert refused["by_tap"] == refused["checked"]


@cases(150)
@given(given_settings(), st.data())
def test_files_of_settings(folder: Path, found: dict[str, Any], data: st.DataObject) -> None:
    """Cut, with bytes exchanged, or with what JSON is not."""
    raw = bytearray(json.dumps(found).encode())
    at = data.draw(st.integers(0, len(raw) - 1))
    match data.draw(st.sampled_from(["cut", "byte", "bits", "again"])):
        case "cut":
            del raw[at:]
        case "byte":
            raw[at] = data.draw(st.integers(0, 255))
        case "bits":
            raw[at] ^= 1 << data.draw(st.integers(0, 7))
        case "again":
            raw[at:at] = raw[at:] * 2
    path = folder / "config.json"
    path.write_bytes(raw)
    if error := outcome(lambda: read_config([str(path)], {})):
        one_line(error)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("settings")


@pytest.fixture(scope="module")
def stocked() -> Iterator[Sandbox]:
    with guarded() as found:
        yield found


def test_a_run_has_all_that_settings_let_in(stocked: Sandbox) -> None:
    """Whichever they are: an error, or every row of every table that is wanted.

    Most cases come to their end, else little is tried.
    """
    ends = Counter[bool]()

    @cases(25)
    @given(mostly_usable(RUNNING))
    def each(drawn: dict[str, Any]) -> None:
        found = {**settings(stocked, **SECRETS), **drawn}
        if isinstance(seconds := drawn.get("max_run_seconds"), int | float):
            found["max_run_seconds"] = max(seconds, 60)  # else it may end before it has begun
        target = Target()
        error = ran(found, target)
        ends[error is None] += 1
        if error is None:
            for table in TABLES:
                wanted = ids(stocked.cluster, table) if wants(found, f"shop.{table}") else set()
                assert {r["id"] for r in target.records(name_of(found, table))} == wanted, table

    each()
    assert 2 * ends[True] >= ends.total(), ends


def test_what_is_no_error_of_ours_is_seen() -> None:
    """The fuzzers fail where they should."""

    def stumbles() -> None:
        raise KeyError("x")

    with pytest.raises(KeyError):
        outcome(stumbles)

    def tells() -> None:
        raise VitessError(f"refused: {SECRETS['password']}")

    with pytest.raises(AssertionError):
        outcome(tells)
