"""Publishes the rows of an outbox table: HOST:GRPC_PORT:MYSQL_PORT STATE_KEYSPACE

The application inserts a row into shop.outbox in the transaction that the event is about, and
deletes old rows at any time. A message can come twice, with the same id. The position is kept in
Vitess: if you start a second consumer, the first one ends.
"""

import json
import sys
from dataclasses import dataclass
from typing import Any

from tap_vitess.vstream import Batch, Vitess, VitessTableState, consume


@dataclass
class Message:
    id: int
    topic: str
    payload: dict[str, Any]


def publish(message: Message) -> None:  # here to stdout; in production to a broker that confirms it
    line = {"id": message.id, "topic": message.topic, "payload": message.payload}
    print(json.dumps(line), flush=True)


def flush(batch: Batch) -> None:
    for change in batch.changes:
        if change.operation in {"copy", "insert"} and isinstance(change.after, Message):
            publish(change.after)


host, grpc_port, mysql_port = sys.argv[1].split(":")
vitess = Vitess(host, int(grpc_port), int(mysql_port))
state = VitessTableState(vitess, sys.argv[2], "outbox")
consume(vitess, {"shop.outbox": Message}, flush, state, batch_seconds=0, idle_seconds=1)
