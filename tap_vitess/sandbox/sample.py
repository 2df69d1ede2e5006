"""Sample data: a sharded keyspace `shop` and an unsharded one, `ref`.

Guarantees: the same rows for the same number, whatever ran before.
"""

import json
import random
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

from tap_vitess.sandbox.cluster import Cluster, Column, Table
from tap_vitess.sandbox.schema import Row

CUSTOMERS = Table(
    "customers",
    (
        Column("id", "bigint unsigned", nullable=False),
        Column("email", "varchar(120)", nullable=False),
        Column("name", "varchar(80)", nullable=False),
        Column("country", "char(2)"),
        Column("birthday", "date"),
        Column("tier", "enum('basic','silver','gold')", nullable=False),
        Column("newsletter", "tinyint(1)", nullable=False),
        Column("settings", "json"),
        Column("notes", "text"),
        Column("created_at", "datetime(3)", nullable=False),
    ),
    primary_key=("id",),
    unique_keys=(("email",),),
)
ORDERS = Table(
    "orders",
    (
        Column("id", "bigint unsigned", nullable=False),
        Column("customer_id", "bigint unsigned", nullable=False),
        Column("status", "enum('new','paid','shipped','returned')", nullable=False),
        Column("total", "decimal(12,2)", nullable=False),
        Column("currency", "char(3)", nullable=False),
        Column("flags", "set('gift','express','insured')"),
        Column("placed_at", "datetime(3)", nullable=False),
        Column("updated_at", "timestamp(3)", nullable=False),
    ),
    primary_key=("id",),
)
ORDER_ITEMS = Table(
    "order_items",
    (
        Column("order_id", "bigint unsigned", nullable=False),
        Column("line", "int", nullable=False),
        Column("sku", "varchar(20)", nullable=False),
        Column("quantity", "int unsigned", nullable=False),
        Column("price", "decimal(10,2)", nullable=False),
        Column("weight_kg", "double"),
        Column("token", "varbinary(16)"),
    ),
    primary_key=("order_id", "line"),
)
PAGE_VIEWS = Table(
    "page_views",
    (
        Column("session", "varchar(32)"),
        Column("path", "varchar(200)"),
        Column("seen_at", "datetime(3)"),
        Column("seconds", "float"),
    ),
)
COUNTRIES = Table(
    "countries",
    (Column("code", "char(2)", nullable=False), Column("name", "varchar(60)", nullable=False)),
    primary_key=("code",),
)
_COUNTRIES = {
    "AT": "Österreich",
    "CL": "Chile",
    "DE": "Deutschland",
    "FR": "France",
    "JP": "日本",
    "KE": "Kenya",
    "US": "United States",
}
_NAMES = ("Ann", "Béla", "Chloé", "Dmitri", "Élise", "Farid", "Grace", "Hiro", "Ines", "Jörg")
_START = datetime(2024, 1, 1, tzinfo=UTC)


