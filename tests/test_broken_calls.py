"""Calls that break, stand still or say nothing, and connections that are cut."""

from __future__ import annotations

import contextlib
import functools
import os
import signal
import socket
import socketserver
import threading
import time
from collections.abc import Callable, Iterator
from concurrent import futures
from typing import Any

import grpc
import pytest
from support.events import (
    KEYSPACE,
    begin,
    changes,
    commit,
    field,
    fields,
    gtid,
    rows,
    vgtid,
)
from support.shops import write
from support.taps import (
    QuickTap,
    Target,
    check,
    discover,
    run,
    settings,
)

from tap_vitess._proto import vtgate_pb2 as vtgate
from tap_vitess.config import Config
from tap_vitess.errors import (
    ProtocolError,
    RetriableError,
)
from tap_vitess.protocol.changes import ChangeStream
from tap_vitess.protocol.gtid import GtidSet
from tap_vitess.protocol.items import Rows
from tap_vitess.protocol.request import RequestOptions, stream_request
from tap_vitess.protocol.vgtid import Vgtid
from tap_vitess.sandbox.faults import Fault
from tap_vitess.sandbox.server import Sandbox
from tap_vitess.vtgate.grpc import METHOD, Client, connect
from tap_vitess.vtgate.reader import read
from tap_vitess.vtgate.retry import RetryOptions, retrying


def test_the_first_question_is_retried(caplog: pytest.LogCaptureFixture) -> None:
    """A shard without a tablet is worth waiting for, at the start of a run too."""
    answers = iter([RetriableError("no healthy tablet"), None])

    def ask(keyspace: str) -> str:
        if (error := next(answers)) is not None:
            raise error
        return keyspace

    retry = RetryOptions(budget=5, longest_wait=0.01)
    found = retrying("the position", functools.partial(ask, "shop"), retry, lambda: False)
    assert found == "shop"
    assert "the position: no healthy tablet; trying again in" in caplog.text


@contextlib.contextmanager
def answering(answer: Callable[[], Iterator[bytes]]) -> Iterator[Client]:
    """Serve what a VStream answers, bytes as they are, and connect to it."""

    class Handler(grpc.GenericRpcHandler):
        def service(self, details: Any) -> Any:
            if details.method != METHOD:
                return None
            return grpc.unary_stream_rpc_method_handler(lambda *_: answer())

    server = grpc.server(futures.ThreadPoolExecutor(4), handlers=[Handler()])
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        config = Config.from_settings({"host": "127.0.0.1", "grpc_port": port})
        with connect(config) as client:
            yield client
    finally:
        server.stop(None).wait()


def test_a_server_that_says_nothing_at_all_is_given_up() -> None:
    """A proxy answers pings; only responses count."""
    done = threading.Event()

    def answer() -> Iterator[bytes]:
        done.wait(20)
        yield from ()

    request = stream_request(["t"], changes().position, RequestOptions())
    with answering(answer) as client:
        began = time.monotonic()
        with (
            pytest.raises(RetriableError, match="not even a heartbeat"),
            client.stream(request, silence=0.5) as responses,
        ):
            list(responses)
        assert time.monotonic() - began < 5
        done.set()


def test_an_answer_that_is_none() -> None:
    """What was before it is given out."""
    good = vtgate.VStreamResponse(events=[begin("-80"), *[commit("-80")] * 999])
    answers = [good.SerializeToString(), b"\xff"]
    request = stream_request(["t"], changes().position, RequestOptions())
    found: list[Any] = []
    with (
        answering(lambda: iter(answers)) as client,
        pytest.raises(ProtocolError, match="other than a VStreamResponse"),
        client.stream(request) as responses,
    ):
        found.extend(event for events in responses for event in events)
    assert len(found) == 1000


