"""What no tablet can read or send stops the tables it is of, and no others.

By hand, for more examples: TAP_VITESS_TEST_POISONS=2000 .venv/bin/pytest tests/test_poison.py
"""

from __future__ import annotations

import logging
import os
import random
import time
from typing import Any, ClassVar

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as examples
from hypothesis import strategies as st
from support import shops
from support.shops import served
from support.taps import Target, discover, expected, run, settings

from tap_vitess.errors import RequestError, UnreadableError, VitessError
from tap_vitess.sandbox.cluster import Cluster
from tap_vitess.sandbox.schema import Column, Table
from tap_vitess.sandbox.server import Sandbox, serve
from tap_vitess.singer.tap import TapVitess
from tap_vitess.vtgate.retry import RetryOptions

SHARDS = ("-80", "80-")
NAMES = ("alpha", "beta", "delta", "epsilon", "gamma")
KINDS = ("panic", "too_large", "silent")
EXAMPLES = int(os.environ.get("TAP_VITESS_TEST_POISONS", "12"))


class AlertTap(TapVitess):
    """A tap that suspects a stream of going round in circles at once."""

    retry: ClassVar[RetryOptions] = RetryOptions(
        budget=120, longest_wait=0.01, suspect=0.05, stall=5
    )


class Shop:
    """A sandbox of some tables and the target beside it."""

    def __init__(self, sandbox: Sandbox, names: tuple[str, ...] = NAMES, **more: Any) -> None:
        self.sandbox = sandbox
        self.cluster = sandbox.cluster
        self.names = names
        self.target = Target()
        self.next = 0
        for name in names:
            columns = (Column("id", "int"), Column("n", "int"))
            self.cluster.create_table("shop", Table(name, columns, primary_key=("id",)))
            self.write(name, 6)
        self.config = settings(sandbox, **more)
        self.catalog = discover(self.config)

    def write(self, table: str, count: int = 1) -> None:
        """Insert rows, on any shard."""
        ids = range(self.next, self.next + count)
        self.next += count
        self.cluster.insert("shop", table, [{"id": b"%d" % i, "n": b"1"} for i in ids])

    def poison(self, table: str, kind: str, *, everywhere: bool = False) -> str:
        """Let the stream of a table, or any, stumble over a transaction; return its shard."""
        before = self.cluster.gtid_executed("shop")
        self.write(table)
        after = self.cluster.gtid_executed("shop")
        (shard,) = (name for name in after if before[name] != after[name])
        self.cluster.poison("shop", shard, kind, None if everywhere else table)
        return shard

    def run(self, **more: Any) -> VitessError | None:
        """Run the tap from the target's last STATE; return what it ended with."""
        try:
            assert run(
                {**self.config, **more}, self.target, catalog=self.catalog, tap_class=AlertTap
            )
        except VitessError as error:
            return error
        return None

    def missing(self) -> set[str]:
        """Name the tables whose rows are not the source's."""
        return {
            name
            for name in self.names
            if self.target.contents(f"shop-{name}") != expected(self.cluster, "shop", name)
        }

    def groups(self) -> list[set[str]]:
        """Name the tables of each group of the last STATE."""
        groups = self.target.state["bookmarks"]["vitess:shop"]["groups"]
        return [set(group["tables"]) for group in groups]


pytestmark = [pytest.mark.slow, served(shops.shop)]


@pytest.fixture
def shop(sandbox: Sandbox) -> Shop:
    """Return a shop of five tables that have been copied."""
    made = Shop(sandbox)
    assert made.run() is None
    assert not made.missing()
    return made


