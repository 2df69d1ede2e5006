"""What is one way with some versions of MySQL and another way with others."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from cluster.conftest import SHARDED
from cluster.launcher import Cluster, Version
from cluster.runs import Pipeline
from cluster.source import Source, quote

pytestmark = pytest.mark.cluster

LOGS_HIDDEN_COLUMNS = (8, 0, 15)  # the newest that was seen to; 9.7.4 does not


def test_an_index_on_an_expression(
    source: Source, pipeline: Callable[..., Pipeline], mysql_version: Version
) -> None:
    """Its hidden column may be in the binlog, which is not said to be an altered table."""
    table = source.create("functional", "id bigint primary key, v varchar(20), key u ((upper(v)))")
    other = source.create("other", "id bigint primary key, v varchar(20)")
    source.insert(table, ["id", "v"], [(1, "a"), (2, "b")])
    pipe = pipeline()
    pipe.complete()
    source.insert(table, ["id", "v"], [(3, "c"), (4, "d")])
    source.insert(other, ["id", "v"], [(3, "c"), (4, "d")])
    if mysql_version > LOGS_HIDDEN_COLUMNS:
        pipe.complete()
        pipe.check(table, ["id"])
        return
    outcome = pipe.run()
    assert outcome.tap == 1, outcome.log
    assert f"{table}: this MySQL logs the hidden column" in outcome.log
    assert "was altered" not in outcome.log
    pipe.check(other, ["id"])
    source.execute(f"alter table {quote(table)} drop index u")
    pipe = pipeline(on_lost_position="resync")
    pipe.complete()
    pipe.check(table, ["id"])


def test_json_null(source: Source, pipeline: Callable[..., Pipeline]) -> None:
    """The document `null` and SQL's NULL can be told apart where documents are text."""
    table = source.create("nulls", "id bigint primary key, d json")
    pipe = pipeline(json_as="string")
    for run in (0, 1):
        source.execute(
            f"insert into {quote(table)} (id, d) values ({run}, cast('null' as json))",
            f"insert into {quote(table)} (id) values ({run + 10})",
        )
        pipe.complete()
    text = {record["id"]: record["d"] for record in pipe.records(table)}
    assert text == {0: "null", 1: "null", 10: None, 11: None}


def test_zero_dates_in_a_document(
    own_cluster: Cluster, source: Source, pipeline: Callable[..., Pipeline]
) -> None:
    """A copy has them as they are; streamed they are dates that look real, as the docs say."""
    table = source.create("dated", "id bigint primary key, d json")
    number = own_cluster.primary(SHARDED, "-80")
    document = (
        "json_object('a', cast('0000-00-00' as date), 'b', cast('2024-00-10' as date), "
        "'c', cast('0000-00-00 00:00:00' as datetime))"
    )
    pipe = pipeline()
    for run in (0, 1):
        insert = f"insert into vt_{SHARDED}.{quote(table)} values ({run}, {document})"
        own_cluster.mysql(number, "set sql_mode = ''", insert)
        pipe.complete()
    copied, streamed = (record["d"] for record in sorted(pipe.records(table), key=_id))
    assert copied == {"a": "0000-00-00", "b": "2024-00-10", "c": "0000-00-00 00:00:00.000000"}
    assert streamed == {"a": "-0001-11-30", "b": "2024-01-10", "c": "0001-01-01 00:00:00.000000"}


def _id(record: dict[str, Any]) -> int:
    return int(record["id"])
