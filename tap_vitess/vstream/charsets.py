"""MySQL's collation ids and charsets, and the Python codecs that read them.

Source: facts, appendix A (Vitess' own collation table, ids below 400). A FIELD event gives a
column's collation id (since Vitess 20); bytes of text come in the column's charset in both
phases. PyMySQL's table lacks some ids, 54 (utf16) for one.
"""

from __future__ import annotations

import codecs
from collections.abc import Callable, Iterator

BINARY = "binary"

_COLLATIONS = {
    "armscii8": "32 64",
    "ascii": "11 65",
    "big5": "1 84",
    BINARY: "63",
    "cp1250": "26 34 44 66 99",
    "cp1251": "14 23 50-52",
    "cp1256": "57 67",
    "cp1257": "29 58-59",
    "cp850": "4 80",
    "cp852": "40 81",
    "cp866": "36 68",
    "cp932": "95-96",
    "dec8": "3 69",
    "eucjpms": "97-98",
    "euckr": "19 85",
    "gb18030": "248-250",
    "gb2312": "24 86",
    "gbk": "28 87",
    "geostd8": "92-93",
    "greek": "25 70",
    "hebrew": "16 71",
    "hp8": "6 72",
    "keybcs2": "37 73",
    "koi8r": "7 74",
    "koi8u": "22 75",
    "latin1": "5 8 15 31 47-49 94",
    "latin2": "2 9 21 27 77",
    "latin5": "30 78",
    "latin7": "20 41-42 79",
    "macce": "38 43",
    "macroman": "39 53",
    "sjis": "13 88",
    "swe7": "10 82",
    "tis620": "18 89",
    "ucs2": "35 90 128-151 159",
    "ujis": "12 91",
    "utf16": "54-55 101-124",
    "utf16le": "56 62",
    "utf32": "60-61 160-183",
    "utf8mb3": "33 76 83 192-215 223",
    "utf8mb4": "45-46 224-247 255-271 273-275 277-294 296-298 300 303-323",
}

_CODECS = {
    "ascii": "ascii",
    "big5": "big5",
    "cp1250": "cp1250",
    "cp1251": "cp1251",
    "cp1256": "cp1256",
    "cp1257": "cp1257",
    "cp850": "cp850",
    "cp852": "cp852",
    "cp866": "cp866",
    "cp932": "cp932",
    "euckr": "euc_kr",
    "gb18030": "gb18030",
    "gb2312": "gb2312",
    "gbk": "gbk",
    "greek": "iso8859_7",
    "hebrew": "iso8859_8",
    "koi8r": "koi8_r",
    "koi8u": "koi8_u",
    "latin2": "iso8859_2",
    "latin5": "iso8859_9",
    "latin7": "iso8859_13",
    "macce": "mac_latin2",
    "macroman": "mac_roman",
    "sjis": "shift_jis",
    "tis620": "tis_620",
    "ucs2": "utf_16_be",
    "ujis": "euc_jp",
    "utf16": "utf_16_be",
    "utf16le": "utf_16_le",
    "utf32": "utf_32_be",
    "utf8": "utf_8",
    "utf8mb3": "utf_8",
    "utf8mb4": "utf_8",
}


def _ids(text: str) -> Iterator[int]:
    for part in text.split():
        first, _, last = part.partition("-")
        yield from range(int(first), int(last or first) + 1)


_CHARSET_BY_COLLATION = {i: charset for charset, text in _COLLATIONS.items() for i in _ids(text)}

# MySQL's latin1 is cp1252 with the five bytes that cp1252 leaves out mapped to C1 controls.
_LATIN1 = "".join(bytes([byte]).decode("cp1252", "ignore") or chr(byte) for byte in range(256))


def charset_of(collation_id: int) -> str | None:
    """Return the charset of a collation id; None when it is unknown."""
    return _CHARSET_BY_COLLATION.get(collation_id)


def decoder(charset: str | None) -> Callable[[bytes], str] | None:
    """Return a strict decoder for a MySQL charset; None when Python has no codec for it.

    The decoder raises UnicodeDecodeError for bytes that are no text of the charset.
    """
    if charset == "latin1":
        return lambda raw: codecs.charmap_decode(raw, "strict", _LATIN1)[0]
    codec = _CODECS.get(charset or "")
    if codec is None:
        return None
    if codec == "utf_8":
        return bytes.decode
    return lambda raw: raw.decode(codec)
