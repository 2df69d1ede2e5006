"""A copy that cannot begin: a transaction is open on its table, or one after another is."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager

import pytest

from cluster.launcher import Cluster
from cluster.runs import Kill, Pipeline
from cluster.source import Source, quote

pytestmark = pytest.mark.cluster

ENDS_WITHIN = 10.0
WAITS = 20.0  # the tablets end a transaction after 30 s
WRITERS, EACH, HELD = 8, 10, 2.0
STARVED = 45.0
REQUESTS = (
    "select info as info from information_schema.processlist "
    "where state = 'Waiting for table metadata lock'"
)


def test_a_transaction_holds_up_a_copy(
    own_cluster: Cluster, source: Source, pipeline: Callable[..., Pipeline]
) -> None:
    """The log says what is waited for; SIGTERM ends the run; what is granted goes."""
    table = source.create("locked", "id bigint primary key, v int")
    source.insert(table, ("id", "v"), [(i, i) for i in range(100)])
    tablets = [own_cluster.tablet(source.address.keyspace, shard) for shard in ("-80", "80-")]

    def requests() -> list[str]:
        rows = [row for tablet in tablets for row in own_cluster.mysql(tablet, REQUESTS)]
        return [row["info"] for row in rows if table in row["info"]]

    with closing(source.connect()) as connection, connection.cursor() as cursor:
        cursor.execute("begin")
        cursor.execute(f"update {quote(table)} set v = v + 1 where id < 10")
        pipe = pipeline()
        outcome = pipe.run(kill=Kill(seconds=WAITS, signum=signal.SIGTERM))
        assert outcome.tap == 128 + signal.SIGTERM, outcome.log
        assert outcome.seconds < WAITS + ENDS_WITHIN
        assert "waits for a lock since" in outcome.log, outcome.log
        assert f"LOCK TABLES {table} READ" in outcome.log, outcome.log
        assert "a transaction is open there since 20" in outcome.log, outcome.log
        assert requests(), "cancelling the call has freed the request"
        cursor.execute("rollback")
    pipe.complete()
    pipe.check(table, ("id",))
    assert not requests()


@contextmanager
def _overlapping(source: Source, table: str) -> Iterator[None]:
    """Write in transactions of which one is always open on each shard, until the block is left."""
    enough = threading.Event()

    def write(writer: int) -> None:
        with closing(source.connect()) as connection, connection.cursor() as cursor:
            enough.wait(writer * HELD / WRITERS)
            while not enough.is_set():
                cursor.execute("begin")
                for number in range(writer * EACH, (writer + 1) * EACH):
                    cursor.execute(f"update {quote(table)} set v = v + 1 where id = {number}")
                enough.wait(HELD)
                cursor.execute("commit")

    with ThreadPoolExecutor(WRITERS) as pool:
        writers = [pool.submit(write, number) for number in range(WRITERS)]
        try:
            yield
        finally:
            enough.set()
        for writer in writers:
            writer.result()


def test_writers_that_overlap_starve_a_copy(
    source: Source, pipeline: Callable[..., Pipeline]
) -> None:
    """MySQL lets writers pass the request: nothing is copied meanwhile, and the log says why."""
    table = source.create("starved", "id bigint primary key, v int")
    source.insert(table, ("id", "v"), [(i, i) for i in range(WRITERS * EACH)])
    pipe = pipeline()
    with _overlapping(source, table):
        time.sleep(HELD)
        outcome = pipe.run(kill=Kill(seconds=STARVED, signum=signal.SIGTERM))
    assert outcome.tap == 128 + signal.SIGTERM, outcome.log
    assert outcome.seconds < STARVED + ENDS_WITHIN
    assert pipe.count(table) == 0, "the copy has begun"
    assert "waits for a lock since" in outcome.log, outcome.log
    assert "a transaction is open there since 20" in outcome.log, outcome.log
    pipe.complete()
    pipe.check(table, ("id",))
