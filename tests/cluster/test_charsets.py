"""Text of every charset: copied, streamed, and streamed behind an ALTER of the charset.

Before Vitess 20 FIELD events do not tell it: the shards' MySQL is asked.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.kinds import CHARSETS

from cluster.runs import Finished, Pipeline
from cluster.source import Source, quote

pytestmark = pytest.mark.cluster

TEXTS = {charset: "".join(text for _, text in found)[-12:] for charset, found in CHARSETS.items()}
TEXTS |= {"latin1": "Ã©", "ucs2": "AB", "swe7": "ÅÄÖ", "utf16le": "AB€", "utf32": "AB€"}


def insert(source: Source, table: str, number: int) -> None:
    names = ", ".join(["id", "raw", *map(quote, TEXTS)])
    marks = ", ".join(["%s"] * (len(TEXTS) + 2))
    connection = source.connect()
    with connection, connection.cursor() as cursor:
        statement = f"insert into {quote(table)} ({names}) values ({marks})"
        cursor.execute(statement, [number, b"\xff\x00", *TEXTS.values()])


def state_of(done: Finished, path: Path) -> Path:
    assert done.code == 0, done.log
    last = json.loads(done.out.strip("\n").split("\n")[-1])
    path.write_text(json.dumps(last["value"]))
    return path


def wrong(done: Finished, number: int) -> dict[str, Any]:
    """Return the texts of a row that came otherwise than they were written."""
    messages = [json.loads(line) for line in done.out.strip("\n").split("\n")]
    records = [message["record"] for message in messages if message["type"] == "RECORD"]
    [record] = [record for record in records if record["id"] == number]
    assert record["raw"] == "/wA="
    return {name: record[name] for name, text in TEXTS.items() if record[name] != text}


def test_text_of_every_charset(
    source: Source, pipeline: Callable[..., Pipeline], tmp_path: Path
) -> None:
    """And binary strings stay what they are."""
    columns = [f"{quote(charset)} varchar(20) charset {charset}" for charset in TEXTS]
    table = source.create(
        "texts", ", ".join(["id bigint primary key", "raw varbinary(9)", *columns])
    )
    pipe = pipeline()
    insert(source, table, 1)
    copied = pipe.alone()
    state = state_of(copied, tmp_path / "copied.json")
    assert wrong(copied, 1) == {}
    insert(source, table, 2)
    streamed = pipe.alone("--state", str(state))
    state = state_of(streamed, tmp_path / "streamed.json")
    assert wrong(streamed, 2) == {}
    source.execute(f"alter table {quote(table)} modify latin1 varchar(20) charset utf8mb4")
    insert(source, table, 3)
    altered = pipe.alone("--state", str(state))
    assert altered.code == 0, altered.log
    assert wrong(altered, 3) == {}