def test_a_stream_that_is_left_ends_at_once() -> None:
    """No thread of it stays, while the server goes on."""
    go_on = threading.Event()

    def answer() -> Iterator[bytes]:
        yield vtgate.VStreamResponse(events=[begin("-80")]).SerializeToString()
        go_on.wait(10)

    request = stream_request(["t"], changes().position, RequestOptions())
    with answering(answer) as client:
        with client.stream(request) as responses:
            next(responses)
        assert "vstream" not in {thread.name for thread in threading.enumerate()}
        go_on.set()


def test_a_stream_that_stands_still_gives_out_what_it_has() -> None:
    """Rows of a shard that is at its stop are no sign of life of the other, and are not lost."""
    start = Vgtid(KEYSPACE, {s: GtidSet.parse(gtid(s, 1)) for s in ("-80", "80-")})
    stop = Vgtid(KEYSPACE, {**start.shards, "-80": GtidSet.parse(gtid("-80", 9))})
    calls = iter(
        [
            [
                [fields("80-", "t", field("id", key=True))],
                [
                    begin("80-", 100),
                    rows("80-", "t", (None, ["42"]), at=100),
                    vgtid("80-", {"-80": 1, "80-": 2}),
                    commit("80-", 100),
                ],
            ],
            [[begin("-80"), vgtid("-80", {"-80": 9, "80-": 2}), commit("-80")]],
        ]
    )

    def answer() -> Iterator[bytes]:
        for events in next(calls):
            yield vtgate.VStreamResponse(events=events).SerializeToString()
            time.sleep(0.3)

    feed = ChangeStream(["t"], start, stop, RequestOptions())
    with answering(answer) as client:
        found = [
            i for items in read(client, feed, RetryOptions(stall=0.2, budget=5)) for i in items
        ]
    assert [len(item.changes) for item in found if isinstance(item, Rows)] == [1]
    assert next(calls, None) is None, "the stream was not opened again"


@contextlib.contextmanager
def cutting(port: int, words: bytes) -> Iterator[tuple[int, list[bytes]]]:
    """Pass everything on to a port; the first connection that says these words is cut."""
    cut: list[bytes] = []

    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            with socket.create_connection(("127.0.0.1", port)) as server:
                back = threading.Thread(target=pass_on, args=(server, self.request))
                back.start()
                while data := self.request.recv(1 << 16):
                    if words in data and not cut:
                        cut.append(data)
                        break
                    server.sendall(data)
                server.shutdown(socket.SHUT_RDWR)
                back.join()

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler) as served:
        thread = threading.Thread(target=served.serve_forever)
        thread.start()
        try:
            yield served.server_address[1], cut
        finally:
            served.shutdown()
            thread.join()


def pass_on(server: socket.socket, client: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := server.recv(1 << 16):
            client.sendall(data)


@pytest.mark.slow
@pytest.mark.parametrize("question", [b"gtid_executed", b"gtid_purged"])
def test_a_connection_that_is_lost_is_made_again(
    sandbox: Sandbox, question: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    """VTGate cuts some while shards are exchanged, the first of a run among them."""
    target, catalog = Target(), discover(settings(sandbox))
    assert run(settings(sandbox), target, catalog=catalog)
    write(sandbox.cluster)
    with cutting(sandbox.mysql_port, question) as (port, cut):
        assert run({**settings(sandbox), "mysql_port": port}, target, catalog=catalog)
        assert cut, "the question did not come"
    assert "the connection was lost" in caplog.text
    check(sandbox, target)


def test_a_signal_ends_the_retries(sandbox: Sandbox) -> None:
    """No container waits for a budget of minutes."""

    class PatientTap(QuickTap):
        retry = RetryOptions(budget=60, longest_wait=0.2)

    sandbox.faults.append(Fault(error="unavailable", times=None))

    def kill() -> None:
        while len(sandbox.requests) < 2:
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=kill, daemon=True).start()
    began = time.monotonic()
    target = Target()
    with pytest.raises(SystemExit) as ended:
        run(settings(sandbox), target, tap_class=PatientTap)
    assert ended.value.code == 128 + signal.SIGTERM
    assert time.monotonic() - began < 10
    assert target.messages[-1]["type"] == "STATE"
