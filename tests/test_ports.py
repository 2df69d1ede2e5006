"""Odd servers on VTGate's ports: silence, drops, lies and other people's networks."""

from __future__ import annotations

import contextlib
import random
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import grpc
import pytest
from support.certificates import Authority
from support.shops import served, three_tables
from support.taps import Target, expected, run, settings

from tap_vitess.config import Config
from tap_vitess.errors import AuthError, ConnectError, ProtocolError, VitessError
from tap_vitess.sandbox.server import Sandbox, serve
from tap_vitess.vtgate import grpc as client
from tap_vitess.vtgate import mysql as sql

PASSWORD, TOKEN = "correct-horse", "Bearer abc.def"
MUTATIONS = 150


@contextmanager
def answering(serve_one: Callable[[socket.socket], None]) -> Iterator[int]:
    """Serve each client of a port in a thread."""
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
    with taken, contextlib.suppress(OSError):
        serve_one(taken)
        taken.shutdown(socket.SHUT_RDWR)  # another thread may be reading


USER = {"user": "elt", "password": PASSWORD}


def config(**more: Any) -> Config:
    return Config.from_settings({"host": "127.0.0.1", "connect_timeout_seconds": 1, **more})


def packet(number: int, payload: bytes) -> bytes:
    return len(payload).to_bytes(3, "little") + bytes([number]) + payload


def greeting(plugin: bytes = b"mysql_native_password") -> bytes:
    low, high = b"\xff\xf7", b"\xff\x81"  # all but SSL; PLUGIN_AUTH among it
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


def refusal(port: int, kind: type[VitessError], **more: Any) -> tuple[str, float]:
    began = time.monotonic()
    with pytest.raises(kind) as caught, sql.connect(config(mysql_port=port, **USER, **more)):
        pass
    assert PASSWORD not in str(caught.value)
    return str(caught.value), time.monotonic() - began


# Silence


def greets_and_is_silent(taken: socket.socket) -> None:
    taken.sendall(greeting())
    while taken.recv(1024):
        pass


def drips(taken: socket.socket) -> None:
    for byte in greeting():
        taken.sendall(bytes([byte]))
        time.sleep(0.2)


@pytest.mark.parametrize("server", [greets_and_is_silent, drips])
def test_a_mysql_port_that_takes_its_time(server: Callable[[socket.socket], None]) -> None:
    """A greeting alone, and a byte at a time: the setting holds for all of it."""
    with answering(server) as port:
        said, seconds = refusal(port, ConnectError)
    assert "has let nobody in for 1 s" in said
    assert seconds < 5


