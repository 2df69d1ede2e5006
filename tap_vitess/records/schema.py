"""A stream's properties, and how they follow a table that is altered. Pure.

A FIELD event has the columns of one shard's table. Every record must fit the last SCHEMA message,
whatever shard it comes from:

    new column             is added, nullable; left out with a warning where the catalog deselects
                           columns, because then somebody has chosen what may leave the database
    dropped column         stays in the SCHEMA, later records lack it: absent, not null
    other type that fits   nothing (INT to BIGINT); a DECIMAL's precision and scale grow
    any other type         the property becomes a string and values come as text, from every
                           shard: shards are altered at different times, and targets cannot
                           store a property that is sometimes this and sometimes that
    key column gone or of  an error: the target's rows could no longer be found
    another type

A new SCHEMA message is due when `fit` says so, before the next RECORD. Later runs repeat that
SCHEMA, whatever the catalog says (`altered`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from tap_vitess.errors import CatalogError
from tap_vitess.protocol.items import Fields
from tap_vitess.values.types import DATATYPE_PROPERTIES, ValueType

JsonSchema = dict[str, Any]


class StreamSchema:
    """The wanted properties of a stream.

    name: the stream's. properties: those of the SCHEMA message, including the tap's own columns;
    replaced, never changed in place. version: rises with every change of them.
    """

    def __init__(
        self,
        stream: str,
        properties: Mapping[str, JsonSchema],
        key: Iterable[str],
        own: Iterable[str],
        deselected: Iterable[str],
        *,
        closed: bool = False,
        altered: Mapping[str, JsonSchema] | None = None,
    ) -> None:
        """Start from a catalog, and from the properties that earlier runs have altered.

        Args:
            own: the names of the tap's own columns.
            deselected: the catalog's other properties.
            closed: whether to leave out all other columns without a warning.
            altered: the `altered` of the last run.
        """
        self._catalog: dict[str, JsonSchema] = dict(properties)
        self.properties: dict[str, JsonSchema] = dict(properties)
        self.name = stream
        self._key = frozenset(key)
        self._own = frozenset(own)
        self._deselected = frozenset(deselected)
        self._closed = closed
        self._given = {n: told for n, told in (altered or {}).items() if n not in self._own}
        self._carried: set[str] = set()  # by the FIELD events of this run
        for name, told in self._given.items():
            if name in self.properties:
                self.properties[name] = _agreed(told, self.properties[name])
            elif not (self._closed or self._deselected):
                self.properties[name] = told
        self.version = int(self.properties != self._catalog)

    @property
    def wanted(self) -> frozenset[str]:
        """The names of the properties."""
        return frozenset(self.properties)

    @property
    def charsets(self) -> dict[str, str]:
        """The charsets of columns that the catalog notes, because FIELD events may lack them."""
        noted = {n: prop.get(DATATYPE_PROPERTIES, {}) for n, prop in self._catalog.items()}
        return {name: found["charset"] for name, found in noted.items() if "charset" in found}

    @property
    def is_altered(self) -> bool:
        """Whether `altered` may have any properties."""
        return bool(self.version or self._given)

    @property
    def altered(self) -> dict[str, JsonSchema]:
        """The properties that differ from the catalog's.

        Those of earlier runs stay, but for a new column that has been dropped again.
        """
        if not self.is_altered:
            return {}
        told = {n: prop for n, prop in self.properties.items() if self._catalog.get(n) != prop}
        silent = {n: prop for n, prop in self._given.items() if n not in self.properties}
        return {n: prop for n, prop in (silent | told).items() if not self._is_gone(n)}

    def _is_gone(self, name: str) -> bool:
        known = self._catalog.keys() | self._deselected | self._carried
        return bool(self._carried) and name not in known

    def fit(self, fields: Fields, types: Mapping[str, ValueType]) -> bool:
        """Adapt to the columns of a FIELD event; return whether a new SCHEMA message is due.

        Raises:
            CatalogError: a key column is gone or of another type, or a new column has the name of
                one of the tap's own.
        """
        where = f"stream {self.name} on shard {fields.shard}"
        named = [field for field in fields.fields if field.column_type]
        if named and (missing := sorted(self._key - {field.name for field in named})):
            raise CatalogError(
                f"{where}: the key column {', '.join(missing)} is gone; discover again",
                table=fields.table,
            )
        self._carried |= {field.name for field in named}
        properties = dict(self.properties)
        for field in named:
            if field.name in self._own:
                raise CatalogError(
                    f"{where}: the new column {field.name} has the name of a column that the tap "
                    "adds: leave the table out by the setting exclude_tables",
                    table=fields.table,
                )
            known = properties.get(field.name)
            if known is not None:
                fitted = _fitted(known, types[field.name].schema)
                if fitted is not known and field.name in self._key:
                    raise CatalogError(
                        f"{where}: the key column {field.name} is a {field.column_type} now, which "
                        "does not fit the catalog; discover again, and copy the table again",
                        table=fields.table,
                    )
                properties[field.name] = fitted
            elif not (self._closed or self._deselected):
                properties[field.name] = types[field.name].nullable()
        if properties == self.properties:
            return False
        self.properties = properties
        self.version += 1
        return True

    def left_out(self, fields: Fields) -> frozenset[str]:
        """Return the columns that neither the catalog nor the SCHEMA knows."""
        if self._closed:
            return frozenset()
        names = frozenset(field.name for field in fields.fields if field.column_type)
        return names - self.properties.keys() - self._deselected

    def as_text(self, types: Mapping[str, ValueType]) -> frozenset[str]:
        """Return the columns whose values must become text to fit their property."""
        return frozenset(
            name
            for name, found in types.items()
            if name in self.properties
            and "string" in _types(self.properties[name])
            and not _types(found.schema) <= _types(self.properties[name])
        )


def is_property(value: object) -> bool:
    """Return whether a value is a valid property, by its JSON types and its column's digits."""
    if not isinstance(value, dict):
        return False
    types, noted = value.get("type", "string"), value.get(DATATYPE_PROPERTIES, {})
    named = [types] if isinstance(types, str) else types
    if not isinstance(named, list) or not isinstance(noted, dict):
        return False
    digits = [noted[name] for name in ("precision", "scale") if name in noted]
    return all(isinstance(n, str) for n in named) and all(isinstance(n, int) for n in digits)