@pytest.mark.parametrize("kind", KINDS)
def test_one_table_is_left_behind(shop: Shop, kind: str, caplog: pytest.LogCaptureFixture) -> None:
    """The others arrive in the same run; it comes when the poison is gone."""
    shop.write("alpha", 4)
    shard = shop.poison("delta", kind)
    for name in NAMES:
        shop.write(name, 4)
    began = time.monotonic()
    with caplog.at_level(logging.ERROR):
        error = shop.run()
    assert time.monotonic() - began < 60
    assert isinstance(error, UnreadableError)
    assert error.table == "delta"
    assert "shop.delta" in str(error)
    assert f"of shard {shard}" in str(error)
    assert "set on_lost_position to `resync`" in str(error)
    assert shop.missing() == {"delta"}
    assert {"delta"} in shop.groups()
    assert len(shop.groups()) == 2
    shop.write("beta", 3)
    assert isinstance(shop.run(), UnreadableError)
    assert shop.missing() == {"delta"}
    shop.cluster.heal("shop")
    assert shop.run() is None
    assert not shop.missing()
    assert len(shop.groups()) == 1


def test_the_transaction_is_named(shop: Shop) -> None:
    """By the GTID that comes behind the position."""
    shard = shop.poison("delta", "panic")
    gtids = shop.cluster.gtid_executed("shop")[shard]
    uuid, _, last = gtids.partition(":")
    error = shop.run()
    assert f"from the transaction {uuid}:{last.rpartition('-')[2]} of shard {shard}" in str(error)


@pytest.mark.parametrize("kind", KINDS)
def test_resync_copies_the_one_table_again(shop: Shop, kind: str) -> None:
    """Its copy begins behind the poison, and exits 0."""
    shop.poison("delta", kind)
    shop.write("alpha")
    requests = len(shop.sandbox.requests)
    assert shop.run(on_lost_position="resync") is None
    assert not shop.missing()
    copies = [r for r in shop.sandbox.requests[requests:] if not r.vgtid.shard_gtids[0].gtid]
    assert {r.filter.rules[0].match for r in copies} == {"delta"}
    assert shop.run() is None


@pytest.mark.parametrize("kind", ["xa", "xa of v24"])
def test_no_table_is_to_blame(shop: Shop, kind: str) -> None:
    """XA stops every stream: that is told at once, with the transaction; `resync` goes past it."""
    shard = shop.poison("delta", kind, everywhere=True)
    gtids = shop.cluster.gtid_executed("shop")[shard]
    uuid, _, last = gtids.partition(":")
    shop.write("alpha")
    began = time.monotonic()
    error = shop.run()
    assert time.monotonic() - began < 60
    assert isinstance(error, UnreadableError)
    assert f"the transaction {uuid}:{last.rpartition('-')[2]} of shard {shard}" in str(error)
    assert "VStream cannot read XA transactions" in str(error)
    assert isinstance(shop.run(), UnreadableError)
    assert shop.run(on_lost_position="resync") is None
    assert not shop.missing()
    shop.write("beta", 2)
    assert shop.run() is None
    assert not shop.missing()


def test_xa_behind_the_stop_position_of_its_shard(shop: Shop) -> None:
    """The new copy begins behind it all the same: its position is asked for anew."""
    for _ in range(3):
        shop.poison("delta", "xa", everywhere=True)
    assert shop.run(on_lost_position="resync") is None
    assert not shop.missing()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("parallel", [1, 3])
def test_a_copy_that_cannot_pass(sandbox: Sandbox, kind: str, parallel: int) -> None:
    """It ends in seconds and holds up no other table; the next run resumes it."""
    shop = Shop(sandbox, copy_parallelism=parallel)
    ids = sorted(int(row["id"] or 0) for row in shop.cluster.rows("shop", "beta"))
    shop.cluster.poison_row("shop", "beta", {"id": b"%d" % ids[2]}, kind)
    began = time.monotonic()
    error = shop.run()
    assert time.monotonic() - began < 60
    assert isinstance(error, RequestError)
    assert "shop.beta: its copy stops at the same row" in str(error)
    assert shop.missing() == {"beta"}
    shop.write("alpha", 3)
    shop.write("beta", 3)
    assert shop.run() is not None
    assert shop.missing() == {"beta"}
    shop.cluster.heal("shop")
    assert shop.run() is None
    assert not shop.missing()


