"""Proxies in front of a sandbox's two ports that change its answers, and servers of odd answers."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from io import BufferedIOBase
from typing import Any

import grpc

from tap_vitess.sandbox.server import Sandbox
from tap_vitess.vtgate.grpc import HEALTH, METHOD

Cells = list[bytes | None]
Rows = list[Cells]


@contextmanager
def answering(serve_one: Callable[[socket.socket], None]) -> Iterator[int]:
    """Serve each client of a port in its own thread."""
    with socket.create_server(("127.0.0.1", 0)) as server, ThreadPoolExecutor(8) as pool:

        def accept() -> None:
            with contextlib.suppress(OSError):
                while True:
                    taken, _ = server.accept()
                    pool.submit(_one, serve_one, taken)

        thread = threading.Thread(target=accept, daemon=True)
        thread.start()
        try:
            yield server.getsockname()[1]
        finally:
            server.shutdown(socket.SHUT_RDWR)
            thread.join(5)


def _one(serve_one: Callable[[socket.socket], None], taken: socket.socket) -> None:
    with taken, contextlib.suppress(OSError, EOFError):
        serve_one(taken)
        taken.shutdown(socket.SHUT_RDWR)  # another thread may be reading


# MySQL


def packet(number: int, payload: bytes) -> bytes:
    return len(payload).to_bytes(3, "little") + bytes([number]) + payload


def greeting(plugin: bytes = b"mysql_native_password") -> bytes:
    low, high = b"\xff\xf7", b"\xff\x81"  # all but SSL, including PLUGIN_AUTH
    return packet(
        0,
        b"\x0a8.0.30-Vitess\0"
        b"\1\0\0\0"
        b"saltsalt\0"
        + low
        + b"\x21\2\0"
        + high
        + b"\x15"
        + bytes(10)
        + b"saltsaltsalt\0"
        + plugin
        + b"\0",
    )


@contextmanager
def mysql_proxy(sandbox: Sandbox, change: Callable[[str, Rows], Rows | bytes]) -> Iterator[int]:
    """Serve the answers of the sandbox's MySQL port, with other rows.

    Args:
        change: takes a statement and its rows; returns other rows, or an error's text.
    """

    def pass_on(taken: socket.socket) -> None:
        with socket.create_connection((sandbox.host, sandbox.mysql_port), timeout=20) as real:
            client, server = taken.makefile("rb"), real.makefile("rb")
            taken.sendall(_packet(server))
            answer = b""
            while answer[4:5] not in {b"\0", b"\xff"}:  # the handshake
                real.sendall(_packet(client))
                taken.sendall(answer := _packet(server))
            while True:
                asked = _packet(client)
                real.sendall(asked)
                if asked[4:5] == b"\x01":
                    return
                taken.sendall(_answer(server, asked[5:].decode(), change))

    with answering(pass_on) as port:
        yield port


def _packet(source: BufferedIOBase) -> bytes:
    """Read a packet; raises EOFError if there is none."""
    head = source.read(4)
    size = int.from_bytes(head[:3], "little")
    rest = source.read(size)
    if len(head) < 4 or len(rest) < size:
        raise EOFError
    return head + rest


def _answer(server: BufferedIOBase, sql: str, change: Callable[[str, Rows], Rows | bytes]) -> bytes:
    first = _packet(server)
    if first[4:5] in {b"\0", b"\xff"}:
        return first
    columns = [first]
    while (one := _packet(server))[4:5] != b"\xfe":
        columns.append(one)
    rows: Rows = []
    while (row := _packet(server))[4:5] != b"\xfe" or len(row) > 13:
        rows.append(_cells(row[4:]))
    changed = change(sql, rows)
    if isinstance(changed, bytes):
        return packet(1, b"\xff\x51\x04#HY000" + changed)
    columns.append(one)
    written = [packet((len(columns) + 1 + i) % 256, _written(row)) for i, row in enumerate(changed)]
    end = packet((len(columns) + 1 + len(changed)) % 256, row[4:])
    return b"".join([*columns, *written, end])


def _cells(data: bytes) -> Cells:
    cells: Cells = []
    at = 0
    while at < len(data):
        size, at = data[at], at + 1
        if size == 0xFB:
            cells.append(None)
            continue
        if size > 0xFB:
            wide = {0xFC: 2, 0xFD: 3, 0xFE: 8}[size]
            size, at = int.from_bytes(data[at : at + wide], "little"), at + wide
        cells.append(data[at : at + size])
        at += size
    return cells


def _written(cells: Cells) -> bytes:
    return b"".join(
        b"\xfb" if cell is None else b"\xfd" + len(cell).to_bytes(3, "little") + cell
        for cell in cells
    )


# gRPC


@contextmanager
def grpc_proxy(
    sandbox: Sandbox, change: Callable[[Iterator[bytes]], Iterator[bytes]]
) -> Iterator[int]:
    """Serve the sandbox's gRPC port with other responses.

    Args:
        change: takes the responses of a call and yields others; raising `Broken` ends the call.
    """
    with grpc.insecure_channel(f"{sandbox.host}:{sandbox.grpc_port}") as channel:
        stream: grpc.UnaryStreamMultiCallable[bytes, bytes] = channel.unary_stream(METHOD)
        health: grpc.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(HEALTH)

        def pass_on(request: bytes, context: grpc.ServicerContext) -> Iterator[bytes]:
            call = stream(request, metadata=tuple(context.invocation_metadata()))
            if not context.add_callback(lambda: (call.cancel(), None)[1]):
                return
            try:
                yield from change(call)
            except Broken as broken:
                call.cancel()
                context.abort(broken.code, broken.details)
            except grpc.RpcError as error:
                context.abort(error.code(), error.details() or "")

        def check(request: bytes, context: grpc.ServicerContext) -> bytes:
            return health(request, metadata=tuple(context.invocation_metadata()))

        class Handler(grpc.GenericRpcHandler):
            def service(self, details: grpc.HandlerCallDetails) -> Any:
                if details.method == METHOD:
                    return grpc.unary_stream_rpc_method_handler(pass_on)
                return grpc.unary_unary_rpc_method_handler(check)

        server = grpc.server(ThreadPoolExecutor(8), handlers=[Handler()])
        port = server.add_insecure_port("127.0.0.1:0")
        server.start()
        try:
            yield port
        finally:
            server.stop(0).wait()


class Broken(Exception):  # noqa: N818 - it is an order, not a fault of the proxy
    """Ends a call."""

    def __init__(self, code: grpc.StatusCode, details: str) -> None:
        super().__init__(details)
        self.code, self.details = code, details
