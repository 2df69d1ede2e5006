"""What a user gets wrong ends soon: exit code 1, one sentence on stderr, nothing on stdout."""

from __future__ import annotations

import json
import socket
import subprocess
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from cluster.runs import Finished, Pipeline
from cluster.source import Source

pytestmark = pytest.mark.cluster

SECONDS = 12.0  # of which the tap takes two to start on a busy machine


@pytest.fixture
def pipe(source: Source, pipeline: Callable[..., Pipeline]) -> Pipeline:
    """Return a pipeline over one small table."""
    table = source.create("small", "id bigint primary key, v varchar(20)")
    source.insert(table, ["id", "v"], [(1, "a"), (2, "b")])
    return pipeline(connect_timeout_seconds=2)


@pytest.fixture
def closed_port() -> Iterator[int]:
    """Return a port on which nothing listens."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        yield sock.getsockname()[1]


def _check(done: Finished, *words: str) -> None:
    errors = [line for line in done.log.splitlines() if "| CRITICAL" in line or "| ERROR" in line]
    assert done.code == 1, done.log
    assert done.out == "", done.out
    assert len(errors) == 1, done.log
    assert "Traceback" not in done.log, done.log
    assert not [word for word in words if word not in errors[0]], errors[0]
    assert done.seconds < SECONDS


@pytest.mark.parametrize("arguments", [["--discover"], []])
@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"host": "vitess.invalid"}, ["vitess.invalid", "host"]),
        ({"keyspaces": ["nowhere"]}, ["nowhere", "keyspaces"]),
        ({"keyspaces": ["nowhere"], "tables": None}, ["nowhere", "keyspaces"]),
        ({"tables": ["*.nothing_like_it*"]}, ["*.nothing_like_it*", "tables"]),
        ({"exclude_tables": ["*"]}, ["exclude_tables"]),
        ({"password": "somebody's"}, ["user"]),
    ],
)
def test_wrong_settings(
    pipe: Pipeline, arguments: list[str], settings: dict[str, Any], words: list[str]
) -> None:
    """A wrong host, keyspace or pattern is named."""
    given = {name: value for name, value in settings.items() if value is not None}
    _check(pipe.alone(*arguments, **given), *words)


@pytest.mark.parametrize("arguments", [["--discover"], []])
def test_closed_mysql_port(pipe: Pipeline, closed_port: int, arguments: list[str]) -> None:
    """Nothing on the MySQL port: the port and the setting are named."""
    _check(pipe.alone(*arguments, mysql_port=closed_port), str(closed_port), "mysql_port")


def test_closed_grpc_port(pipe: Pipeline, closed_port: int) -> None:
    """Nothing on the gRPC port: the port and the setting are named."""
    _check(pipe.alone(grpc_port=closed_port), str(closed_port), "grpc_port")


def test_ports_mixed_up(pipe: Pipeline, source: Source) -> None:
    """MySQL's port given for gRPC and the other way round."""
    _check(pipe.alone(grpc_port=source.address.mysql_port), "grpc_port")
    _check(pipe.alone("--discover", mysql_port=source.address.grpc_port), "mysql_port")


def test_table_of_the_catalog_is_gone(pipe: Pipeline, source: Source) -> None:
    """A table dropped after discovery: the message says to discover again."""
    catalog = pipe.discover()
    source.execute(f"drop table {source.prefix}small")
    path = pipe.folder / "old.json"
    path.write_text(json.dumps(catalog))
    done = pipe.alone("--catalog", str(path))
    assert done.code == 1
    assert "discover again" in done.log, done.log
    assert '"RECORD"' not in done.out


def test_closed_pipe(pipe: Pipeline) -> None:
    """A target that goes away: exit code 1 and a sentence, not silence."""
    tap = subprocess.Popen(pipe.command(None), stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert tap.stdout is not None
    tap.stdout.close()
    assert tap.stderr is not None
    log = tap.stderr.read().decode()
    tap.stderr.close()
    assert tap.wait(20) == 1
    assert "the target has closed the pipe" in log, log
    assert "Traceback" not in log, log