def test_a_full_table_copy_that_cannot_pass(sandbox: Sandbox) -> None:
    """It cannot be resumed, and is not begun anew again and again."""
    shop = Shop(sandbox)
    for entry in shop.catalog["streams"]:
        if entry["tap_stream_id"] == "shop-beta":
            entry["replication_method"] = "FULL_TABLE"
            for found in entry["metadata"]:
                if not found["breadcrumb"]:
                    found["metadata"]["replication-method"] = "FULL_TABLE"
    ids = sorted(int(row["id"] or 0) for row in shop.cluster.rows("shop", "beta"))
    shop.cluster.poison_row("shop", "beta", {"id": b"%d" % ids[4]}, "panic")
    error = shop.run()
    assert isinstance(error, VitessError)
    assert "beta" in str(error)
    assert shop.missing() == {"beta"}
    rules = [list(request.filter.rules) for request in shop.sandbox.requests]
    assert sum(len(found) == 1 and found[0].match == "beta" for found in rules) <= 3


def test_no_values_are_told(shop: Shop, caplog: pytest.LogCaptureFixture) -> None:
    """A panic quotes the bytes of the row."""
    shop.poison("delta", "panic")
    error = shop.run()
    assert "[0 1 0" not in f"{error} {caplog.text}"
    assert "unable to decode object elements" in str(error)


def test_a_passing_fault_while_tables_are_sifted(shop: Shop) -> None:
    """Nothing is concluded from it."""
    shop.poison("gamma", "panic")
    opened = len(shop.sandbox.requests)

    class Requests(list[Any]):
        def append(self, request: Any) -> None:
            super().append(request)
            if len(self) == opened + 4:  # two that stumble, one of no table, and this
                shop.cluster.heal("shop")

    shop.sandbox.requests = Requests(shop.sandbox.requests)
    error = shop.run()
    assert error is None or isinstance(error, UnreadableError)
    shop.cluster.heal("shop")
    assert shop.run() is None
    assert not shop.missing()


class World:
    """A shop that is written to and poisoned at random."""

    def __init__(self, shop: Shop, seed: int) -> None:
        self.shop = shop
        self.rng = random.Random(seed)
        self.kinds = dict.fromkeys(
            self.rng.sample(shop.names, self.rng.randint(1, len(shop.names) - 1)), ""
        )

    def play(self) -> None:
        """Poison some of the tables between writes of all; the others must arrive."""
        shop, rng = self.shop, self.rng
        for name in self.kinds:
            for other in rng.choices(shop.names, k=rng.randint(0, 5)):
                shop.write(other, rng.randint(1, 3))
            shop.poison(name, rng.choice(KINDS[:2]))
        for name in rng.choices(shop.names, k=rng.randint(0, 6)):
            shop.write(name)
        assert isinstance(shop.run(), UnreadableError)
        assert shop.missing() == set(self.kinds)
        self._check_groups()
        for name in rng.choices(shop.names, k=rng.randint(0, 3)):
            shop.write(name)
        if rng.random() < 0.5:
            shop.cluster.heal("shop")
            assert shop.run() is None
        else:
            assert shop.run(on_lost_position="resync") is None
        assert not shop.missing()

    def _check_groups(self) -> None:
        names = [name for group in self.shop.groups() for name in group]
        assert sorted(names) == sorted(self.shop.names)
        healthy = set(self.shop.names) - self.kinds.keys()
        assert healthy in self.shop.groups()


@given(seed=st.integers(0, 2**32))
@examples(
    max_examples=EXAMPLES,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
    print_blob=True,
)
def test_any_tables_poisoned_anywhere(seed: int) -> None:
    """The others arrive whole, these are left behind, and come when they can."""
    cluster = Cluster()
    cluster.create_keyspace("shop", SHARDS)
    with serve(cluster) as served:
        shop = Shop(served, NAMES[: random.Random(seed).randint(2, 5)])
        assert shop.run() is None
        World(shop, seed).play()
