"""Geometries nested deeper than orjson can write: they come all the same, with all other tables."""

from __future__ import annotations

import json
import struct
from typing import Any

import orjson
import pytest
from support.shops import served, shop, table
from support.taps import Target, run, settings

from tap_vitess.sandbox.cluster import Cluster
from tap_vitess.sandbox.schema import Column
from tap_vitess.sandbox.server import Sandbox
from tap_vitess.values.geometry import geojson

DEPTHS = (1, 99, 100, 101, 126, 127, 128, 130, 199)


def nested(depth: int) -> bytes:
    """Return a point in so many collections."""
    collection = b"\1" + struct.pack("<II", 7, 1)
    return bytes(4) + collection * depth + b"\1" + struct.pack("<I2d", 1, 10.0, 20.0)


def deep() -> Cluster:
    """Make a table of such geometries, and one that lies beside it."""
    cluster = shop(table("alpha", Column("place", "geometry")), table("beta"))
    rows = [{"id": b"%d" % depth, "name": b"n", "place": nested(depth)} for depth in DEPTHS]
    cluster.insert("shop", "alpha", rows)
    cluster.insert("shop", "beta", [{"id": b"1", "name": b"n"}])
    return cluster


@served(deep)
@pytest.mark.parametrize("more", [{}, {"stream_maps": {"shop-alpha": {"name": "name"}}}])
def test_every_depth_comes(sandbox: Sandbox, more: dict[str, Any]) -> None:
    """Written by ourselves and through the SDK's maps, copied and changed."""
    target = Target()
    run(settings(sandbox, **more), target)
    sandbox.cluster.insert("shop", "alpha", [{"id": b"0", "name": b"n", "place": nested(150)}])
    run(settings(sandbox, **more), target)
    found = {row["id"]: row["place"] for row in target.contents("shop-alpha")}
    depths = {0: 150, **{depth: depth for depth in DEPTHS}}
    assert found == {key: geojson(nested(depth)) for key, depth in depths.items()}
    assert len(target.records("shop-beta")) == 1


def test_why_they_are_written_otherwise() -> None:
    """One day orjson may take them."""
    with pytest.raises(orjson.JSONEncodeError):
        orjson.dumps(geojson(nested(130)))
    assert json.loads(json.dumps(geojson(nested(130)))) == geojson(nested(130))
