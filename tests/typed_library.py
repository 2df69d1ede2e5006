"""Uses of the library's public names, checked by mypy: what a caller writes must have types.

It is not run. `assert_type` fails in mypy when a type is another one.
"""

from __future__ import annotations

import threading
from collections.abc import Generator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal, assert_type

import msgspec
import pydantic

from tap_vitess.vstream import (
    Batch,
    Boundary,
    Change,
    Consumed,
    Event,
    FieldEvent,
    FileState,
    MemoryState,
    PositionLostError,
    Query,
    RetryOptions,
    RowEvent,
    StateStore,
    TableCopied,
    Tls,
    Vgtid,
    Vitess,
    VitessError,
    VitessTableState,
    achanges,
    aconsume,
    changes,
    consume,
    events,
    join_states,
    rows_as,
    state_at,
)

vitess = Vitess(
    "vtgate.example.com",
    grpc_port=443,
    mysql_port=3306,
    user="u",
    password="p",
    tls=Tls(ca_file="ca.pem"),
    grpc_headers={"authorization": "Basic"},
    tablet_type="REPLICA",
    cells=["zone1"],
    on_lost_position="resync",
)
Vitess("h", tls=True)
Vitess("h", shards=["-40", "c0-"])
Vitess("h", shards=1)  # type: ignore[arg-type]
assert_type(join_states("{}", "{}"), str)
Vitess("h", tablet_type="replica")  # type: ignore[arg-type]
vitess.host = "other"  # type: ignore[misc]


@dataclass
class Order:
    """A row."""

    id: int


class Model(pydantic.BaseModel):
    """A row."""

    id: int


class Struct(msgspec.Struct):
    """A row."""

    id: int


def level_1() -> None:
    found = events(vitess, ["shop.orders"], position=None, copy=False, stop=lambda: False)
    assert_type(found, Generator[Event, None, None])
    for event in found:
        assert_type(event.at, datetime | None)
        if isinstance(event, RowEvent):
            assert_type(event.after, dict[str, Any] | None)
        elif isinstance(event, FieldEvent):
            assert_type(event.columns[0].is_key, bool)


def level_2() -> None:
    try:
        for item in changes(vitess, ["shop.orders"], state=None, follow=True, poll_seconds=5):
            match item:
                case Change():
                    assert_type(item.operation, Literal["copy", "insert", "update", "delete"])
                    assert_type(item.key, Mapping[str, Any])
                    assert_type(item.after, dict[str, Any] | None)
                case TableCopied():
                    assert_type(item.version, int)
                case Boundary():
                    assert_type(item.state, str)
                    assert_type(item.position, Vgtid | None)
    except PositionLostError as error:
        assert_type(error.table, str | None)
    except VitessError:
        raise


def flush(batch: Batch) -> None:
    assert_type(batch.state, str | None)
    assert_type(batch.changes, list[Change[Any]])
    for item in batch.items:
        assert_type(item, Change[Any] | TableCopied)


class Store:
    """A store of the caller's own."""

    def load(self) -> str | None:
        return None

    def save(self, state: str) -> None:
        pass

    def close(self) -> None:
        pass


class NoStore:
    """One that lacks a method."""

    def load(self) -> str | None:
        return None


def level_3() -> None:
    stores: list[StateStore] = [
        Store(),
        MemoryState(state_at(vitess, ["shop.orders"])),
        FileState("state.json"),
        VitessTableState(vitess, "main", "name", table="states", retry=RetryOptions(budget=60)),
    ]
    tables = {
        "shop.orders": Order,
        "shop.customers": dict,
        "shop.order_items": rows_as(Order, columns={"id": "order_id"}, unknown="ignore"),
        "shop.models": Model.model_validate,
    }
    done = consume(
        vitess, tables, flush, stores[0], batch_rows=10, batch_seconds=0.5, stop=threading.Event()
    )
    assert_type(done, Consumed)
    assert_type(done.reason, Literal["finished", "stopped", "signal"])
    consume(vitess, {"a.b": Struct}, flush, Store(), converter=msgspec.convert, follow=False)
    consume(vitess, {"a.b": dict}, flush, NoStore())  # type: ignore[arg-type]
    consume(vitess, {"a.b": dict}, lambda: None, Store())  # type: ignore[arg-type]
    assert_type(rows_as(Order)({"id": 1}), Order)


query = Query("shop.orders", columns=("id", "total"), where="tenant_id = 7")
assert_type(query.columns, tuple[str, ...] | None)
Query("shop.orders", columns=["id"])  # type: ignore[arg-type]
query.where = None  # type: ignore[misc]
for item in changes(vitess, [query, "shop.customers"]):
    assert_type(item, Change[dict[str, Any]] | TableCopied | Boundary)
consume(vitess, {query: dict}, print, MemoryState())
consume(vitess, {query: dict, Query("shop.customers"): dict}, print, MemoryState())
state_at(vitess, [query])


async def uses_of_asyncio() -> None:
    async for item in achanges(vitess, ["shop.orders", query]):
        assert_type(item, Change[dict[str, Any]] | TableCopied | Boundary)

    async def flush(batch: Batch) -> None:
        print(batch.changes)

    assert_type(await aconsume(vitess, {"shop.orders": dict}, flush, MemoryState()), Consumed)
    await aconsume(vitess, {"shop.orders": dict}, {"shop.orders": flush}, MemoryState())
    await aconsume(vitess, {"shop.orders": dict}, print, MemoryState())  # type: ignore[arg-type]


consume(vitess, {"shop.orders": dict}, {"shop.orders": print}, MemoryState(), timezone=UTC)
Vitess("h", minimize_skew=True, cell_preference="onlyspecified")
Vitess("h", cell_preference="best")  # type: ignore[arg-type]
