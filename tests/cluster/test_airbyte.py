"""`source-vitess` on a real Vitess: killed in mid-copy, then carried on from its states."""

from __future__ import annotations

import random
import subprocess
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from support.airbyte import Connector, Destination, Done, messages

from cluster.compare import difference
from cluster.source import Source, quote
from cluster.writers import Tables, Writer

pytestmark = pytest.mark.cluster

ROWS = 20_000


def _cut(connector: Connector, catalog: dict[str, Any], state: Any, lines: int) -> Done:
    """Kill a sync behind so many lines; a STATE and what stands before it have arrived."""
    files = {"catalog": catalog} | ({"state": state} if state else {})
    command = connector.command("read", **files)
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as running:
        assert running.stdout is not None
        told: list[str] = []
        for line in running.stdout:
            told.append(line)
            if len(told) > lines and '"type":"STATE"' in line:
                break
        running.kill()
    return Done(running.returncode, messages("".join(told)), "")


def test_syncs_under_writers(source: Source, tmp_path: Path, rng: random.Random) -> None:
    """What a destination holds in the end is what SELECT gives."""
    tables = Tables(source, ROWS, rng)
    address = source.address
    config = {
        "host": address.host,
        "grpc_port": address.grpc_port,
        "mysql_port": address.mysql_port,
        "tables": [f"{address.keyspace}.{source.prefix}*"],
        "checkpoint_seconds": 0.2,
    }
    connector, destination = Connector(tmp_path, config), Destination(dict(tables))
    catalog = connector.catalog()
    state: Any = None
    with Writer(source, tables, rng.randrange(10**6)) as writer:
        for _ in range(3):
            cut = _cut(connector, catalog, state, rng.randrange(500, ROWS))
            destination.take(cut)
            state = cut.state or state
        done = connector.run("read", catalog=catalog, state=state)
        assert done.code == 0, done.errors
        destination.take(done)
        state = done.state
    done = connector.run("read", catalog=catalog, state=state)
    assert done.code == 0, done.errors
    destination.take(done)
    print(f"{writer.done}, last sync {len(done.of('RECORD'))} records")
    assert writer.done["commit"]
    for table, key in tables:
        wanted = {
            tuple(row[name] for name in key): {n: _written(v) for n, v in row.items()}
            for row in source.query(f"select * from {quote(table)}")
        }
        found = {tuple(row[n] for n in key): row for row in destination.contents(table)}
        assert difference(wanted, found) == ""


def _written(value: Any) -> Any:
    """Return a value of MySQL as the connector writes it with its defaults."""
    if isinstance(value, Decimal):
        return float(value)
    return f"{value.isoformat()}+00:00" if isinstance(value, datetime) else value
