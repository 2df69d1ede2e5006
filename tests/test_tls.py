"""TLS and credentials, with a real CA and real servers.

What is not shown here: TLS on the MySQL port, and so a whole run over TLS. mysql-mimic's TLS hangs
when a client is quick. tests/cluster/test_tls.py shows both on a real VTGate.
"""

from __future__ import annotations

import base64
import datetime as dt
import json
import logging
import os
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import pytest
from support.certificates import Authority
from support.taps import Target, run, settings

from tap_vitess._proto.binlogdata_pb2 import VEvent
from tap_vitess.config import Config
from tap_vitess.errors import AuthError, ConfigError, ConnectError, VitessError
from tap_vitess.protocol.request import RequestOptions, first_request
from tap_vitess.sandbox.cluster import Cluster
from tap_vitess.sandbox.schema import Column, Table
from tap_vitess.sandbox.server import Sandbox, Tls, serve
from tap_vitess.vtgate import grpc as client
from tap_vitess.vtgate import mysql as sql

pytestmark = pytest.mark.slow

USER, PASSWORD = "elt", "correct-horse"
LONG_AGO = dt.datetime(2020, 1, 1, tzinfo=dt.UTC)
PORTS = pytest.mark.parametrize("connect", [client.connect, sql.connect], ids=["grpc", "mysql"])

Connect = Callable[[Config], AbstractContextManager[Any]]


@pytest.fixture(scope="module")
def ours(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("tls") / "ours")


@pytest.fixture(scope="module")
def theirs(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("tls") / "theirs")


def cluster() -> Cluster:
    made = Cluster()
    made.create_keyspace("shop", ["-80", "80-"])
    columns = (Column("id", "int", nullable=False), Column("v", "varchar(20)"))
    made.create_table("shop", Table("item", columns, primary_key=("id",)))
    made.insert("shop", "item", [{"id": b"%d" % i, "v": b"x"} for i in range(20)])
    return made


@contextmanager
def serving(tls: Tls | None) -> Iterator[Sandbox]:
    with serve(cluster(), username=USER, password=PASSWORD, tls=tls) as sandbox:
        yield sandbox


def given(sandbox: Sandbox, **more: Any) -> dict[str, Any]:
    return settings(
        sandbox, **{"user": USER, "password": PASSWORD, "connect_timeout_seconds": 3, **more}
    )


def refused(connect: Connect, config: dict[str, Any], kind: type[VitessError]) -> str:
    """Connect in vain; return the one sentence, in whose traceback nothing secret stands."""
    with pytest.raises(kind) as caught, connect(Config.from_settings(config)):
        pass
    assert PASSWORD not in "".join(traceback.format_exception(caught.value))
    assert "\n" not in str(caught.value)
    return str(caught.value)


# What works


@pytest.mark.parametrize("mutual", [False, True])
def test_a_stream_over_tls(ours: Authority, *, mutual: bool) -> None:
    """With and without a client certificate."""
    tls = ours.server("127.0.0.1", clients=ours if mutual else None)
    more = ours.client() if mutual else {}
    with serving(tls) as sandbox:
        config = Config.from_settings(given(sandbox, tls=True, tls_ca_file=ours.ca_file, **more))
        assert shards_that_answer(config) == {"-80", "80-"}


def shards_that_answer(config: Config) -> set[str]:
    """Open a stream, and see which shards tell where they are."""
    found: set[str] = set()
    request = first_request("shop", (), RequestOptions())
    with client.connect(config) as opened, opened.stream(request) as responses:
        for response in responses:
            for event in response:
                assert isinstance(event, VEvent)
                found |= {e.shard for e in event.vgtid.shard_gtids if e.gtid != "current"}
            if len(found) == 2:
                break
    return found


def test_a_name_that_is_not_the_hosts(ours: Authority) -> None:
    with serving(ours.server("vtgate.example.com")) as sandbox:
        config = given(
            sandbox, tls=True, tls_ca_file=ours.ca_file, tls_server_name="vtgate.example.com"
        )
        with client.connect(Config.from_settings(config)):
            pass


