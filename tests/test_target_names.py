"""Tables that may become one in a target, and exclude_tables that leave nothing out."""

from __future__ import annotations

import logging
import re
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest
from support.findings import brief, look
from support.shops import served
from support.taps import QuickTap, Target, discover, run, settings

from tap_vitess.config import Config
from tap_vitess.doctor.examine import examine
from tap_vitess.errors import ConnectError, RequestError
from tap_vitess.sandbox.cluster import Cluster
from tap_vitess.sandbox.schema import Column, Table
from tap_vitess.sandbox.server import Sandbox
from tap_vitess.survey.streams import doubts
from tap_vitess.vstream import MemoryState, Vitess, changes, consume, events

ID = (Column("id", "int", nullable=False),)


def two_keyspaces() -> Cluster:
    cluster = Cluster()
    for keyspace, tables in {
        "main": ("dup", "own"),
        "customer": ("dup", "orders"),
        "seq": ("ids", "plain"),
    }.items():
        cluster.create_keyspace(keyspace, ["0"])
        for name in tables:
            comment = "made anew, was vitess_sequence" if name == "ids" else ""
            cluster.create_table(keyspace, Table(name, ID, ("id",), comment=comment))
    return cluster


pytestmark = served(two_keyspaces)


@pytest.mark.parametrize(
    ("streams", "words"),
    [
        (["main-dup", "customer-dup"], ["customer-dup and main-dup may be one table"]),
        (["ks-User", "ks-USER"], ["ks-USER and ks-User may be one table"]),
        (["main__dup", "customer__dup"], []),
        (["ks-a", "ks-b", "other-c"], []),
        (["ks-a-x", "ks-b-x"], ["ks-a-x and ks-b-x may be one", "ks-a-x, ks-b-x: many targets"]),
        (["my-ks-t"], ["my-ks-t: many targets split"]),
        (
            [f"{ks}-t{n}" for ks in "ab" for n in range(7)],
            ["a-t0 and b-t0, .*a-t4 and b-t4 and 2 more may be"],
        ),
    ],
)
def test_what_a_target_may_make_of_names(streams: list[str], words: list[str]) -> None:
    found = [what for what, _ in doubts(streams)]
    assert len(found) == len(words)
    for what, wanted in zip(found, words, strict=True):
        assert re.search(wanted, what), what


@contextmanager
def warnings(caplog: pytest.LogCaptureFixture) -> Iterator[list[str]]:
    """Give what is warned of inside the block, once it has ended."""
    caplog.clear()
    found: list[str] = []
    with caplog.at_level(logging.WARNING):
        yield found
    found += [record.getMessage() for record in caplog.records]


@pytest.mark.slow
def test_discovery_and_the_doctor_tell_of_tables_that_may_become_one(
    sandbox: Sandbox, caplog: pytest.LogCaptureFixture
) -> None:
    """Of those that are read, under the names that they have."""
    with warnings(caplog) as told:
        discover(settings(sandbox), QuickTap)
    assert [what for what in told if "customer-dup and main-dup may be one table" in what] == told
    assert len(told) == 1
    assert brief(look(sandbox)) == {("WARNING", "stream_name", "VTGate")}
    for more in ({"exclude_tables": ["main.dup"]}, {"stream_name": "{keyspace}__{table}"}):
        with warnings(caplog) as told:
            discover(settings(sandbox, **more), QuickTap)
        assert told == []
        assert brief(look(sandbox, **more)) == set()
    chosen = {"main": {"dup": ("id",)}, "customer": {"dup": ("id",)}}
    found = Config.from_settings(settings(sandbox))
    assert brief(examine(found, chosen)) == {("WARNING", "stream_name", "VTGate")}
    assert brief(examine(found, {"main": {"dup": ("id",)}})) == set()


