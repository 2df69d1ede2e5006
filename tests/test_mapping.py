"""Rows as the caller's classes: strict dataclasses, renamed columns, converters."""

from __future__ import annotations

from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

import msgspec
import pydantic
import pytest

from tap_vitess.vstream import ConfigError, MappingError, rows_as
from tap_vitess.vstream.mapping import mapper_of


@dataclass
class Order:
    """One field has a column of another name, one a default."""

    number: int = field(metadata={"column": "id"})
    total: Decimal
    note: str | None = None
    made: bool = field(default=True, init=False)


ROW = {"id": 7, "total": Decimal("1.50")}


def test_a_dataclass() -> None:
    """Columns become fields, by name or by metadata; a default stands in for a column."""
    make = rows_as(Order)
    assert make(ROW) == Order(7, Decimal("1.50"))
    assert make({**ROW, "note": None}) == Order(7, Decimal("1.50"), None)


def test_columns_by_name() -> None:
    """A mapping goes before the metadata."""
    make = rows_as(Order, columns={"number": "nr", "total": "sum"})
    assert make({"nr": 1, "sum": Decimal(2)}) == Order(1, Decimal(2))


def test_a_column_without_a_field() -> None:
    """It is named, unless it may be passed over; its value is not."""
    with pytest.raises(MappingError, match="Order has no field for the column more") as error:
        rows_as(Order)({**ROW, "more": "secret"})
    assert "secret" not in str(error.value)
    assert rows_as(Order, unknown="ignore")({**ROW, "more": 1}) == Order(7, Decimal("1.50"))


def test_a_field_without_a_column() -> None:
    """It is named, unless it has a default."""
    with pytest.raises(MappingError, match="the row has no column total"):
        rows_as(Order)({"id": 1})
    with pytest.raises(MappingError, match="no field for the column number"):
        rows_as(Order)({**ROW, "number": 1})


@pytest.mark.parametrize("target", [int, 5, "text", object()])
def test_what_is_no_target(target: Any) -> None:
    """A class that is no dataclass needs a converter."""
    with pytest.raises(ConfigError):
        mapper_of(target, None)


def test_a_field_that_is_not_there() -> None:
    """A renaming that renames nothing is a mistake."""
    with pytest.raises(ConfigError, match="Order has no field nr"):
        rows_as(Order, columns={"nr": "id"})


class Model:
    """Stands for a class of msgspec or pydantic."""

    def __init__(self, row: dict[str, Any]) -> None:
        self.row = row


def convert(row: dict[str, Any], cls: type[Any]) -> Any:
    """Do what msgspec.convert does, as far as the signature goes."""
    return cls(row)


def test_a_converter_makes_all_classes() -> None:
    """Dataclasses too, but neither dicts nor what a function makes."""
    assert mapper_of(Model, convert)(ROW).row is ROW
    assert mapper_of(dict, convert)(ROW) is ROW
    assert mapper_of(len, convert)(ROW) == 2


class Checked(pydantic.BaseModel):
    """A row as pydantic sees it."""

    number: int = pydantic.Field(alias="id", gt=0)
    total: Decimal


class Struct(msgspec.Struct):
    """A row as msgspec sees it."""

    number: int = msgspec.field(name="id")
    total: Decimal


def test_pydantic() -> None:
    """Its own function of a row is all it needs."""
    make = mapper_of(Checked.model_validate, None)
    assert make(ROW) == Checked(id=7, total=Decimal("1.50"))
    with pytest.raises(pydantic.ValidationError):
        make({**ROW, "id": -1})


def test_msgspec() -> None:
    """Its converter serves all classes of a consumer."""
    assert mapper_of(Struct, msgspec.convert)(ROW) == Struct(7, Decimal("1.50"))


def test_any_function_of_a_row() -> None:
    """What it returns is the object."""
    assert mapper_of(lambda row: row["id"], None)(ROW) == 7
    assert mapper_of(rows_as(Order), None)(ROW) == Order(7, Decimal("1.50"))