def test_a_basic_authorization_header(ours: Authority) -> None:
    """As PlanetScale wants it on gRPC, beside user and password on the MySQL port."""
    basic = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
    with serving(ours.server("127.0.0.1")) as sandbox:
        config = given(sandbox, tls=True, tls_ca_file=ours.ca_file)
        headers = {"Authorization": f"Basic {basic}"}
        made = Config.from_settings({**config, "grpc_headers": headers})
        assert shards_that_answer(made) == {"-80", "80-"}
        headers = {"Authorization": "Basic " + basic[::-1]}
        words = refused(client.connect, {**config, "grpc_headers": headers}, AuthError)
    assert "settings user and password" in words
    assert basic[::-1] not in words


# What does not


@pytest.mark.parametrize("case", ["other authority", "system's", "expired", "other name"])
def test_servers_that_are_not_trusted(ours: Authority, theirs: Authority, case: str) -> None:
    """Each is told apart, and the setting is named."""
    server = ours.server("127.0.0.1")
    more: dict[str, Any] = {"tls_ca_file": ours.ca_file}
    match case:
        case "other authority":
            more = {"tls_ca_file": theirs.ca_file}
            words = f"from another authority than that of tls_ca_file ({theirs.ca_file})"
        case "system's":
            more = {}
            words = "from another authority than one of the system's: set tls_ca_file"
        case "expired":
            server = ours.server("127.0.0.1", not_before=LONG_AGO, not_after=LONG_AGO)
            words = "has expired"
        case "other name":
            server = ours.server("vtgate.example.com")
            words = "is not for 127.0.0.1: set tls_server_name"
    with serving(server) as sandbox:
        assert words in refused(client.connect, given(sandbox, tls=True, **more), ConnectError)


def test_a_wrong_server_name(ours: Authority) -> None:
    with serving(ours.server("127.0.0.1")) as sandbox:
        config = given(sandbox, tls=True, tls_ca_file=ours.ca_file, tls_server_name="nope.example")
        assert "is not for nope.example" in refused(client.connect, config, ConnectError)


@pytest.mark.parametrize("of_theirs", [False, True])
def test_client_certificates(ours: Authority, theirs: Authority, *, of_theirs: bool) -> None:
    """None at all, and one of an authority that the server does not trust."""
    more = theirs.client() if of_theirs else {}
    words = "refuses the client certificate" if of_theirs else "wants a client certificate"
    with serving(ours.server("127.0.0.1", clients=ours)) as sandbox:
        config = given(sandbox, tls=True, tls_ca_file=ours.ca_file, **more)
        found = refused(client.connect, config, ConnectError)
    assert words in found
    assert "tls_cert_file" in found


def test_no_tls_to_a_grpc_port_that_wants_it(ours: Authority) -> None:
    for clients in (None, ours):
        with serving(ours.server("127.0.0.1", clients=clients)) as sandbox:
            words = refused(client.connect, given(sandbox), ConnectError)
        assert "the server wants TLS: set tls to true" in words


@pytest.mark.parametrize(
    ("connect", "words"),
    [
        (client.connect, "does not speak TLS on this port: check the port, or set tls to false"),
        (sql.connect, "does not offer TLS: set it up on VTGate"),
    ],
    ids=["grpc", "mysql"],
)
def test_tls_to_a_plain_server(ours: Authority, connect: Connect, words: str) -> None:
    """Nobody may take the credentials by saying that there is no TLS."""
    with serving(None) as sandbox:
        config = given(sandbox, tls=True, tls_ca_file=ours.ca_file)
        assert words in refused(connect, config, ConnectError)


def test_the_grpc_port_given_for_mysql(ours: Authority) -> None:
    """A TLS server that waits for the client to speak is not waited for beyond the setting."""
    with serving(ours.server("127.0.0.1")) as sandbox:
        config = given(sandbox, mysql_port=sandbox.grpc_port, connect_timeout_seconds=0.5)
        start = time.monotonic()
        assert "mysql_port" in refused(sql.connect, config, ConnectError)
        assert time.monotonic() - start < 5


