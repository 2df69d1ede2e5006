"""Rows as a destination can hold them: the engine's Arrow columns -> columns that dlt takes. Pure.

Integers are `bigint` whatever their width, so that an ALTER to a wider one changes nothing; what
many destinations cannot hold becomes text or JSON.

dlt does not change the type of a column. Values of another type go to a second column, named as dlt
names its variants (`price__v_text`), and the first column is null in those rows.

Surprising: dlt takes UNSIGNED types for signed ones of the same width, knows no durations and no
extension types, and DuckDB reads decimals of more than 38 digits as floats.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import orjson

from tap_vitess.errors import CatalogError
from tap_vitess.values.kernels import pyarrow

DELETED_AT = "_sdc_deleted_at"
OP = "_sdc_vitess_op"
SHARD = "_sdc_vitess_shard"
COMMIT_TIME = "_sdc_vitess_commit_time"
SEQ = "_sdc_vitess_seq"
VERSION = "_sdc_table_version"
ENGINE_COLUMNS = ("operation", "sequence", "version", "shard", "commit_time")

Convert = Callable[[Any], Any]
Hint = Mapping[str, Any]  # what dlt's schema tells of a column


@dataclass(frozen=True, slots=True)
class Form:
    """What a column becomes. kind: dlt's type, with the size of a decimal."""

    kind: str
    type: Any
    convert: Convert | None = None

    @property
    def variant(self) -> str:
        """The end of the name of a column of this type where the first one is of another."""
        return "__v_" + self.kind.replace("(", "_").replace(",", "_").rstrip(")")


@dataclass(frozen=True, slots=True)
class Shape:
    """How batches of one schema are converted. hints: what Arrow's types do not tell dlt."""

    schema: Any
    forms: Sequence[Form]
    hints: Mapping[str, Hint]

    def rows(self, batch: Any) -> Any:
        """Return a batch of the engine's as one that dlt takes."""
        columns = [
            column if form.convert is None else form.convert(column)
            for form, column in zip(self.forms, batch.columns, strict=False)
        ]
        own = _own_columns(batch)
        names = self.schema.names[len(columns) :]
        return pyarrow().RecordBatch.from_arrays(
            [*columns, *(own[name] for name in names)], schema=self.schema
        )


def shape_of(
    table: str,
    schema: Any,
    key: Sequence[str],
    known: Mapping[str, Hint],
    named: Callable[[str], str],
    *,
    metadata_columns: bool,
) -> Shape:
    """Return how batches of a schema are converted.

    Args:
        table: its name, for errors.
        schema: of the engine's batches, with its own columns last.
        key: the names of the key's columns.
        known: the columns of the table in dlt's schema, if it has it already.
        named: what a column is called in dlt's schema.
        metadata_columns: whether to add those that a merge does not need.

    Raises:
        CatalogError: a column of the key has another type than in the destination, or a column
            has the name of one that is added.
    """
    pa = pyarrow()
    plain = list(schema)[: len(schema) - len(ENGINE_COLUMNS)]
    forms = [_form(pa, field.type) for field in plain]
    fields, hints = [], {}
    for field, form in zip(plain, forms, strict=True):
        name = field.name
        if (before := known.get(named(name))) and not _fits(before, form):
            if name in key:
                raise CatalogError(
                    f"{table}: the column {name} of its key has become {form.kind}, and is "
                    f"{before['data_type']} in the destination: load into another dataset"
                )
            name += form.variant
        fields.append(pa.field(name, form.type, nullable=field.name not in key))
        if form.kind == "json":
            hints[name] = {"name": name, "data_type": "json"}
        elif form.type == pa.timestamp("us"):
            hints[name] = {"name": name, "data_type": "timestamp", "timezone": False}
    moment = pa.timestamp("us", "UTC")
    own = [pa.field(DELETED_AT, moment), pa.field(SEQ, pa.int64()), pa.field(VERSION, pa.int64())]
    if metadata_columns:
        own += [pa.field(OP, pa.string()), pa.field(SHARD, pa.string())]
        own += [pa.field(COMMIT_TIME, moment)]
    if taken := {field.name for field in own} & {field.name for field in fields}:
        raise CatalogError(
            f"{table} has a column {', '.join(sorted(taken))}, which is the name of a column that "
            "the load adds: leave the table out by the setting exclude_tables"
        )
    return Shape(pa.schema([*fields, *own]), forms, hints)


