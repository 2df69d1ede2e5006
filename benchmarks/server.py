"""The sandbox as a replay: `python -m benchmarks.server`, driven by JSON lines on stdin.

A simulated VTGate written in Python would be slower than the client that is measured. So the
responses to a request are made once, by the sandbox, until it has nothing more to say; whoever
asks the same again gets the same bytes, serialized already. MySQL's side is the sandbox's own.

One JSON line in is one command, one JSON line out its answer:

    {"create": [keyspace, [shard, ...], [[table, columns], ...]]}
    {"insert": [keyspace, table, columns, first number, count, rows a transaction]}
    {"update": [keyspace, table, columns, first number, count, rows a transaction]}
"""

from __future__ import annotations

import json
import logging
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc

from benchmarks import table as reference
from tap_vitess._proto import binlogdata_pb2 as binlogdata
from tap_vitess._proto import vtgate_pb2 as vtgate
from tap_vitess.sandbox.cluster import Cluster
from tap_vitess.sandbox.mysql import serve_mysql
from tap_vitess.sandbox.options import Options
from tap_vitess.sandbox.schema import Column, Table
from tap_vitess.sandbox.vstream import VStream

HOST = "127.0.0.1"
_IMPATIENT = Options(heartbeat_unit=0.01)
_IDLE_STREAMS = 64  # a call holds a thread until its client leaves


class Replay:
    """VTGate's service: what the sandbox answered once."""

    def __init__(self, cluster: Cluster) -> None:
        """Serve a cluster, of which only one thread at a time makes responses."""
        self._cluster = cluster
        self._made: dict[bytes, list[bytes]] = {}
        self._lock = threading.Lock()

    def forget(self) -> None:
        """Make the responses anew: the cluster has changed."""
        with self._lock:
            self._made.clear()

    def handler(self) -> grpc.GenericRpcHandler:
        """Return the handler of VStream; bytes in, bytes out."""
        method: grpc.RpcMethodHandler[bytes, bytes]
        method = grpc.unary_stream_rpc_method_handler(self._vstream)
        return grpc.method_handlers_generic_handler("vtgateservice.Vitess", {"VStream": method})

    def _vstream(self, request: bytes, context: grpc.ServicerContext) -> Iterator[bytes]:
        left = threading.Event()
        context.add_callback(left.set)
        responses, heartbeat = self._responses(request)
        yield from responses
        yield heartbeat
        while not left.wait(1):
            yield heartbeat

    def _responses(self, request: bytes) -> tuple[list[bytes], bytes]:
        with self._lock:
            if request not in self._made:
                self._made[request] = list(self._make(request))
            made = self._made[request]
        return made[:-1], made[-1]

    def _make(self, request: bytes) -> Iterator[bytes]:
        """Run the sandbox up to its first heartbeat, which says that all has been sent."""
        parsed = vtgate.VStreamRequest.FromString(request)
        parsed.flags.heartbeat_interval = 1
        for events in VStream(self._cluster, parsed, _IMPATIENT).responses():
            yield vtgate.VStreamResponse(events=events).SerializeToString()
            if events[0].type == binlogdata.HEARTBEAT:
                return


class Commands:
    """What the benchmark asks the server to do to its cluster."""

    def __init__(self, cluster: Cluster) -> None:
        """Act on a cluster."""
        self._cluster = cluster

    def create(self, keyspace: str, shards: list[str], tables: list[tuple[str, int]]) -> None:
        """Create a keyspace with tables of so many columns."""
        self._cluster.create_keyspace(keyspace, shards)
        for name, columns in tables:
            described = (Column(*column) for column in reference.columns(columns))
            table = Table(name, tuple(described), primary_key=(reference.KEY,))
            self._cluster.create_table(keyspace, table)

    def insert(
        self, keyspace: str, table: str, columns: int, first: int, count: int, size: int
    ) -> None:
        """Insert rows, `size` in a transaction."""
        names = [name for name, _, _ in reference.columns(columns)]
        for numbers in reference.batches(first, count, size):
            rows = (dict(zip(names, reference.row(n, columns), strict=True)) for n in numbers)
            self._cluster.insert(keyspace, table, rows)

    def update(
        self, keyspace: str, table: str, columns: int, first: int, count: int, size: int
    ) -> None:
        """Give rows the values of others, `size` in a transaction."""
        names = [name for name, _, _ in reference.columns(columns)][1:]
        for numbers in reference.batches(first, count, size):
            changes = (
                (
                    {reference.KEY: b"%d" % n},
                    dict(zip(names, reference.row(n + count, columns)[1:], strict=True)),
                )
                for n in numbers
            )
            self._cluster.update_many(keyspace, table, changes)


def main() -> None:
    """Serve until stdin ends."""
    logging.getLogger("mysql_mimic").setLevel(logging.CRITICAL)
    cluster = Cluster()
    replay = Replay(cluster)
    commands = Commands(cluster)
    pool = ThreadPoolExecutor(_IDLE_STREAMS)
    server = grpc.server(
        pool, options=[("grpc.so_reuseport", 0), ("grpc.max_send_message_length", -1)]
    )
    server.add_generic_rpc_handlers((replay.handler(),))
    port = server.add_insecure_port(f"{HOST}:0")
    server.start()
    with serve_mysql(cluster, HOST, 0, None) as mysql_port:
        _answer({"grpc_port": port, "mysql_port": mysql_port})
        for line in sys.stdin:
            for name, arguments in json.loads(line).items():
                command: Callable[..., Any] = getattr(commands, name)
                command(*arguments)
                replay.forget()
            _answer({})
    server.stop(grace=None).wait()


def _answer(value: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(value) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