MATCHES_NOTHING = "matches no table, so it leaves none out"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("more", "unmatched"),
    [
        ({"exclude_tables": ["main.dup", "main.onw"]}, ["main.onw"]),
        ({"exclude_tables": ["main.dup", "*.DUP", "shpo.*"]}, ["*.DUP", "shpo.*"]),
        # Those of keyspaces that are not looked at may match.
        ({"exclude_tables": ["main.dup", "customer.*"]}, []),
        ({"exclude_tables": ["customer.secret", "cust*.x"], "keyspaces": ["main"]}, []),
        ({"exclude_tables": ["*.secret"], "keyspaces": ["main"]}, ["*.secret"]),
        ({"exclude_tables": ["customer.x"], "tables": ["main.*"]}, []),
        ({"exclude_tables": ["main.x"], "tables": ["main.*"]}, ["main.x"]),
    ],
)
def test_an_exclusion_that_matches_nothing(
    more: dict[str, Any],
    unmatched: list[str],
    sandbox: Sandbox,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A run warns of it where it discovers, and so does the doctor."""
    with warnings(caplog) as told:
        discover(settings(sandbox, **more), QuickTap)
    expected = [f"setting exclude_tables: {pattern} {MATCHES_NOTHING}" for pattern in unmatched]
    assert [what.partition(";")[0] for what in told if MATCHES_NOTHING in what] == expected
    found = [f.what.partition(";")[0] for f in look(sandbox, **more) if f.check == "config"]
    assert found == expected


def test_discovery_tries_the_grpc_port(
    sandbox: Sandbox, capsys: pytest.CaptureFixture[str]
) -> None:
    """It ends with the sentence of a run, and no catalog is written."""
    wrong = settings(sandbox, grpc_port=1)
    with pytest.raises(ConnectError, match=r"gRPC port 127.0.0.1:1 does not answer") as caught:
        QuickTap(config=wrong).run_discovery()
    assert capsys.readouterr().out == ""
    catalog = discover(settings(sandbox))
    with pytest.raises(ConnectError) as of_run:
        run(wrong, Target(), catalog=catalog)
    assert str(of_run.value) == str(caught.value)
    QuickTap(config=settings(sandbox)).run_discovery()
    assert '"main-own"' in capsys.readouterr().out


def test_the_library_says_which_keyspaces_there_are(sandbox: Sandbox) -> None:
    """On each level; the first needs no MySQL port, and tells the error alone without one."""
    where = Vitess(sandbox.host, grpc_port=sandbox.grpc_port, mysql_port=sandbox.mysql_port)
    levels: list[Callable[[], object]] = [
        lambda: list(events(where, ["nope.t"])),
        lambda: list(events(where, ["nope.t"], copy=True)),
        lambda: list(changes(where, ["nope.t"])),
        lambda: consume(where, {"nope.t": dict}, print, state=MemoryState()),
    ]
    for level in levels:
        with pytest.raises(RequestError, match=r"nope: .*; it knows customer, main, seq"):
            level()
    with socket.create_server(("127.0.0.1", 0)) as taken:
        nobody = taken.getsockname()[1]
    with pytest.raises(RequestError, match="VTGate does not know the keyspace"):
        list(events(replace(where, mysql_port=nobody), ["nope.t"]))


def test_the_doctor_leaves_alone_what_the_settings_exclude(sandbox: Sandbox) -> None:
    """No keyspace is looked at of which no table can be let in."""
    looked_at = {f.place.keyspace for f in look(sandbox, exclude_tables=["customer.*"])}
    assert looked_at == {None, "main", "seq"}
    looked_at = {f.place.keyspace for f in look(sandbox, tables=["main.o*"])}
    assert looked_at == {None, "main"}
    assert ("ERROR", "keyspace", "nope") in brief(
        look(sandbox, keyspaces=["main", "nope"], exclude_tables=["nope.*"])
    )


def test_a_table_is_a_sequence_by_a_part_of_its_comment(sandbox: Sandbox) -> None:
    """As to Vitess, which sends nothing of it but its next values."""
    found = discover(settings(sandbox, keyspaces=["seq"]), QuickTap)
    assert [stream["tap_stream_id"] for stream in found["streams"]] == ["seq-plain"]


def test_the_doctor_asks_replicas_where_there_is_no_primary(sandbox: Sandbox) -> None:
    """For all but the throttler, of which no replica tells; without a primary it is not asked."""
    for keyspace in ("main", "customer", "seq"):
        sandbox.cluster.shard(keyspace, "0").tablet_type = "REPLICA"
    more: dict[str, Any] = {"tablet_type": "REPLICA", "exclude_tables": ["main.dup"]}
    assert brief(look(sandbox, **more)) == set()
