"""TLS and static authentication on both ports of a real VTGate.

It is VTGate that is started again with other flags; the tap is told of it by settings alone.
"""

from __future__ import annotations

import datetime as dt
import json
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import pytest
from support.certificates import Authority

from cluster.conftest import SHARDED
from cluster.launcher import HOST, Cluster
from cluster.runs import Pipeline
from cluster.source import Source
from tap_vitess.config import Config
from tap_vitess.doctor.examine import examine
from tap_vitess.doctor.findings import Severity
from tap_vitess.errors import AuthError, ConnectError, RetriableError, VitessError
from tap_vitess.sandbox.server import Tls
from tap_vitess.survey.keyspace import Survey, position
from tap_vitess.vstream import Change, Vitess, changes
from tap_vitess.vstream import Tls as LibraryTls
from tap_vitess.vtgate import grpc as client
from tap_vitess.vtgate import mysql as sql

pytestmark = pytest.mark.cluster

USER, PASSWORD = "elt", "correct-horse"
LONG_AGO = dt.datetime(2020, 1, 1, tzinfo=dt.UTC)
PORTS: tuple[Callable[[Config], AbstractContextManager[Any]], ...] = (client.connect, sql.connect)


@pytest.fixture
def ours(tmp_path: Path) -> Authority:
    return Authority(tmp_path / "ours")


@pytest.fixture
def theirs(tmp_path: Path) -> Authority:
    return Authority(tmp_path / "theirs")


@contextmanager
def secure_gate(cluster: Cluster, tls: Tls | None) -> Iterator[None]:
    """Let VTGate ask for the user on both ports, and for TLS, when it is given."""

    def file(name: str, content: bytes) -> str:
        path = cluster.folder / name
        path.write_bytes(content)
        path.chmod(0o644)
        return str(path)

    users = [{"Username": USER, "Password": PASSWORD}]
    grpc_users = file("grpc_users.json", json.dumps(users).encode())
    entry = {USER: [{"Password": PASSWORD, "UserData": USER}]}
    mysql_users = file("mysql_users.json", json.dumps(entry).encode())
    flags = ["--grpc_auth_mode static", f"--grpc_auth_static_password_file {grpc_users}"]
    # The flag that comes last wins over the script's `none`.
    flags += ["--mysql_auth_server_impl static", f"--mysql_auth_server_static_file {mysql_users}"]
    if tls is not None:
        certificate, key = file("gate.pem", tls.certificate), file("gate.key", tls.private_key)
        flags += [f"--grpc_cert {certificate}", f"--grpc_key {key}"]
        flags += [f"--mysql_server_ssl_cert {certificate}", f"--mysql_server_ssl_key {key}"]
        flags += ["--mysql_server_require_secure_transport"]
        if tls.client_ca is not None:
            ca = file("clients.pem", tls.client_ca)
            flags += [f"--grpc_ca {ca}", f"--mysql_server_ssl_ca {ca}"]
    with cluster.gate_with(*flags):
        yield
    cluster.wait_served(SHARDED)


def settings(cluster: Cluster, **more: Any) -> dict[str, Any]:
    return {
        "host": HOST,
        "grpc_port": cluster.grpc_port,
        "mysql_port": cluster.mysql_port,
        "user": USER,
        "password": PASSWORD,
        "connect_timeout_seconds": 5,
        **more,
    }


def wait_served(config: dict[str, Any]) -> None:
    """Wait until every shard is served, over the very connection that is tested."""
    made = Config.from_settings(config)
    deadline = time.monotonic() + 60
    while True:
        try:
            Survey(made, SHARDED, "PRIMARY").ask(position)
            return
        except (ConnectError, RetriableError):
            if time.monotonic() > deadline:
                raise
            time.sleep(0.3)


def refused(config: dict[str, Any], kind: type[VitessError]) -> list[str]:
    """Connect to both ports in vain; return the two sentences."""
    sentences = []
    for connect in PORTS:
        with pytest.raises(kind) as caught, connect(Config.from_settings(config)):
            pass
        assert PASSWORD not in str(caught.value)
        sentences.append(str(caught.value))
    return sentences


