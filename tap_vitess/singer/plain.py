"""Streams without stream maps skip the SDK's mapper and catalog objects, with the same result.

A keyspace of 500 tables has thousands of columns, but only some dozens of different properties. The
SDK turns each into an object, and that into a dict again. So `read` shares the objects among all
equal columns: they are replaced, never changed in place. What surprised us: a deep copy still
shares them, and the SDK removes deselected members from such a copy. So a property with members is
not shared.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from singer_sdk.mapper import PluginMapper, SameRecordTransform
from singer_sdk.singerlib import (
    Catalog,
    CatalogEntry,
    Metadata,
    MetadataMapping,
    Schema,
    StreamMetadata,
)

from tap_vitess.errors import CatalogError
from tap_vitess.settings import short
from tap_vitess.singer.columns import AUTOMATIC
from tap_vitess.singer.shape import why_not

T = TypeVar("T")


class SharedSchema(Schema):
    """A property's schema that makes its dict only once."""

    def to_dict(self) -> dict[str, Any]:
        """Return the members that it has."""
        return {**self._dict}

    @functools.cached_property
    def _dict(self) -> dict[str, Any]:
        return super().to_dict()


def read(document: Mapping[str, Any]) -> Catalog:
    """Return the catalog.

    Raises:
        CatalogError: it is not one.
    """
    streams = document.get("streams")
    if not isinstance(streams, list):
        raise CatalogError("the catalog has no list of streams: discover again")
    schemas, metadata = _once(SharedSchema.from_dict), _once(Metadata.from_dict)
    entries: list[CatalogEntry] = []
    for number, stream in enumerate(streams, start=1):
        if why := why_not(stream):
            raise CatalogError(
                f"stream {number} of the catalog is not as discovery writes it ({short(why)}): "
                "discover again"
            )
        if (name := stream.get("stream")) and name != stream["tap_stream_id"]:
            raise CatalogError(
                f"stream {stream['tap_stream_id']}: the catalog calls it {name}, too: discover "
                "again; the setting stream_name decides what streams are called"
            )
        entries.append(_entry(stream, schemas, metadata))
    return Catalog((entry.tap_stream_id, entry) for entry in entries)


def _entry(
    stream: Mapping[str, Any],
    schema_of: Callable[[Any], Schema],
    metadata_of: Callable[[Any], Metadata],
) -> CatalogEntry:
    schema = stream["schema"]
    entry = CatalogEntry.from_dict(
        {**stream, "schema": {**schema, "properties": {}}, "metadata": []}
    )
    entry.schema.properties = {
        name: Schema.from_dict(prop) if prop.keys() & {"properties", "items"} else schema_of(prop)
        for name, prop in schema["properties"].items()
    }
    for noted in stream["metadata"]:
        # Singer's place for the user's choice; the SDK only reads the entry's own member.
        if not noted["breadcrumb"] and (method := noted["metadata"].get("replication-method")):
            entry.replication_method = method
    entry.metadata = MetadataMapping(
        (breadcrumb, (metadata_of if breadcrumb else StreamMetadata.from_dict)(noted["metadata"]))
        for noted in stream["metadata"]
        for breadcrumb in [tuple(noted["breadcrumb"])]
    )
    return entry


def _once(make: Callable[[dict[str, Any]], T]) -> Callable[[Any], T]:
    """Return `make` with a cache: equal values share one result."""
    made: dict[str, T] = {}

    def found(value: dict[str, Any]) -> T:
        text = repr(value)
        if text not in made:
            made[text] = make(value)
        return made[text]

    return found


def changes_nothing(mapper: PluginMapper) -> bool:
    """Return whether the settings neither map nor flatten any stream."""
    flattening = mapper.flattening_options
    return (
        not mapper.stream_maps_dict
        and mapper.default_mapper_type is SameRecordTransform
        and not (flattening and flattening.enabled)
    )


def is_plain(entry: CatalogEntry) -> bool:
    """Return whether the SDK's map of an unmapped stream is its schema without deselected columns.

    It is not if a column has properties of its own, which are selected separately, or if the entry
    contradicts itself.
    """
    root, properties = entry.metadata.get(()), entry.schema.properties
    if not isinstance(root, StreamMetadata) or properties is None:
        return False
    return (
        (entry.stream or entry.tap_stream_id) == entry.tap_stream_id
        and bool(entry.key_properties or not root.table_key_properties)
        and all(map(_is_flat, properties.values()))
        and all(_is_automatic(entry.metadata, column) for column in AUTOMATIC & properties.keys())
    )


def _is_flat(prop: Schema) -> bool:
    return prop.properties is None and prop.anyOf is None and isinstance(prop.type, str | list)


def _is_automatic(metadata: MetadataMapping, column: str) -> bool:
    """Return whether a catalog leaves one of our own columns as discovered."""
    found = metadata.get(("properties", column))
    return found is not None and found.inclusion == Metadata.InclusionType.AUTOMATIC


def selected(schema: dict[str, Any], wanted: frozenset[str]) -> dict[str, Any]:
    """Return a schema of flat properties without those that are not wanted."""
    properties = schema["properties"]
    kept = {name: prop for name, prop in properties.items() if name in wanted}
    if len(kept) == len(properties):
        return schema
    found = {**schema, "properties": kept}
    if "required" in schema:
        found["required"] = [n for n in schema["required"] if n in kept or n not in properties]
    return found