def newest(rows: Any, key: Sequence[str]) -> Any:
    """Return the newest row of each key, of a pyarrow.Table."""
    pc = pyarrow().compute
    last = rows.group_by(list(key)).aggregate([(SEQ, "max")])[f"{SEQ}_max"]
    return rows.filter(pc.is_in(rows[SEQ], value_set=last))


def _own_columns(batch: Any) -> dict[str, Any]:
    pa = pyarrow()
    operation = batch.column("_operation").cast(pa.string())
    moment = batch.column("_commit_time").cast(pa.timestamp("us", "UTC"))
    deleted = pa.compute.equal(operation, "delete")
    return {
        DELETED_AT: pa.compute.if_else(deleted, moment, pa.array([None], moment.type)[0]),
        SEQ: batch.column("_sequence"),
        VERSION: batch.column("_version"),
        OP: operation,
        SHARD: batch.column("_shard").cast(pa.string()),
        COMMIT_TIME: moment,
    }


def _fits(known: Hint, form: Form) -> bool:
    if known.get("data_type") is None:
        return True
    if known["data_type"] == "decimal" and "precision" in known:
        return form.kind == f"decimal({known['precision']},{known.get('scale', 0)})"
    return form.kind.partition("(")[0] == str(known["data_type"])


def _form(pa: Any, kind: Any) -> Form:
    """Say what a column of an Arrow type becomes."""
    return next(make(kind) for fits, make in _forms(pa) if fits(kind))


def _forms(pa: Any) -> Iterator[tuple[Callable[[Any], bool], Callable[[Any], Form]]]:
    """Yield which types become what; the first that fits does."""
    types, text, whole = pa.types, pa.string(), pa.decimal128(20, 0)
    to = _casting

    def clock(column: Any) -> Any:
        return _by_value(pa, column.cast(pa.int64()), _clock)

    def is_document(kind: Any) -> bool:
        return isinstance(kind, pa.BaseExtensionType)

    yield is_document, lambda _: Form("json", text, lambda column: column.storage.cast(text))
    yield types.is_list, lambda _: Form("json", text, lambda column: _array_texts(pa, column))
    yield types.is_duration, lambda _: Form("text", text, clock)
    yield types.is_dictionary, lambda _: Form("text", text, to(text))
    yield types.is_decimal256, lambda _: Form("text", text, to(text))
    yield types.is_uint64, lambda _: Form("decimal(20,0)", whole, to(whole))
    yield types.is_integer, lambda _: Form("bigint", pa.int64(), to(pa.int64()))
    # By way of text 0.1 stays 0.1, as SELECT shows it.
    yield types.is_float32, lambda _: Form("double", pa.float64(), to(text, pa.float64()))
    yield types.is_decimal128, lambda kind: Form(f"decimal({kind.precision},{kind.scale})", kind)
    yield types.is_timestamp, lambda kind: Form("timestamp", kind)
    for fits, name in (
        (types.is_float64, "double"),
        (types.is_date, "date"),
        (types.is_string, "text"),
        (types.is_binary, "binary"),
    ):
        yield fits, functools.partial(Form, name)


def _casting(*kinds: Any) -> Convert:
    def convert(column: Any) -> Any:
        for kind in kinds:
            column = column.cast(kind)
        return column

    return convert


def _by_value(pa: Any, column: Any, convert: Callable[[Any], str]) -> Any:
    """Convert each value once."""
    coded = column.dictionary_encode()
    texts = pa.array([convert(value) for value in coded.dictionary.to_pylist()], pa.string())
    return texts.take(coded.indices)


def _clock(microseconds: int) -> str:
    """Return a TIME as MySQL writes it; with a fraction only where there is one."""
    seconds, fraction = divmod(abs(microseconds), 1_000_000)
    sign, rest = "-" if microseconds < 0 else "", f".{fraction:06}" if fraction else ""
    return f"{sign}{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}{rest}"


def _array_texts(pa: Any, column: Any) -> Any:
    """Return lists as JSON arrays; a float has no more digits than it needs."""
    values = column.flatten()
    if pa.types.is_floating(values.type):
        texts = iter(values.cast(pa.string()).to_pylist())
    else:
        texts = (orjson.dumps(value).decode() for value in values.to_pylist())
    lengths = pa.compute.list_value_length(column).to_pylist()
    made = [None if n is None else f"[{','.join(islice(texts, n))}]" for n in lengths]
    return pa.array(made, pa.string())
