"""Charsets that FIELD events do not tell: before Vitess 20 they have the connection's."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import pytest
from support.events import field as column

from tap_vitess._proto import query_pb2 as query
from tap_vitess.errors import HistoryLostError, ValueDecodeError
from tap_vitess.protocol.images import packed
from tap_vitess.protocol.items import Fields
from tap_vitess.run.layouts import Layouts
from tap_vitess.survey.charsets import ColumnCharsets
from tap_vitess.survey.facts import Version
from tap_vitess.values.charsets import charset_of, collation_of
from tap_vitess.values.decode import ObjectDecoder, RowDecoder

# As the tablets' MySQL has them; the bytes are those that VStream brings.
TEXTS = {
    "latin1": ("Ã©", b"\xc3\xa9"),
    "ucs2": ("AB", b"\0A\0B"),
    "swe7": ("ÅÄÖ", b"][\\"),
    "utf16": ("AB", b"\0A\0B"),
    "utf16le": ("AB", b"A\0B\0"),
    "utf32": ("AB", b"\0\0\0A\0\0\0B"),
    "utf8mb4": ("é", b"\xc3\xa9"),
    "utf8": ("é", b"\xc3\xa9"),
    "gbk": ("中", b"\xd6\xd0"),
}


@dataclass
class MySQL:
    """Answers for a Vitess, and counts the questions."""

    version: Version | None
    charsets: Mapping[str, str]
    asked: list[str] = field(default_factory=list)

    def tell_version(self) -> Version | None:
        self.asked.append("version")
        return self.version

    def tell(self, shard: str, table: str) -> Mapping[str, str]:
        self.asked.append(f"{table} on {shard}")
        return self.charsets

    def told(self, fields: Fields) -> Fields:
        return ColumnCharsets(self.tell_version, self.tell).told(fields)


def sent(*, copying: bool, labelled: bool = False) -> Fields:
    """Write a FIELD event as Vitess 19 does: 255 for all text, 63 for bytes and numbers."""
    columns = [column(charset, "varchar(20)") for charset in TEXTS]
    raw = query.Field(name="raw", column_type="varbinary(20)", charset=63)
    number = query.Field(name="number", column_type="int", charset=63)
    return Fields("t", "-80", (*columns, raw, number), copying, labelled)


ROW = packed([*(raw for _, raw in TEXTS.values()), b"\xff\x00", b"7"])


@pytest.mark.parametrize("copying", [True, False])
@pytest.mark.parametrize("decoder", [RowDecoder, ObjectDecoder])
def test_text_is_read_in_the_columns_charset(decoder: type[RowDecoder], copying: bool) -> None:  # noqa: FBT001
    """In both phases, for records and for objects; binary strings stay bytes."""
    mysql = MySQL((19, 0, 4), {charset: charset for charset in TEXTS})
    fields = mysql.told(sent(copying=copying))
    found = decoder(fields, "shop", [f.name for f in fields.fields]).decode(ROW)
    assert {name: found[name] for name in TEXTS} == {n: text for n, (text, _) in TEXTS.items()}
    assert found["raw"] in {b"\xff\x00", "/wA="}
    assert found["number"] == 7
    assert mysql.asked == ["version", "t on -80"]


@pytest.mark.parametrize("version", [(20, 0, 0), (22, 0, 3), None])
def test_a_vitess_that_tells_is_believed(version: Version | None) -> None:
    """No question but the one."""
    mysql = MySQL(version, {})
    fields = sent(copying=False)
    assert mysql.told(fields) is fields
    assert mysql.asked == ["version"]


def test_nothing_is_asked_where_nothing_can_be_wrong() -> None:
    """Labels come from Vitess 20 on; numbers have no charset."""
    mysql = MySQL((19, 0, 0), {})
    for fields in (
        sent(copying=True, labelled=True),
        Fields("t", "0", (column("id"),), copying=True, labelled=False),
    ):
        assert mysql.told(fields) is fields
    assert mysql.asked == []


def test_a_field_event_is_asked_about_once() -> None:
    """The next one anew: the table may have been altered between them."""
    mysql = MySQL((19, 0, 0), {"latin1": "latin1"})
    charsets = ColumnCharsets(mysql.tell_version, mysql.tell)
    first, second = sent(copying=False), sent(copying=False)
    assert charsets.told(first) is charsets.told(first)
    assert charsets.told(second) is not charsets.told(first)
    assert mysql.asked.count("version") == 1


def test_what_mysql_does_not_know_is_not_guessed() -> None:
    """A column that has been dropped since: the catalog may know it, else it is refused."""
    fields = MySQL((19, 0, 0), {}).told(sent(copying=False))
    one = Fields("t", "-80", fields.fields[:1], copying=False, labelled=False)
    with pytest.raises(ValueDecodeError, match="names the column's charset"):
        RowDecoder(one, "shop", ["latin1"]).decode(packed([b"\xc3\xa9"]))
    known = RowDecoder(one, "shop", ["latin1"], charsets={"latin1": "latin1"})
    assert known.decode(packed([b"\xc3\xa9"])) == {"latin1": "Ã©"}


def test_a_charset_that_was_altered_is_noticed() -> None:
    """Changes of before would be read in the charset of now; what older states know still holds."""
    raw = sent(copying=False)
    before = MySQL((19, 0, 0), dict.fromkeys(TEXTS, "latin1")).told(raw)
    after = MySQL((19, 0, 0), dict.fromkeys(TEXTS, "utf8mb4")).told(raw)
    layouts = Layouts({})
    layouts.copied(before)
    layouts.reached(frozenset({"t"}))
    [text] = layouts.stored({"t": ["-80"]}).values()
    assert isinstance(text, str)
    Layouts({"t": text}).check(before, raw)
    with pytest.raises(HistoryLostError):
        Layouts({"t": text}).check(after, raw)
    older = Layouts({})
    older.copied(raw)
    older.reached(frozenset({"t"}))
    [text] = older.stored({"t": ["-80"]}).values()
    assert isinstance(text, str)
    Layouts({"t": text}).check(before, raw)


@pytest.mark.parametrize("charset", [*TEXTS, "big5", "gb18030", "tis620", "binary"])
def test_each_charset_has_a_collation(charset: str) -> None:
    """Of which it is the charset."""
    assert charset_of(collation_of(charset)) == {"utf8": "utf8mb3"}.get(charset, charset)
    assert collation_of("klingon") == 0
