"""A copy that cannot begin, because a transaction is open on its table."""

from __future__ import annotations

import signal
from collections.abc import Callable
from contextlib import closing

import pytest

from cluster.launcher import Cluster
from cluster.runs import Kill, Pipeline
from cluster.source import Source, quote

pytestmark = pytest.mark.cluster

ENDS_WITHIN = 10.0
WAITS = 20.0  # the tablets end a transaction after 30 s
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
