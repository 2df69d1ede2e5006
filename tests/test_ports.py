"""Odd servers on VTGate's ports: silence, drops, lies and other people's networks."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import pytest
from support.certificates import Authority
from support.proxies import Rows, answering, greeting, mysql_proxy, packet
from support.shops import served, three_tables
from support.taps import Target, expected, run, settings

from tap_vitess.config import Config
from tap_vitess.errors import AuthError, ConnectError, ProtocolError, VitessError
from tap_vitess.sandbox.server import Sandbox, serve
from tap_vitess.survey.keyspace import Survey, shard_facts
from tap_vitess.vtgate import grpc as client
from tap_vitess.vtgate import mysql as sql

PASSWORD, TOKEN = "correct-horse", "Bearer abc.def"


USER = {"user": "elt", "password": PASSWORD}


def config(**more: Any) -> Config:
    return Config.from_settings({"host": "127.0.0.1", "connect_timeout_seconds": 1, **more})


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


@pytest.mark.slow
@pytest.mark.parametrize("server", [greets_and_is_silent, drips])
def test_a_mysql_port_that_takes_its_time(server: Callable[[socket.socket], None]) -> None:
    """A greeting alone, and a byte at a time: the setting holds for all of it."""
    with answering(server) as port:
        said, seconds = refusal(port, ConnectError)
    assert "has accepted no login for 1 s" in said
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


def test_an_answer_that_makes_no_sense(sandbox: Sandbox) -> None:
    """A sentence without what the answer is, wherever it is asked."""

    def clock(statement: str, rows: Rows) -> Rows:
        return [[b"value-nobody-may-log"]] if "unix_timestamp" in statement else rows

    with mysql_proxy(sandbox, clock) as port:
        survey = Survey(config(mysql_port=port), "shop", "PRIMARY")
        with pytest.raises(ProtocolError) as caught:
            survey.ask(shard_facts, "-80")
    assert f"127.0.0.1:{port} gave an answer that makes no sense" in str(caught.value)
    assert "value-nobody-may-log" not in str(caught.value)


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