def sample_cluster(rows: int = 1000) -> Cluster:
    """A cluster with that many customers, about twice as many orders and their items."""
    cluster = Cluster()
    cluster.create_keyspace("shop", ["-80", "80-"])
    cluster.create_keyspace("ref", ["0"])
    for table in (CUSTOMERS, ORDERS, ORDER_ITEMS, PAGE_VIEWS):
        cluster.create_table("shop", table)
    cluster.create_table("ref", COUNTRIES)
    countries = [{"code": c.encode(), "name": name.encode()} for c, name in _COUNTRIES.items()]
    cluster.insert("ref", "countries", countries)
    # Reproducible numbers are wanted here, not secret ones.
    chance = random.Random(20240101)  # noqa: S311
    orders = [order(chance, number, rows) for number in range(1, 2 * rows + 1)]
    cluster.insert("shop", "customers", [customer(chance, n) for n in range(1, rows + 1)])
    cluster.insert("shop", "orders", orders)
    for row in orders:
        cluster.insert("shop", "order_items", items(chance, row))
    cluster.insert("shop", "page_views", [_page_view(chance) for _ in range(rows // 2)])
    return cluster


def customer(chance: random.Random, number: int) -> Row:
    name = chance.choice(_NAMES)
    born = _START - timedelta(days=chance.randrange(6000, 30000))
    settings = {"theme": chance.choice(["dark", "light"]), "sizes": [chance.randrange(30, 50)]}
    return {
        "id": str(number).encode(),
        "email": f"{name.casefold()}.{number}@example.com".encode(),
        "name": f"{name} {number}".encode(),
        "country": chance.choice([None, *(code.encode() for code in _COUNTRIES)]),
        "birthday": chance.choice([None, born.date().isoformat().encode()]),
        "tier": chance.choice([b"basic", b"silver", b"gold"]),
        "newsletter": chance.choice([b"0", b"1"]),
        "settings": chance.choice([None, json.dumps(settings).encode()]),
        "notes": chance.choice([None, b"", b"Rings twice.\nKnows the dog \xf0\x9f\x90\x95."]),
        "created_at": _moment(chance),
    }


def order(chance: random.Random, number: int, customers: int) -> Row:
    placed = _moment(chance)
    return {
        "id": str(number).encode(),
        "customer_id": str(chance.randrange(customers) + 1).encode(),
        "status": chance.choice([b"new", b"paid", b"shipped", b"returned"]),
        "total": _amount(chance, 100_000),
        "currency": chance.choice([b"EUR", b"USD", b"JPY"]),
        "flags": chance.choice([None, b"", b"gift", b"gift,insured"]),
        "placed_at": placed,
        "updated_at": placed,
    }


def items(chance: random.Random, order_row: Row) -> list[Row]:
    return [
        {
            "order_id": order_row["id"],
            "line": str(line).encode(),
            "sku": f"SKU-{chance.randrange(500):04}".encode(),
            "quantity": str(chance.randrange(1, 9)).encode(),
            "price": _amount(chance, 20_000),
            "weight_kg": chance.choice([None, str(chance.randrange(1, 400) / 8).encode()]),
            "token": chance.choice([None, chance.randbytes(8)]),
        }
        for line in range(1, chance.randrange(1, 4) + 1)
    ]


def live_writes(cluster: Cluster, chance: random.Random) -> Iterator[None]:
    """Each step is one random write of the shop: an insert, an update or a delete."""
    customers = len(cluster.rows("shop", "customers"))
    numbers = [int(row["id"] or 0) for row in cluster.rows("shop", "orders")]
    number = max(numbers, default=0)
    while True:
        kind = chance.choice(["insert", "update", "update", "delete"])
        if kind == "insert" or not numbers:
            number += 1
            numbers.append(number)
            new = order(chance, number, customers)
            with cluster.transaction("shop"):
                cluster.insert("shop", "orders", [new])
                cluster.insert("shop", "order_items", items(chance, new))
        else:
            key = str(chance.choice(numbers)).encode()
            if kind == "update":
                values: Row = {"status": b"shipped", "total": _amount(chance, 100_000)}
                cluster.update("shop", "orders", {"id": key}, values)
            else:
                numbers.remove(int(key))
                with cluster.transaction("shop"):
                    cluster.delete("shop", "order_items", {"order_id": key})
                    cluster.delete("shop", "orders", {"id": key})
        yield


def _page_view(chance: random.Random) -> Row:
    return {
        "session": chance.choice([None, chance.randbytes(8).hex().encode()]),
        "path": f"/p/{chance.randrange(40)}".encode(),
        "seen_at": _moment(chance),
        "seconds": str(chance.randrange(1, 200) / 4).encode(),
    }


def _moment(chance: random.Random) -> bytes:
    moment = _START + timedelta(milliseconds=chance.randrange(366 * 86_400_000))
    return moment.strftime("%Y-%m-%d %H:%M:%S.%f")[:-3].encode()


def _amount(chance: random.Random, cents: int) -> bytes:
    return f"{chance.randrange(cents) / 100:.2f}".encode()
