"""Rows as the caller's own classes. Pure.

A dataclass is strict: a column without a field and a field without a column are errors, because
such a change of the table should be noticed. Values are passed on unchanged. To have them checked,
pass a converter, or a callable of pydantic or msgspec.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import MISSING, fields, is_dataclass
from typing import Any, Literal, TypeVar

from tap_vitess.errors import ConfigError, MappingError
from tap_vitess.values.decode import Row

RowT = TypeVar("RowT")
Converter = Callable[[Row, Any], Any]
Mapper = Callable[[Row], Any]


def rows_as(
    cls: type[RowT],
    *,
    columns: Mapping[str, str] | None = None,
    unknown: Literal["error", "ignore"] = "error",
) -> Callable[[Row], RowT]:
    """Return a function that makes a dataclass of a row.

    A field's column is the one that `columns` names, else the one in its metadata's "column", else
    the one with the field's name.

    Args:
        cls: the dataclass.
        columns: the column of a field, by the field's name.
        unknown: what to do about columns without a field.

    Raises:
        ConfigError: it is not a dataclass, or `columns` names a field that it does not have. The
            returned function raises MappingError for a row that does not fit.
    """
    if not (isinstance(cls, type) and is_dataclass(cls)):
        raise ConfigError(
            f"{_name(cls)} is not a dataclass: give a converter, or a function of a row"
        )
    found = {f.name: f.metadata.get("column", f.name) for f in fields(cls) if f.init}
    if strange := sorted((columns or {}).keys() - found.keys()):
        raise ConfigError(f"{cls.__name__} has no field {', '.join(strange)}")
    found |= columns or {}
    optional = {
        f.name for f in fields(cls) if f.default is not MISSING or f.default_factory is not MISSING
    }
    field_of = {column: field for field, column in found.items()}
    needed = [column for field, column in found.items() if field not in optional]

    def make(row: Row) -> RowT:
        if unknown == "error" and (extra := [name for name in row if name not in field_of]):
            raise MappingError(
                f"{cls.__name__} has no field for the column {', '.join(extra)}: add one, or "
                'ignore the column with rows_as(..., unknown="ignore")'
            )
        if missing := [name for name in needed if name not in row]:
            raise MappingError(
                f"the row has no column {', '.join(missing)}, of which {cls.__name__} wants a "
                "field: give the field a default, or name its column in rows_as(..., columns=...)"
            )
        return cls(**{field_of[name]: value for name, value in row.items() if name in field_of})

    return make


def mapper_of(target: Any, converter: Converter | None) -> Mapper:
    """Return the function that converts a row for a consumer.

    Args:
        target: dict, a dataclass, another class if there is a converter, or any callable.
        converter: makes an object of a row and a class, such as msgspec.convert.

    Raises:
        ConfigError: the target is none of these.
    """
    if target is dict:
        return as_it_is
    if isinstance(target, type) and converter is not None:
        return lambda row: converter(row, target)
    if isinstance(target, type):
        return rows_as(target)
    if callable(target):
        found: Mapper = target
        return found
    raise ConfigError(f"{_name(target)} is neither dict, nor a class, nor a function of a row")


def as_it_is(row: Row) -> Row:
    """Return the row."""
    return row


def _name(target: Any) -> str:
    return str(getattr(target, "__name__", target))
