"""Every type's values through a real MySQL and a real Vitess: copied, streamed and selected.

The kinds of columns and their values are in `kinds.py`. With TAP_VITESS_RECORD_VALUES set, what
the cluster sent and answered is written to tests/data, for the tests that run without one.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pymysql
import pytest
from pymysql.constants import ER
from support import arrow_values, kinds, vectors
from support.kinds import KINDS, Evidence, Kind
from support.vectors import VECTORS

from cluster.launcher import Cluster, Version
from cluster.rawstream import Events, RawSource
from cluster.runs import Finished, Pipeline
from cluster.source import Address, Source, quote
from cluster.valued import create_kinds, insert_kinds, needs_vectors
from tap_vitess.protocol.items import Fields
from tap_vitess.values.decode import ObjectDecoder
from tap_vitess.values.types import DATATYPE_PROPERTIES, ValueOptions
from tap_vitess.vstream import Boundary, TableRows, Vitess, arrow_changes

pytestmark = pytest.mark.cluster

RECORD = "TAP_VITESS_RECORD_VALUES"
DRAWN = 60
STREAMED_FROM = 100_000
REFUSALS = (6136, ER.DATA_TOO_LONG)  # 6136 is "cannot be converted to 'vector' type"


def _answers(source: Source, table: str, columns: Mapping[str, Kind]) -> dict[int, dict[str, Any]]:
    asked = [f"{kind.get.format(quote(name))} as {quote(name)}" for name, kind in columns.items()]
    found = source.query(f"select id, {', '.join(asked)} from {quote(table)}")
    return {row.pop("id"): row for row in found}


def _phase(events: Events, *, copying: bool) -> tuple[Fields, dict[int, Any]]:
    fields, labelled, _ = events[0]
    rows = {int(row.values[: row.lengths[0]]): row for _, _, row in events}
    return Fields("kinds", "-80", tuple(fields), copying, labelled), rows


def _as_arrow(
    address: Address, table: str, state: str | None
) -> tuple[dict[int, dict[str, Any]], str]:
    """Read a table as Arrow, from a state on; return its rows and the last state."""
    vitess = Vitess(address.host, address.grpc_port, address.mysql_port)
    name = f"{address.keyspace}.{table}"
    items = list(arrow_changes(vitess, [name], state=state))
    [*_, last] = [item.state for item in items if isinstance(item, Boundary)]
    rows = [row for item in items if isinstance(item, TableRows) for row in item.rows.to_pylist()]
    return {row["id"]: row for row in rows}, last


def _records(done: Finished) -> dict[int, dict[str, Any]]:
    assert done.code == 0, done.log
    messages = [kinds.exact(line) for line in done.out.strip("\n").split("\n")]
    return {m["record"]["id"]: m["record"] for m in messages if m["type"] == "RECORD"}


def _read_by_all(
    pipe: Pipeline,
    source: Source,
    vitess: Version,
    rows: list[dict[str, Any]],
    folder: Path,
    columns: Mapping[str, Kind],
) -> Evidence:
    """Copy rows and stream them; fail unless records and Arrow are what SELECT answers."""
    address = source.address
    table, raw = create_kinds(source, columns), RawSource(address)
    insert_kinds(source, table, rows, 0, vitess, columns)
    first = pipe.alone()
    copied = _records(first)
    start = raw.position()
    _, between = _as_arrow(address, table, None)
    insert_kinds(source, table, rows, STREAMED_FROM, vitess, columns)
    state = folder / "between.json"
    state.write_text(json.dumps(json.loads(first.out.strip("\n").split("\n")[-1])["value"]))
    streamed = _records(pipe.alone("--state", str(state)))
    answers = _answers(source, table, columns)
    assert copied.keys() == set(range(len(rows)))
    assert streamed.keys() == {number + STREAMED_FROM for number in copied}
    for number, record in copied.items():
        again = answers.pop(number + STREAMED_FROM)
        assert again == answers[number], "MySQL stored the same row in two ways"
        wanted = kinds.expected(answers[number], ValueOptions(), columns)
        for found in (record, streamed[number + STREAMED_FROM]):
            assert not (differ := kinds.differences(found, wanted)), f"row {number}: {differ}"

    arrow_copied, _ = _as_arrow(address, table, None)
    assert arrow_copied.keys() == copied.keys() | streamed.keys()
    arrow_streamed, _ = _as_arrow(address, table, between)
    for number, answer in answers.items():
        for found in (arrow_copied[number], arrow_streamed[number + STREAMED_FROM]):
            assert arrow_values.differences(found, answer, columns) == [], f"row {number}"

    stored = [
        row for row in raw.copied(table) if _phase([row], copying=True)[1].keys() < answers.keys()
    ]
    changed = raw.streamed(table, start, len(rows))
    (copy_fields, copy_rows), (change_fields, change_rows) = (
        _phase(stored, copying=True),
        _phase(changed, copying=False),
    )
    properties = pipe.discover()["streams"][0]["schema"]["properties"]
    return Evidence(
        {"copied": copy_fields, "streamed": change_fields},
        {
            "copied": copy_rows,
            "streamed": {number - STREAMED_FROM: row for number, row in change_rows.items()},
        },
        {
            name: found[DATATYPE_PROPERTIES]["charset"]
            for name, found in properties.items()
            if "charset" in found.get(DATATYPE_PROPERTIES, {})
        },
        answers,
        columns,
    )


def test_all_values_in_both_phases(
    source: Source,
    pipeline: Callable[..., Pipeline],
    vitess_version: Version,
    seed: int,
    tmp_path: Path,
) -> None:
    """Copied equals streamed equals SELECT, out of the tap and under all settings of values."""
    rows = kinds.rows(DRAWN, seed)
    evidence = _read_by_all(pipeline(), source, vitess_version, rows, tmp_path, KINDS)
    if os.environ.get(RECORD):
        evidence.save()
    kinds.check(evidence)


def test_all_vectors_in_both_phases(
    own_cluster: Cluster,
    source: Source,
    pipeline: Callable[..., Pipeline],
    vitess_version: Version,
    seed: int,
    tmp_path: Path,
) -> None:
    """The same for VECTOR, where the server has it; and as Python objects."""
    needs_vectors(own_cluster)
    rows = kinds.rows(DRAWN, seed, VECTORS)
    evidence = _read_by_all(pipeline(), source, vitess_version, rows, tmp_path, VECTORS)
    if os.environ.get(RECORD):
        evidence.save(vectors.EVIDENCE)
    kinds.check(evidence)
    for phase, found in evidence.rows.items():
        decoder = ObjectDecoder(evidence.fields[phase], "ks", VECTORS.keys())
        for number, row in found.items():
            wanted = kinds.expected(evidence.answers[number], ValueOptions(), VECTORS)
            assert repr(decoder.decode(row)) == repr(wanted), f"{phase} row {number}"


def test_what_mysql_takes_for_no_vector(own_cluster: Cluster, source: Source) -> None:
    """No number that JSON lacks, no vector of no or of too many dimensions reaches a table."""
    needs_vectors(own_cluster)
    table = source.create("refused", "id bigint primary key, v vector(2)")
    for raw in ("0000c07f", "0000807f", "000080ff", "", "00", "00000000" * 3):
        with pytest.raises(pymysql.MySQLError) as error:
            source.execute(f"insert into {quote(table)} (id, v) values (1, x'{raw}')")
        print(f"{raw!r}: {error.value.args}")
        assert error.value.args[0] in REFUSALS
    assert source.query(f"select id from {quote(table)}") == []
