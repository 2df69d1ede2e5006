"""What a stream of a catalog must look like for the code that reads it later. Pure.

The SDK accepts members of any type, and fails over them in the middle of a run.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, Literal, TypedDict

import orjson

Texts = list[str] | None
Text = str | None

# Of a column, and of the stream (which has more members, see below).
Note = TypedDict(
    "Note",
    {
        "inclusion": Literal["available", "automatic", "unsupported"] | None,
        "selected": bool | None,
        "selected-by-default": bool | None,
        "table-key-properties": Texts,
        "valid-replication-keys": Texts,
        "replication-key": Text,
        "replication-method": Text,
        "forced-replication-method": Text,
        "schema-name": Text,
    },
    total=False,
)


class Noted(TypedDict):
    """A member of a stream's metadata."""

    breadcrumb: list[str]
    metadata: Note


Property = TypedDict(
    "Property",
    {
        "type": str | list[str] | None,
        "format": Text,
        "properties": dict[str, dict[str, Any]] | None,
        "anyOf": list[dict[str, Any]] | None,
        "x-sql-datatype-properties": dict[str, Any] | None,
    },
    total=False,
)


class _Properties(TypedDict):
    properties: dict[str, Property]


class Schema(_Properties, total=False):
    """The schema of a stream."""

    type: str | list[str] | None
    required: Texts


class _Stream(TypedDict):
    tap_stream_id: str
    schema: Schema
    metadata: list[Noted]


class Stream(_Stream, total=False):
    """A stream of a catalog; members that are not named here are ignored."""

    stream: Text
    key_properties: Texts
    replication_key: Text
    replication_method: Text


@functools.cache
def _converter() -> tuple[Callable[..., Any], type[Exception]]:
    import msgspec  # noqa: PLC0415 - 10 ms, for those who give a catalog

    return msgspec.convert, msgspec.ValidationError


def why_not(stream: object) -> str | None:
    """Return what is wrong with a stream, and where; None if nothing is."""
    convert, refused = _converter()
    try:
        convert(stream, Stream)
        # Halves of surrogate pairs, and anything else that JSON cannot hold.
        orjson.dumps(stream, default=str)
    except (refused, ValueError, TypeError, RecursionError) as error:
        return str(error)
    return None
