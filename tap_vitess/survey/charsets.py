"""The charsets of columns before Vitess 20, where FIELD events do not have them.

A tablet of Vitess 19 reports the charset of its own connection for every text, whatever the column
has. So the shard's MySQL is asked, once for each FIELD event, and the event is passed on as a later
Vitess would send it, with the table's present charsets. `run/layouts.py` notices older changes that
this would misread, as on later versions. A column that MySQL does not know either gets no charset.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import replace

from tap_vitess._proto import query_pb2 as query
from tap_vitess.protocol.items import Fields
from tap_vitess.survey.facts import Version
from tap_vitess.values.charsets import collation_of

TELLS_CHARSETS = (20, 0, 0)
_BINARY_COLLATION = 63
_IS_TEXT = re.compile(r"(var)?char\b|(tiny|medium|long)?text\b|enum\b|set\b", re.IGNORECASE)


class ColumnCharsets:
    """Adds charsets to the FIELD events of a keyspace that lack them."""

    def __init__(
        self, version: Callable[[], Version | None], ask: Callable[[str, str], Mapping[str, str]]
    ) -> None:
        """Prepare without asking anything.

        Args:
            version: returns Vitess' version; None counts as one that sends charsets.
            ask: returns the charset of each column, given a shard and a table.
        """
        self._version = version
        self._ask = ask
        self._tells: bool | None = None
        self._told: dict[tuple[str, str], tuple[Fields, Fields]] = {}

    def told(self, fields: Fields) -> Fields:
        """Return a FIELD event with its columns' charsets; the same event gives the same object.

        Raises:
            VitessError: MySQL does not answer.
        """
        where = fields.table, fields.shard
        found = self._told.get(where)
        if found is None or found[0] is not fields:
            found = self._told[where] = fields, self._asked(fields)
        return found[1]

    def _asked(self, fields: Fields) -> Fields:
        # Vitess 20 was the first to send labels, too.
        if fields.labelled or not any(map(_is_text, fields.fields)):
            return fields
        if self._tells is None:
            version = self._version()
            self._tells = version is None or version >= TELLS_CHARSETS
        if self._tells:
            return fields
        charsets = self._ask(fields.shard, fields.table)
        columns = tuple(_with_charset(column, charsets) for column in fields.fields)
        return replace(fields, fields=columns)


def with_others(fields: Fields, columns: Mapping[str, tuple[str, str | None]]) -> Fields:
    """Return a FIELD event with a table's other columns, each with its type and charset."""
    told = {field.name: field for field in fields.fields}
    others = {
        name: query.Field(
            name=name,
            column_type=column_type,
            charset=_BINARY_COLLATION if charset is None else collation_of(charset),
        )
        for name, (column_type, charset) in columns.items()
    }
    return replace(fields, fields=tuple({**others, **told}.values()))


def _is_text(column: query.Field) -> bool:
    return _IS_TEXT.match(column.column_type) is not None


def _with_charset(column: query.Field, charsets: Mapping[str, str]) -> query.Field:
    if not _is_text(column):
        return column
    found = query.Field()
    found.CopyFrom(column)
    charset = charsets.get(column.name)
    found.charset = 0 if charset is None else collation_of(charset)
    return found
