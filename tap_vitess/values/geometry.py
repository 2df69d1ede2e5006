"""GEOMETRY and its kinds -> GeoJSON, EWKT, EWKB; the Python object is MySQL's bytes. Pure.

A value is the SRID in four bytes (little endian) and then WKB, in a copy as in the binlog.
Surprising: whatever the axis order of the SRS, MySQL stores x before y, which for a geographic
one (4326) is longitude before latitude. GeoJSON, EWKT and EWKB need exactly that, so coordinates
keep their order; `ST_AsText` without `axis-order=long-lat` prints them the other way round.
MySQL's geometries have two dimensions, and empty ones are empty collections.
"""

from __future__ import annotations

import json
import struct
from dataclasses import dataclass
from typing import Any

import orjson

from tap_vitess.values.types import Arrow, Declared, ValueType

_POINT, _COLLECTION = 1, 7
_LEAST = 9  # bytes of the shortest geometry
_NAMES = {
    1: "Point",
    2: "LineString",
    3: "Polygon",
    4: "MultiPoint",
    5: "MultiLineString",
    6: "MultiPolygon",
    7: "GeometryCollection",
}
_PARTS = {4: 1, 5: 2, 6: 3}  # a collection of one kind -> the kind of its parts
_HAS_SRID = 0x20000000
_MAX_DEPTH = 200
_DEEP = 100  # collections in collections; orjson takes 127

GeoJson = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Geometry:
    """A kind (WKB's number) and its parts.

    parts: coordinates as in GeoJSON; for a collection, geometries.
    """

    kind: int
    parts: list[Any]


def geometry(column: Declared) -> ValueType:
    """Enter GEOMETRY, POINT and the other kinds."""
    write = {"geojson": _written, "wkt": ewkt, "wkb": ewkb}[column.options.geometry_as]
    kind = "object" if column.options.geometry_as == "geojson" else "string"
    arrow = Arrow(lambda pa: pa.binary(), _ewkb, extension="geoarrow.wkb")
    return ValueType({"type": kind}, write, bytes, arrow)


def _written(raw: bytes) -> GeoJson | orjson.Fragment:
    """Return GeoJSON that orjson can write; it refuses deep nesting."""
    document = geojson(raw)
    if len(raw) < _DEEP * _LEAST or _depth(document) < _DEEP:
        return document
    return orjson.Fragment(json.dumps(document, separators=(",", ":")))


def _depth(document: GeoJson) -> int:
    """Count how deep collections are nested."""
    depth, level = 0, [document]
    while level := [part for one in level for part in one.get("geometries", ())]:
        depth += 1
    return depth


def geojson(raw: bytes) -> GeoJson:
    """Return a GeoJSON object; an SRID other than 0 becomes the member `crs`, as in ST_AsGeoJSON.

    Raises:
        ValueError: the bytes are not a MySQL geometry.
    """
    srid, shape = _read(raw)
    document = _geojson(shape)
    if srid:
        document["crs"] = {"type": "name", "properties": {"name": f"EPSG:{srid}"}}
    return document


def ewkt(raw: bytes) -> str:
    """Return WKT, after `SRID=n;` for an SRID other than 0.

    Raises:
        ValueError: the bytes are not a MySQL geometry.
    """
    srid, shape = _read(raw)
    return f"SRID={srid};{_wkt(shape)}" if srid else _wkt(shape)


def ewkb(raw: bytes) -> str:
    """Return WKB in hex, with PostGIS' flag and the SRID for an SRID other than 0.

    Raises:
        ValueError: the bytes are not a MySQL geometry.
    """
    return _ewkb(raw).hex().upper()


def _ewkb(raw: bytes) -> bytes:
    srid, _ = _read(raw)
    wkb = raw[4:]
    if srid:
        order = "<" if wkb[0] else ">"
        (kind,) = struct.unpack_from(order + "I", wkb, 1)
        wkb = wkb[:1] + struct.pack(order + "II", kind | _HAS_SRID, srid) + wkb[5:]
    return wkb


def _read(raw: bytes) -> tuple[int, Geometry]:
    try:
        (srid,) = struct.unpack_from("<I", raw)
        shape, end = _shape(raw, 4, 0)
    except (struct.error, IndexError, KeyError):
        raise ValueError("not a geometry: it is cut, or of an unknown kind") from None
    if end != len(raw):
        raise ValueError("not a geometry: bytes are left over")
    return srid, shape


def _shape(raw: bytes, at: int, depth: int) -> tuple[Geometry, int]:
    """Read the geometry at an offset; return it and the offset after it."""
    if raw[at] > 1 or depth > _MAX_DEPTH:
        raise ValueError("not a geometry")
    order = "<" if raw[at] else ">"
    (kind,) = struct.unpack_from(order + "I", raw, at + 1)
    at += 5
    if kind == _POINT:
        return Geometry(kind, list(struct.unpack_from(order + "2d", raw, at))), at + 16
    parts: list[Any] = []
    part: Any
    (count,) = struct.unpack_from(order + "I", raw, at)
    at += 4
    if kind == 2:
        parts, at = _line(raw, at, order, count)
    else:
        for _ in range(count):
            if kind == 3:
                (points,) = struct.unpack_from(order + "I", raw, at)
                part, at = _line(raw, at + 4, order, points)
            else:
                found, at = _shape(raw, at, depth + 1)
                if kind != _COLLECTION and found.kind != _PARTS[kind]:
                    raise ValueError("not a geometry: a part is of the wrong kind")
                part = found if kind == _COLLECTION else found.parts
            parts.append(part)
    return Geometry(kind, parts), at


def _line(raw: bytes, at: int, order: str, points: int) -> tuple[list[Any], int]:
    end = at + 16 * points
    if end > len(raw):
        raise ValueError("not a geometry: it is cut")
    numbers = iter(struct.unpack_from(f"{order}{2 * points}d", raw, at))
    return [[x, y] for x, y in zip(numbers, numbers, strict=True)], end


def _geojson(shape: Geometry) -> GeoJson:
    name = _NAMES[shape.kind]
    if shape.kind == _COLLECTION:
        return {"type": name, "geometries": [_geojson(part) for part in shape.parts]}
    return {"type": name, "coordinates": shape.parts}


def _wkt(shape: Geometry) -> str:
    name = _NAMES[shape.kind].upper()
    if not shape.parts:
        return f"{name} EMPTY"
    if shape.kind == _COLLECTION:
        return f"{name}({','.join(map(_wkt, shape.parts))})"
    if shape.kind == 4:
        return f"{name}({','.join(f'({_wkt_list(point)})' for point in shape.parts)})"
    return f"{name}({_wkt_list(shape.parts)})"


def _wkt_list(parts: list[Any]) -> str:
    """Write a point or a list of points without brackets, and deeper lists with them."""
    if isinstance(parts[0], float):
        return " ".join(repr(number).removesuffix(".0") for number in parts)
    if isinstance(parts[0][0], float):
        return ",".join(map(_wkt_list, parts))
    return ",".join(f"({_wkt_list(part)})" for part in parts)