def _types(schema: JsonSchema) -> frozenset[str]:
    """Return the JSON types that a schema allows, except null; if it names none, all."""
    types = schema.get("type", ["string", "number", "integer", "boolean", "object", "array"])
    names: set[str] = {types} if isinstance(types, str) else set(types)
    if "number" in names:
        names.add("integer")
    return frozenset(names - {"null"})


def _fitted(known: JsonSchema, found: JsonSchema) -> JsonSchema:
    """Return the property that holds the values of both; `known` itself if it does."""
    if _types(found) <= _types(known):
        if known.get("format") in {None, found.get("format")}:
            return _with_digits(known, found)
    elif _types(found) == {"number", "integer"} and _types(known) == {"integer"}:
        return {**known, "type": ["number", "null"]}
    elif "string" in _types(known) and "format" not in known:
        return known
    return {"type": ["string", "null"]}


def _agreed(told: JsonSchema, found: JsonSchema) -> JsonSchema:
    """Return the property that holds the values of an earlier run's and the catalog's.

    It is the catalog's, `found`, if each holds the values of the other."""
    fitted = _fitted(told, found)
    return found if fitted is told and _fitted(found, told) is found else fitted


def _with_digits(known: JsonSchema, found: JsonSchema) -> JsonSchema:
    """Widen a DECIMAL's property to hold both precisions and scales."""
    had, has = known.get(DATATYPE_PROPERTIES, {}), found.get(DATATYPE_PROPERTIES, {})
    if not {"precision", "scale"} <= had.keys() & has.keys():
        return known
    scale = max(had["scale"], has["scale"])
    whole = max(had["precision"] - had["scale"], has["precision"] - has["scale"])
    if (whole + scale, scale) == (had["precision"], had["scale"]):
        return known
    return {**known, DATATYPE_PROPERTIES: {**had, "precision": whole + scale, "scale": scale}}
