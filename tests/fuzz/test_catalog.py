"""Catalogs: refused in one sentence, or every row of every stream that is selected comes."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import assume, event, given
from hypothesis import strategies as st
from support.fuzzing import SECRETS, TABLES, broken, cases, fuzz, guarded, ids, outcome, ran
from support.taps import Target, discover, settings

from tap_vitess.airbyte.catalog import configured_streams, stream_of
from tap_vitess.config import Config
from tap_vitess.doctor.commands import read_catalog
from tap_vitess.sandbox.server import Sandbox
from tap_vitess.singer import plain
from tap_vitess.survey.facts import Column, Table
from tap_vitess.values.types import DEFAULTS

pytestmark = fuzz

Json = dict[str, Any]


@dataclass(frozen=True)
class Found:
    """A sandbox and its catalog; a folder."""

    sandbox: Sandbox
    catalog: Json
    folder: Path


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Found]:
    with guarded() as sandbox:
        catalog = discover(settings(sandbox, **SECRETS))
        yield Found(sandbox, catalog, tmp_path_factory.mktemp("catalogs"))


@cases(400)
@given(st.data())
def test_a_broken_catalog_is_read(found: Found, data: st.DataObject) -> None:
    """By the tap and the doctor."""
    document = data.draw(broken(found.catalog, most=3))
    assume(isinstance(document, dict))  # see tests/test_settings.py
    outcome(lambda: plain.read(document))
    path = found.folder / "catalog.json"
    path.write_text(json.dumps(document))
    outcome(lambda: read_catalog(str(path), Config.from_settings({"host": "nowhere.invalid"})))


COLUMNS = Column("id", "bigint", False, None), Column("name", "varchar(20)", True, "utf8mb4")  # noqa: FBT003
CONFIGURED: Json = {
    "streams": [
        {
            "stream": stream_of(Table("shop", "alpha", COLUMNS, ("id",)), DEFAULTS),
            "sync_mode": "incremental",
            "destination_sync_mode": "append_dedup",
            "cursor_field": ["_ab_cdc_cursor"],
            "primary_key": [["id"]],
        }
    ]
}


@cases(300)
@given(broken(CONFIGURED, most=3))
def test_a_broken_configured_catalog_is_read(document: Any) -> None:
    """Airbyte's, which a platform writes; a list of it is lazy."""
    outcome(lambda: list(configured_streams(document)))


@cases(60)
@given(st.data())
def test_a_run_with_a_broken_catalog(found: Found, data: st.DataObject) -> None:
    """An error, or every row of every stream of which a SCHEMA is told, and of those unbroken."""
    number = data.draw(st.integers(0, len(TABLES) - 1))
    document = copy.deepcopy(found.catalog)
    document["streams"][number] = data.draw(broken(document["streams"][number]))
    whole = [s["tap_stream_id"] for i, s in enumerate(found.catalog["streams"]) if i != number]
    target = Target()
    config = settings(found.sandbox, **SECRETS)
    if ran(config, target, catalog=document) is not None:
        return
    event("a run without an error")
    assert target.keys.keys() >= set(whole)
    for stream in target.keys:
        table = stream.removeprefix("shop-")
        assert {row["id"] for row in target.records(stream)} == ids(found.sandbox.cluster, table)
    left_out = {s["tap_stream_id"] for s in found.catalog["streams"]} - target.keys.keys()
    assert not left_out or is_deselected(document["streams"][number])


def is_deselected(entry: Any) -> bool:
    """Tell whether the entry says that it is not wanted, or is of no table at all."""
    [root] = [m["metadata"] for m in entry["metadata"] if not m["breadcrumb"]] or [{}]
    said = root.get("selected", root.get("selected-by-default"))
    return not said or root.get("inclusion") == "unsupported"
