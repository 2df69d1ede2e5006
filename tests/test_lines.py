"""Three ways to a RECORD line, one message: by column, one by one, and through the SDK."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from support.shops import everything
from support.taps import Message, Target, run, settings

from tap_vitess.records import lines
from tap_vitess.sandbox.cluster import Cluster
from tap_vitess.sandbox.server import serve

COPIED = 40


def grown() -> Cluster:
    """Make a cluster with a column of every kind, and enough rows to go by column."""
    cluster = everything()
    full = cluster.rows("shop", "types")[0]
    rows = [{**full, "id": b"%d" % i} for i in range(100, 100 + COPIED)]
    cluster.insert("shop", "types", rows)
    empty = dict.fromkeys(full)
    cluster.insert("shop", "types", [{**empty, "id": b"%d" % i} for i in range(200, 220)])
    documents = [{"id": b"%d" % i, "document": b'{"a": [%d, null]}' % i} for i in range(100, 130)]
    cluster.insert("shop", "documents", documents)
    return cluster


def change(cluster: Cluster) -> None:
    """Insert, update and delete many rows at once; in one statement, some keys change."""
    full = cluster.rows("shop", "types")[0]
    cluster.insert("shop", "types", [{**full, "id": b"%d" % i} for i in range(300, 360)])
    updates: list[tuple[dict[str, bytes], dict[str, bytes | None]]]
    updates = [({"id": b"%d" % i}, {"text": b"new", "price": None}) for i in range(300, 340)]
    cluster.update_many("shop", "types", updates)
    updates = [({"id": b"%d" % i}, {"number": b"7"}) for i in range(100, 110)]
    updates += [({"id": b"%d" % i}, {"id": b"%d" % (i + 1000)}) for i in range(110, 130)]
    cluster.update_many("shop", "types", updates)
    cluster.delete_many("shop", "types", [{"id": b"%d" % i} for i in range(300, 330)])


def messages(cluster: Cluster, **config: Any) -> Counter[str]:
    """Run a copy and then the changes; return every record, but for what differs in each run."""
    target = Target()
    with serve(cluster) as sandbox:
        given = settings(sandbox, **config)
        run(given, target)
        change(cluster)
        run(given, target)
    found = [message for message in target.messages if message["type"] == "RECORD"]
    assert len(found) > 3 * COPIED
    rising = [message["record"]["_sdc_vitess_seq"] for message in found]
    assert rising == sorted(set(rising))
    return Counter(_told(message) for message in found)


def _told(message: Message) -> str:
    record = {
        name: value
        for name, value in message["record"].items()
        if name not in {"_sdc_vitess_seq", "_sdc_vitess_commit_time", "mapped"}
    }
    assert set(message) == {"type", "stream", "record", "version", "time_extracted"}
    deleted = record.pop("_sdc_deleted_at") is not None
    return str((message["stream"], deleted, sorted(record.items())))


@pytest.fixture(scope="module")
def by_column() -> Counter[str]:
    """Take the usual way."""
    return messages(grown())


@pytest.mark.slow
def test_few_rows_go_one_by_one(by_column: Counter[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """As if there were never enough of them."""
    taken = []
    of = lines.Lines.of

    def note(*args: Any, **options: Any) -> Any:
        taken.append(of(*args, **options))
        return taken[-1]

    monkeypatch.setattr(lines.Lines, "of", note)
    assert messages(grown()) == by_column
    assert any(taken), "the usual way is by column"
    taken.clear()
    monkeypatch.setattr(lines, "FEW_ROWS", 10_000)
    assert messages(grown()) == by_column
    assert not any(taken)


def test_stream_maps_go_through_the_sdk(by_column: Counter[str]) -> None:
    """With a column more, the other values are those of the direct way."""
    streams = [f"shop-{table}" for table in ("types", "pairs", "documents")]
    assert messages(grown(), stream_maps={s: {"mapped": "'x'"} for s in streams}) == by_column