def check(config: dict[str, Any], words: str) -> None:
    """See that both ports say the same."""
    for sentence in refused(config, ConnectError):
        assert words in sentence


def test_server_tls_and_static_auth(
    source: Source,
    own_cluster: Cluster,
    pipeline: Callable[..., Pipeline],
    ours: Authority,
    theirs: Authority,
) -> None:
    """A run and the doctor over TLS; each thing that may be wrong, on both ports."""
    table = source.create("secure", "id bigint primary key, v varchar(20)")
    source.insert(table, ["id", "v"], [(i, "x") for i in range(50)])
    config = settings(own_cluster, tls=True, tls_ca_file=ours.ca_file)
    with secure_gate(own_cluster, ours.server(HOST)):
        wait_served(config)
        pipe = pipeline(**config)
        outcome = pipe.run()
        assert outcome.tap == 0, outcome.log
        assert pipe.count(table) == 50
        assert PASSWORD not in outcome.log
        library = Vitess(
            HOST,
            own_cluster.grpc_port,
            own_cluster.mysql_port,
            USER,
            PASSWORD,
            tls=LibraryTls(ca_file=ours.ca_file),
        )
        rows = [c for c in changes(library, [f"{SHARDED}.{table}"]) if isinstance(c, Change)]
        assert len(rows) == 50
        found = examine(Config.from_settings({**config, "tables": [f"{SHARDED}.{table}"]}))
        # An older Vitess is warned of by its version.
        assert [f for f in found if f.severity > Severity.INFO and f.check != "version"] == []
        check({**config, "tls_ca_file": theirs.ca_file}, "from another authority than that of")
        check({**config, "tls_server_name": "nope.example"}, "is not for nope.example")
        check(settings(own_cluster), "the server wants TLS: set tls to true")
        without = {n: v for n, v in config.items() if n != "tls_ca_file"}
        check(without, "from another authority than one of the system's")
        for wrong in ({"user": "other"}, {"password": "wrong-" + PASSWORD}):
            for sentence in refused({**config, **wrong}, AuthError):
                assert "check the settings user and password" in sentence
    source.reconnect()


def test_client_certificates(own_cluster: Cluster, ours: Authority, theirs: Authority) -> None:
    """Mutual TLS: with one, without one, and with one from another authority."""
    config = settings(own_cluster, tls=True, tls_ca_file=ours.ca_file)
    with secure_gate(own_cluster, ours.server(HOST, clients=ours)):
        wait_served({**config, **ours.client()})
        found = examine(Config.from_settings({**config, **ours.client(), "keyspaces": [SHARDED]}))
        assert {f.check for f in found if f.severity is Severity.OK} >= {"grpc", "mysql", "stream"}
        check(config, "the server wants a client certificate: set tls_cert_file")
        check({**config, **theirs.client()}, "the server refuses the client certificate")


@pytest.mark.parametrize(
    ("names", "more", "words"),
    [
        ([HOST], {"not_before": LONG_AGO, "not_after": LONG_AGO}, "has expired"),
        (["vtgate.example.com"], {}, f"is not for {HOST}: set tls_server_name"),
    ],
    ids=["expired", "other name"],
)
def test_certificates_that_are_not_good(
    own_cluster: Cluster, ours: Authority, names: list[str], more: dict[str, Any], words: str
) -> None:
    """An expired one; one of another name, which tls_server_name mends."""
    config = settings(own_cluster, tls=True, tls_ca_file=ours.ca_file)
    with secure_gate(own_cluster, ours.server(*names, **more)):
        check(config, words)
        if not more:
            wait_served({**config, "tls_server_name": names[0]})


def test_a_gate_without_tls(own_cluster: Cluster, ours: Authority) -> None:
    """TLS is never given up in silence; static authentication works without it."""
    with secure_gate(own_cluster, None):
        wait_served(settings(own_cluster))
        config = settings(own_cluster, tls=True, tls_ca_file=ours.ca_file)
        grpc_words, mysql_words = refused(config, ConnectError)
        assert "does not speak TLS on this port" in grpc_words
        assert "does not offer TLS" in mysql_words
        for sentence in refused(settings(own_cluster, password="wrong"), AuthError):
            assert "check the settings user and password" in sentence