def test_a_query_that_drips(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that sends a byte now and then does not hold a run for ever."""
    monkeypatch.setattr(sql, "_LONGEST_QUERY", 1.0)
    slow = threading.Event()

    def pass_on(taken: socket.socket) -> None:
        with socket.create_connection((sandbox.host, sandbox.mysql_port), timeout=2) as real:
            thread = threading.Thread(target=_copy, args=(taken, real), daemon=True)
            thread.start()
            while data := real.recv(65536):
                if slow.is_set():
                    for byte in data:
                        taken.sendall(bytes([byte]))
                        time.sleep(0.2)
                else:
                    taken.sendall(data)

    with answering(pass_on) as port, sql.connect(config(mysql_port=port)) as connection:
        assert connection.query("show keyspaces")
        slow.set()
        began = time.monotonic()
        with pytest.raises(VitessError):
            connection.query("show keyspaces")
        assert time.monotonic() - began < 5


def _copy(source: socket.socket, sink: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(65536):
            sink.sendall(data)
        sink.shutdown(socket.SHUT_WR)


# Passwords and files


@pytest.mark.parametrize("plugin", [b"mysql_clear_password", b"dialog"])
def test_the_password_is_never_sent_in_the_clear(plugin: bytes) -> None:
    received: list[bytes] = []

    def wants_it(taken: socket.socket) -> None:
        taken.sendall(greeting())
        received.append(taken.recv(4096))
        taken.sendall(packet(2, b"\xfe" + plugin + b"\0" + b"\4Password: "))
        while data := taken.recv(4096):
            received.append(data)

    with answering(wants_it) as port:
        said, _ = refusal(port, AuthError)
    assert "in clear text, which is not sent without TLS: set tls to true" in said
    assert not any(PASSWORD.encode() in data for data in received)


def test_a_server_that_asks_for_a_file() -> None:
    received: list[bytes] = []

    def wants_a_file(taken: socket.socket) -> None:
        taken.sendall(greeting())
        taken.recv(4096)
        for number in (2, 1):  # let in, and told the charset
            taken.sendall(packet(number, b"\0\0\0\2\0\0\0"))
            taken.recv(4096)
        taken.sendall(packet(1, b"\xfb/etc/passwd"))
        received.append(taken.recv(4096))

    with answering(wants_a_file) as port:
        said, _ = refusal(port, ProtocolError)
    assert "asks for a file of this machine, which no VTGate does; it was not sent" in said
    assert not any(b"root" in data for data in received)


def test_a_server_that_quotes_secrets() -> None:
    """What VTGate says is told, without what it was sent."""

    class Quoting(grpc.GenericRpcHandler):
        def service(self, details: grpc.HandlerCallDetails) -> Any:
            told = "; ".join(f"{key}={value!r}" for key, value in details.invocation_metadata)

            def refuse(_: bytes, context: grpc.ServicerContext) -> bytes:
                context.abort(grpc.StatusCode.UNAUTHENTICATED, f"not with {told}")
                raise AssertionError

            return grpc.unary_unary_rpc_method_handler(refuse)

    server = grpc.server(ThreadPoolExecutor(1), handlers=[Quoting()])
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        given = config(**USER, grpc_port=port, grpc_headers={"authorization": TOKEN})
        with pytest.raises(AuthError) as caught, client.connect(given):
            pass
    finally:
        server.stop(0)
    assert "username='elt'; password='…'; authorization='…'" in str(caught.value)


def test_no_user() -> None:
    """Who has set none is told that one is wanted, and not of a user whom nobody has named."""

    def refuses(taken: socket.socket) -> None:
        taken.sendall(greeting())
        taken.recv(4096)
        taken.sendall(packet(2, b"\xff\x15\x04#28000Access denied for user 'root'"))

    with answering(refuses) as port:
        with pytest.raises(AuthError) as caught, sql.connect(config(mysql_port=port)):
            pass
        assert "wants a user: set user and password" in str(caught.value)
        said, _ = refusal(port, AuthError)
        assert "VTGate refuses the user or the password" in said


# Bytes that are not MySQL's


def wrong(chance: random.Random, data: bytes, at: int) -> bytes:
    """Change, drop, double or add a byte."""
    return chance.choice(
        [
            data[:at] + bytes([chance.randrange(256)]) + data[at + 1 :],
            data[:at],
            data[:at] + data[at:] * 2,
            data[:at] + bytes(chance.randrange(9)) + data[at:],
        ]
    )


def column(name: bytes) -> bytes:
    texts = (b"def", b"", b"", b"", name, name)
    held = b"".join(bytes([len(text)]) + text for text in texts)
    return held + b"\x0c\x2d\0\0\1\0\0\xfd\0\0\0\0\0"


LET_IN = b"\0\0\0\2\0\0\0"
EOF = b"\xfe\0\0\2\0"
ANSWERS = [
    greeting(),
    packet(2, LET_IN),
    *[packet(1, LET_IN)] * 2,  # the charset, the workload
    packet(1, b"\1")
    + packet(2, column(b"Database"))
    + packet(3, EOF)
    + packet(4, b"\4shop")
    + packet(5, EOF),
]


@pytest.mark.parametrize("seed", range(3))
def test_a_mysql_port_that_garbles(seed: int) -> None:
    """Right answers or a sentence, whatever byte is wrong, cut, doubled or too many."""
    chance = random.Random(seed)

    def answer(taken: socket.socket) -> None:
        at = chance.randrange(sum(map(len, ANSWERS)) + 100)
        for data in ANSWERS:
            if 0 <= at < len(data):
                taken.sendall(wrong(chance, data, at))
                return
            at -= len(data)
            taken.sendall(data)
            taken.recv(4096)

    outcomes, told = set(), list[str]()
    with answering(answer) as port:
        given = config(**USER, mysql_port=port)
        for _ in range(MUTATIONS // 3):
            try:
                with sql.connect(given) as connection:
                    found = connection.query("show databases")
                    outcomes.add("right" if found == [{"Database": "shop"}] else "other")
            except VitessError as error:
                outcomes.add(type(error).__name__)
                told.append(str(error))
    assert {"right", "ConnectError"} <= outcomes
    assert PASSWORD not in "".join(told)


# Networks


def test_no_proxy_is_used(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that the environment names sees nothing: the MySQL port is not reached through it."""
    asked: list[bytes] = []

    def note(taken: socket.socket) -> None:
        asked.append(taken.recv(4096))

    with answering(note) as port:
        for name in ("grpc_proxy", "http_proxy", "https_proxy"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{port}")
        monkeypatch.delenv("no_proxy", raising=False)
        monkeypatch.delenv("no_grpc_proxy", raising=False)
        target = Target()
        run(settings(sandbox), target)
    assert target.contents("shop-alpha") == expected(sandbox.cluster, "shop", "alpha")
    assert asked == []


@pytest.mark.parametrize("host", ["::1", "[::1]"])
def test_ipv6(host: str) -> None:
    """With and without brackets, on both ports; a scope is kept."""
    with serve(three_tables(), host="::1") as sandbox:
        target = Target()
        run({**settings(sandbox), "host": host}, target)
        assert target.contents("shop-alpha") == expected(sandbox.cluster, "shop", "alpha")
    for scoped in ("fe80::1%eth0", "[fe80::1%eth0]"):
        address = config(host=scoped)
        assert (address.name, address.at(1)) == ("fe80::1%eth0", "[fe80::1%eth0]:1")


def test_ipv6_over_tls(tmp_path: Any) -> None:
    """The certificate is for the address, without brackets."""
    authority = Authority(tmp_path / "ours")
    with serve(three_tables(), host="::1", tls=authority.server("::1")) as sandbox:
        for host in ("::1", "[::1]"):
            given = {"tls": True, "tls_ca_file": authority.ca_file, "host": host}
            with client.connect(Config.from_settings({**settings(sandbox), **given})):
                pass


pytestmark = served(three_tables)
