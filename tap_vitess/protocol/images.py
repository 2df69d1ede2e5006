"""Row images that do not carry every column: what is known of a changed row, and what is not. Pure.

With binlog_row_image=NOBLOB or binlog_row_value_options=PARTIAL_JSON a change carries less than
the row. Seen on v22 (MySQL 8.0):

- `data_columns` and `json_partial_values` describe the after image only, and are set only if
  something is left out of it. Nothing shows what the before image lacks: a TEXT or BLOB that is
  NULL there, in a delete too, may be a value that was not sent. (JSON is always sent whole
  in it. What was logged with MINIMAL, before it was set back, may lack any column.)
- A column that the after image lacks did not change, so its value is that of the before image, if
  that has one. With a key on a TEXT column the after image lacks the key.
- MySQL's own key is in every before image. Other columns that a client adds to the key, such as a
  vindex's, may be missing: under MINIMAL, and under NOBLOB if they are TEXT or BLOB.
- The bitmaps count all columns of the table, even if only some were requested, and nothing shows
  where in the table these are. Then a NULL in a partial after image may be a value not sent.
- A partial JSON is a template around the before image's document, which is complete; an empty
  value stands for "unchanged".
- Vitess drops an after image without a byte. So an update that sets columns to NULL looks like a
  delete if the after image has nothing else: under MINIMAL, and under NOBLOB with a TEXT key.

So a value is one of three: sent, taken over from the before image, or unknown.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Literal

from tap_vitess._proto import binlogdata_pb2 as binlogdata
from tap_vitess._proto import query_pb2 as query
from tap_vitess.errors import ProtocolError

Values = list[bytes | None]
OnPartialImage = Literal["fetch", "omit", "fail"]  # the setting

NOT_NULL_FLAG = 1
# Every change carries columns of these types, unless it was logged with MINIMAL.
_ALWAYS_SENT = (
    *("tinyint", "smallint", "mediumint", "int", "bigint", "decimal", "float", "double", "bit"),
    *("date", "time", "year", "char", "varchar", "binary", "varbinary", "enum", "set"),
)
PRI_KEY_FLAG = 2  # MySQL sets it for the primary key, else the first NOT NULL unique key


def is_partial(change: binlogdata.RowChange) -> bool:
    """Return whether the after image lacks a column, or has only a part of a JSON document."""
    return change.HasField("data_columns") or bool(change.json_partial_values.cols)


def completed(
    change: binlogdata.RowChange,
    fields: Sequence[query.Field],
    where: str,
    *,
    projected: bool = False,
    minimal: bool = False,
) -> tuple[query.Row, frozenset[str]]:
    """Return the after image, completed from the before image, and the columns still unknown.

    Unknown columns are NULL in the returned row. `minimal`: whether the shard has sent images of
    MINIMAL, which those of some columns do not show.

    Raises:
        ProtocolError: an image or a bitmap does not fit these columns.
    """
    width = len(fields)
    after = unpacked(change.after, width, where)
    if projected:
        minimal = minimal or is_minimal(change, fields, ())
        return _projected(change, fields, after, where, minimal=minimal)
    before = _before(change, width, where)
    _check_bitmaps(change, fields, where)
    unknown: set[str] = set()
    patched = _patched(change, fields)
    for i, field in enumerate(fields):
        if i in patched:
            if after[i] == b"":
                after[i] = before[i]
            else:
                after[i] = None  # a template, not a document
                unknown.add(field.name)
        elif not _bit(change.data_columns, i):
            after[i] = before[i]
            if before[i] is None:
                unknown.add(field.name)
    return packed(after), frozenset(unknown)


def _before(change: binlogdata.RowChange, width: int, where: str) -> Values:
    return unpacked(change.before, width, where) if change.HasField("before") else [None] * width


def _projected(
    change: binlogdata.RowChange,
    fields: Sequence[query.Field],
    after: Values,
    where: str,
    *,
    minimal: bool,
) -> tuple[query.Row, frozenset[str]]:
    """Complete an image of some columns, which no bitmap describes."""
    patched = bool(change.json_partial_values.cols)
    before = _before(change, len(fields), where)
    unknown: set[str] = set()
    for i, field in enumerate(fields):
        kind = field.column_type.lower()
        if patched and kind == "json":
            after[i] = None
        if after[i] is not None or (_is_always_sent(field) and not minimal):
            continue
        if field.flags & NOT_NULL_FLAG and before[i] is not None and kind != "json":
            after[i] = before[i]
        else:
            unknown.add(field.name)
    return packed(after), frozenset(unknown)


def is_minimal(
    change: binlogdata.RowChange, fields: Sequence[query.Field], absent: Collection[str]
) -> bool:
    """Return whether an after image was logged with MINIMAL: it lacks what others always have."""
    if any(change.after.lengths[i] < 0 for i in never_null(fields)):
        return True
    return any(field.name in absent and _is_always_sent(field) for field in fields)


def never_null(fields: Sequence[query.Field]) -> tuple[int, ...]:
    """Return the indexes of columns that are NULL only in an image that MINIMAL has cut."""
    return tuple(i for i, f in enumerate(fields) if f.flags & NOT_NULL_FLAG and _is_always_sent(f))


def may_be_empty(fields: Sequence[query.Field], own_key: Sequence[int]) -> bool:
    """Return whether an after image of NOBLOB can have only NULLs: it lacks the key, too."""
    return not never_null(fields) and not any(_is_always_sent(fields[i]) for i in own_key)


def _is_always_sent(field: query.Field) -> bool:
    return field.column_type.lower().startswith(_ALWAYS_SENT)


def nulls(row: query.Row, fields: Sequence[query.Field], where: str) -> frozenset[str]:
    """Return the columns of a before image that are NULL or were not sent.

    Raises:
        ProtocolError: the image is not of these columns.
    """
    pairs = zip(fields, unpacked(row, len(fields), where), strict=True)
    return frozenset(field.name for field, value in pairs if value is None)


def beside_own_key(fields: Sequence[query.Field], key: Collection[str]) -> tuple[int, ...]:
    """Return the indexes of a key's columns that are not in MySQL's own key."""
    return tuple(
        i for i, f in enumerate(fields) if f.name in key and f.flags and not f.flags & PRI_KEY_FLAG
    )


def unsent_key(
    before: query.Row,
    fields: Sequence[query.Field],
    added: Sequence[int],
    where: str,
    *,
    whole: bool,
) -> frozenset[str]:
    """Return key columns that a before image does not carry, as far as is known.

    Args:
        added: see `beside_own_key`.
        whole: whether MySQL logs all columns.

    Raises:
        ProtocolError: the image is not of these columns.
    """
    lengths = before.lengths
    if all(i < len(lengths) and lengths[i] >= 0 for i in added):
        return frozenset()
    absent = nulls(before, fields, where)
    empty = [fields[i] for i in added if fields[i].name in absent]
    cut = any(field.name in absent and field.flags & NOT_NULL_FLAG for field in fields)
    return frozenset(field.name for field in empty if cut or (not whole and _is_long(field)))


def _is_long(field: query.Field) -> bool:
    return field.column_type.lower().endswith(("text", "blob"))


def unpacked(row: query.Row, width: int, where: str) -> Values:
    """Return a row's values; None is NULL.

    Raises:
        ProtocolError: there are not `width` lengths, or they do not match the values.
    """
    lengths, raw = row.lengths, row.values
    if len(lengths) != width:
        raise ProtocolError(f"{where}: a row of {len(lengths)} values for {width} columns")
    values: Values = []
    start = 0
    for length in lengths:
        if length < 0:
            if length != -1:
                raise ProtocolError(f"{where}: an invalid length")
            values.append(None)
            continue
        values.append(raw[start : start + length])
        start += length
    if start != len(raw):
        raise ProtocolError(f"{where}: a row's lengths are not those of its values")
    return values


def packed(values: Sequence[bytes | None]) -> query.Row:
    """Make a row of values; None is NULL."""
    return query.Row(
        lengths=[-1 if value is None else len(value) for value in values],
        values=b"".join(value for value in values if value is not None),
    )


def _check_bitmaps(change: binlogdata.RowChange, fields: Sequence[query.Field], where: str) -> None:
    sent, partial = change.data_columns.cols, change.json_partial_values.cols
    documents = sum(field.column_type.lower() == "json" for field in fields)
    if (sent and len(sent) * 8 < len(fields)) or (partial and len(partial) * 8 < documents):
        raise ProtocolError(f"{where}: a change does not say for every column whether it was sent")


def _patched(change: binlogdata.RowChange, fields: Sequence[query.Field]) -> frozenset[int]:
    """Return the indexes of columns with partial JSON; the bitmap counts JSON columns only."""
    documents = [i for i, field in enumerate(fields) if field.column_type.lower() == "json"]
    partial = change.json_partial_values
    if not partial.cols:
        return frozenset()
    return frozenset(i for n, i in enumerate(documents) if _bit(partial, n))


def _bit(bitmap: binlogdata.RowChange.Bitmap, i: int) -> bool:
    """Return whether a column's bit is set; without a bitmap, all are."""
    return not bitmap.cols or bool(bitmap.cols[i // 8] >> (i % 8) & 1)


# The key of a row, by column, as the bytes of its image.
RawKey = Mapping[str, bytes | None]
