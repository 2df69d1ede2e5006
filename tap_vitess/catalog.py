"""Reads the catalog given, as the SDK does, but what many columns have alike is one object.

A keyspace of 500 tables has thousands of columns and some dozens of different properties. The SDK
makes an object of each and a dict of that again. So the objects are shared by any number of
columns: they are replaced, never changed in place. What surprised us: a copy in depth keeps what is
shared, and the SDK takes deselected members out of such a copy. So a property with members of its
own is not shared.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from singer_sdk.singerlib import (
    Catalog,
    CatalogEntry,
    Metadata,
    MetadataMapping,
    Schema,
    StreamMetadata,
)

T = TypeVar("T")


class SharedSchema(Schema):
    """A property's schema, which is looked through once."""

    def to_dict(self) -> dict[str, Any]:
        """Return the members that it has."""
        return {**self._dict}

    @functools.cached_property
    def _dict(self) -> dict[str, Any]:
        return super().to_dict()


def read(document: Mapping[str, Any]) -> Catalog | None:
    """Return the catalog; None where it is none, which the SDK has words for."""
    schemas, metadata = _once(SharedSchema.from_dict), _once(Metadata.from_dict)
    try:
        entries = [_entry(stream, schemas, metadata) for stream in document.get("streams", [])]
    except (KeyError, TypeError, AttributeError):
        return None
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
    entry.metadata = MetadataMapping(
        (breadcrumb, (metadata_of if breadcrumb else StreamMetadata.from_dict)(noted["metadata"]))
        for noted in stream["metadata"]
        for breadcrumb in [tuple(noted["breadcrumb"])]
    )
    return entry


def _once(make: Callable[[dict[str, Any]], T]) -> Callable[[Any], T]:
    """Return a function that makes one thing of all values that read alike."""
    made: dict[str, T] = {}

    def found(value: dict[str, Any]) -> T:
        text = repr(value)
        if text not in made:
            made[text] = make(value)
        return made[text]

    return found