@pytest.mark.parametrize(
    ("connect", "tls"),
    [(client.connect, False), (client.connect, True), (sql.connect, False)],
    ids=["grpc", "grpc-tls", "mysql"],
)
def test_static_auth(ours: Authority, connect: Connect, *, tls: bool) -> None:
    """A wrong user and a wrong password."""
    more = {"tls": True, "tls_ca_file": ours.ca_file} if tls else {}
    with serving(ours.server("127.0.0.1") if tls else None) as sandbox:
        with connect(Config.from_settings(given(sandbox, **more))):
            pass
        for wrong in ({"user": "other"}, {"password": PASSWORD + "-wrong"}):
            words = refused(connect, given(sandbox, **more, **wrong), AuthError)
            assert "check the settings user and password" in words


@PORTS
@pytest.mark.parametrize(
    ("name", "words"),
    [("tls_ca_file", "setting tls_ca_file"), ("tls_cert_file", "tls_cert_file and tls_key_file")],
)
def test_files_that_are_no_pem(
    ours: Authority, connect: Connect, tmp_path: Path, name: str, words: str
) -> None:
    """A wrong file is named before anybody is asked."""
    junk = tmp_path / "junk.pem"
    junk.write_text("no certificate")
    files = {"tls_ca_file": ours.ca_file, **ours.client(), name: str(junk)}
    with serving(ours.server("127.0.0.1")) as sandbox:
        assert words in refused(connect, given(sandbox, tls=True, **files), ConfigError)


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"password": "pässword-" + PASSWORD}, "setting password"),
        ({"user": "us\ner"}, "setting user"),
        ({"grpc_headers": {"a b": PASSWORD}}, "setting grpc_headers: the header 'a b'"),
        ({"grpc_headers": {"x-bin": PASSWORD}}, "setting grpc_headers"),
        ({"grpc_headers": {"grpc-timeout": PASSWORD}}, "setting grpc_headers"),
        ({"grpc_headers": {"authorization": PASSWORD + "\n"}}, "setting grpc_headers"),
    ],
)
def test_what_grpc_cannot_carry(more: dict[str, Any], words: str) -> None:
    """Python's gRPC would quote all of the metadata."""
    config = {"host": "h", "user": USER, "password": PASSWORD, **more}
    with pytest.raises(ConfigError, match=words) as caught:
        Config.from_settings(config)
    assert PASSWORD not in str(caught.value)


# Secrets


def test_secrets_are_in_no_log(ours: Authority, caplog: pytest.LogCaptureFixture) -> None:
    """Not even with everything logged, in a run that works and in connections that do not."""
    caplog.set_level(logging.DEBUG)
    header = "geheim-header"
    with serving(None) as plain, serving(ours.server("127.0.0.1")) as secure:
        assert run(given(plain, grpc_headers={"x-key": header}), Target())
        more = {"tls": True, "tls_ca_file": ours.ca_file, "grpc_headers": {"x-key": header}}
        made = Config.from_settings(given(secure, **more))
        assert shards_that_answer(made) == {"-80", "80-"}
        assert PASSWORD not in repr(made)
        assert header not in repr(made)
        for connect in (client.connect, sql.connect):
            refused(connect, given(plain, user="other"), AuthError)
            refused(connect, given(plain, **more), ConnectError)
        refused(client.connect, given(secure, **more, user="other"), AuthError)
    assert PASSWORD not in caplog.text
    assert header not in caplog.text


@pytest.mark.parametrize("wrong", [{}, {"tls": True}, {"user": "other"}])
def test_secrets_are_in_no_output(tmp_path: Path, wrong: dict[str, Any]) -> None:
    """The whole command, at its most talkative."""
    with serving(None) as sandbox:
        path = tmp_path / "config.json"
        path.write_text(json.dumps(given(sandbox, **wrong)))
        done = subprocess.run(
            [sys.executable, "-m", "tap_vitess", "--config", str(path)],
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
            env={**os.environ, "TAP_VITESS_LOGLEVEL": "DEBUG"},
        )
    assert done.returncode == (1 if wrong else 0), done.stderr
    assert PASSWORD not in done.stderr + done.stdout
