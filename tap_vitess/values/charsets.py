"""MySQL's collation ids and charsets, and how their bytes are read.

Source of the ids: facts, appendix A (Vitess' own collation table, ids below 400). A FIELD event
gives a column's collation id (since Vitess 20); bytes of text come in the column's charset in both
phases. PyMySQL's table lacks some ids, 54 (utf16) for one.

Guarantee: every byte sequence that MySQL 8.0 turns into a character becomes that character
(compared with `convert(... using utf8mb4)`, sequence by sequence; tests/data/charsets.json.xz).
Python's codecs are used where they agree. Surprising: MySQL's latin1 is cp1252 and its euckr is
cp949; its cp866, greek, hebrew and koi8u differ from the standards by a character or two; its sjis
and ujis read the fullwidth backslash as `\\`; and Python has no codec for seven of the charsets.
"""

# ruff: noqa: RUF001 - tables of characters look like others by nature

from __future__ import annotations

import codecs
import functools
import re
from collections.abc import Callable, Iterator, Mapping

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
    **{
        name: name
        for name in [
            "ascii",
            "big5",
            "cp1250",
            "cp1251",
            "cp1256",
            "cp1257",
            "cp850",
            "cp852",
            "cp932",
            "gb18030",
            "gb2312",
            "gbk",
        ]
    },
    "euckr": "cp949",
    "koi8r": "koi8_r",
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

_UNDEFINED = "\ufffe"  # charmap_decode's mark for "no character"
_LOW = "".join(map(chr, range(128)))
_C1 = "".join(map(chr, range(128, 160)))


def _table(codec: str, changes: Mapping[int, str]) -> str:
    """Make a table of 256 characters from a Python codec, with MySQL's changes."""
    return "".join(
        changes.get(byte) or bytes([byte]).decode(codec, "ignore") or _UNDEFINED
        for byte in range(256)
    )


# One character for each byte. In the text tables "\ufffe" stands for none.
_TABLES = {
    # cp1252 with the five bytes that cp1252 leaves out mapped to C1 controls.
    "latin1": _table("cp1252", {byte: chr(byte) for byte in (0x81, 0x8D, 0x8F, 0x90, 0x9D)}),
    "cp866": _table("cp866", {0xFC: "\u207f", 0xFD: "\u00b2"}),
    "greek": _table("iso8859_7", {0xA1: "\u02bd", 0xA2: "\u02bc"}),
    "hebrew": _table("iso8859_8", {0xAF: "\u203e"}),
    "koi8u": _table("koi8_u", {0x95: "\u2022"}),
    "armscii8": _LOW
    + _C1
    + "\xa0❁§։)(»«—.՝,-՟…՜՛՞ԱաԲբԳգԴդԵեԶզԷէԸըԹթԺժԻիԼլԽխԾծԿկՀհՁձՂղՃճՄմՅյՆնՇշՈոՉչՊպՋջՌռՍսՎվՏտՐ"
    "րՑցՒւՓփՔքՕօՖֆ’'",
    "dec8": _LOW
    + _C1
    + "\xa0¡¢£\ufffe¥\ufffe§¤©ª«\ufffe\ufffe\ufffe\ufffe°±²³\ufffeµ¶·\ufffe¹º»¼½\ufffe¿ÀÁÂÃ"
    "ÄÅÆÇÈÉÊËÌÍÎÏ\ufffeÑÒÓÔÕÖŒØÙÚÛÜŸ\ufffeßàáâãäåæçèéêëìíîï\ufffeñòóôõöœøùúûüÿ\ufffe"
    "\ufffe",
    "geostd8": _LOW
    + "€\ufffe‚\ufffe„…†‡\ufffe‰\ufffe‹\ufffe\ufffe\ufffe\ufffe\ufffe‘’“”•–—\ufffe\ufffe"
    "\ufffe›\ufffe\ufffe\ufffe\ufffe\xa0¡¢£¤¥¦§¨©ª«¬\xad®¯°±²³´µ¶·¸¹º»¼½¾¿აბგდევზჱთიკლმნჲ"
    "ოპჟრსტჳუფქღყშჩცძწჭხჴჯჰჵ\ufffe\ufffe\ufffe\ufffe\ufffe\ufffe\ufffe\ufffe\ufffe\ufffe"
    "\ufffe\ufffe\ufffe\ufffe\ufffe\ufffe\ufffe\ufffe\ufffe\ufffe\ufffe\ufffe\ufffe№"
    "\ufffe\ufffe",
    "hp8": _LOW
    + _C1
    + "\xa0ÀÂÈÊËÎÏ´ˋˆ¨˜ÙÛ₤¯Ýý°ÇçÑñ¡¿¤£¥§ƒ¢âêôûáéóúàèòùäëöüÅîØÆåíøæÄìÖÜÉïßÔÁÃãÐðÍÌÓÒÕõŠšÚŸÿÞ"
    "þ·µ¶¾—¼½ªº«■»±\ufffe",
    "keybcs2": _LOW
    + "ČüéďäĎŤčěĚĹÍľĺÄÁÉžŽôöÓůÚýÖÜŠĽÝŘťáíóúňŇŮÔšřŕŔ¼¡«»░▒▓│┤╡╢╖╕╣║╗╝╜╛┐└┴┬├─┼╞╟╚╔╩╦╠═╬╧╨╤╥╙"
    "╘╒╓╫╪┘┌█▄▌▐▀αßΓπΣσµτΦΘΩδ∞φε∩≡±≥≤⌠⌡÷≈°∙·√ⁿ²■\xa0",
}

_SWE7 = dict(zip("@[\\]^`{|}~", "ÉÄÖÅÜéäöåü", strict=True))
_TABLES["swe7"] = "".join(_SWE7.get(c, c) for c in _LOW[:127]) + _UNDEFINED * 129


def _user_defined() -> Iterator[tuple[bytes, str]]:
    """The 1,880 user-defined characters of the EUC-JP family, in Unicode's private area."""
    for i in range(940):
        pair = bytes([0xF5 + i // 94, 0xA1 + i % 94])
        yield pair, chr(0xE000 + i)
        yield b"\x8f" + pair, chr(0xE3AC + i)


_USER_DEFINED = dict(_user_defined())

# Sequences that MySQL knows and Python's codec refuses.
_EXTRA: dict[str, Mapping[bytes, str]] = {
    "big5": {bytes([0xF9, 0xD6 + i]): char for i, char in enumerate("碁銹裏墻恒粧嫺")},
    "ujis": _USER_DEFINED,
}

# Characters for which MySQL has others than Python's codec.
_INSTEAD = {
    "sjis": {0xFF3C: 0x5C},
    "ujis": {0xFF3C: 0x5C},
    "gb18030": {0xE7C7: 0x1E3F, 0x1E3F: 0xE7C7},
}

# The IBM characters of eucjpms, from 8FF3F3 to 8FF4FE.
_IBM = (
    "ⅰⅱⅲⅳⅴⅵⅶⅷⅸⅹⅠⅡⅢⅣⅤⅥⅦⅧⅨⅩ＇＂㈱№℡炻仼僴凬匇匤﨎咊坙﨏\ufa10增寬峵嵓﨑德"
    "悅愠敎昻晥\ufa12\uf929栁﨓﨔橫櫢淸淲瀨\ufa15\ufa16甁皂皞\ufa17礰\ufa18\ufa19\ufa1a\ufa1b"
    "竧\ufa1c\ufa1d綠緖\ufa1e荢﨟薰\ufa20﨡蠇\ufa22譿賴赶﨣﨤\ufa25郞\ufa26鄕﨧﨨閒\uf9dc﨩霻"
    "靍靑\ufa2a\ufa2b\ufa2c馞髙魲\ufa2d黑"
)
_EUCJPMS = {
    **_USER_DEFINED,
    b"\x8f\xa2\xb7": "\uff5e",
    b"\x8f\xa2\xc3": "\uffe4",
    **{bytes([0x8F, 0xF3, 0xF3 + i]): char for i, char in enumerate(_IBM[:12])},
    **{bytes([0x8F, 0xF4, 0xA1 + i]): char for i, char in enumerate(_IBM[12:])},
}
_EUCJPMS_TOKEN = re.compile(rb"[\x00-\x7f]+|\x8e.|\x8f..|..|.", re.DOTALL)


@functools.cache
def _eucjpms_char(token: bytes) -> str:
    """Read one character of eucjpms: EUC-JP with the characters of cp932; "" if there is none."""
    if token in _EUCJPMS:
        return _EUCJPMS[token]
    if len(token) == 3:
        return _one(token, "euc_jp")
    if len(token) == 2 and token[0] == 0x8E and 0xA1 <= token[1] <= 0xDF:
        return _one(token[1:], "cp932")
    if len(token) == 2 and min(token) >= 0xA1 and max(token) <= 0xFE:
        row, column = token[0] - 0xA1, token[1] - 0xA1
        lead = row // 2 + (0x81 if row < 62 else 0xC1)
        trail = 0x9F + column if row % 2 else 0x40 + column + (column >= 63)
        return _one(bytes([lead, trail]), "cp932")
    return ""


def _one(token: bytes, codec: str) -> str:
    try:
        return token.decode(codec)
    except UnicodeDecodeError:
        return ""


def _eucjpms(raw: bytes, errors: str) -> str:
    parts: list[str] = []
    for match in _EUCJPMS_TOKEN.finditer(raw):
        token = match[0]
        text = token.decode() if token[0] < 0x80 else _eucjpms_char(token)
        if not text and errors == "strict":
            raise UnicodeDecodeError("eucjpms", raw, match.start(), match.end(), "no character")
        parts.append(text or "\ufffd")
    return "".join(parts)


def _on_error(charset: str, errors: str) -> str:
    """Return the name of an error handler that knows what Python's codec lacks."""
    extra = _EXTRA.get(charset)
    if extra is None:
        return errors
    name = f"tap_vitess.{charset}.{errors}"
    otherwise = codecs.lookup_error(errors)

    def handle(error: UnicodeError) -> tuple[str | bytes, int]:
        if isinstance(error, UnicodeDecodeError):
            for length in (2, 3):
                end = error.start + length
                if char := extra.get(error.object[error.start : end]):
                    return char, end
        return otherwise(error)

    codecs.register_error(name, handle)
    return name


def charset_of(collation_id: int) -> str | None:
    """Return the charset of a collation id; None if it is unknown."""
    return _CHARSET_BY_COLLATION.get(collation_id)


def collation_of(charset: str) -> int:
    """Return a collation id of a charset; 0 if it is unknown."""
    ids = _COLLATIONS.get("utf8mb3" if charset == "utf8" else charset)
    return next(_ids(ids)) if ids else 0


def decoder(charset: str | None, *, errors: str = "strict") -> Callable[[bytes], str] | None:
    """Return a decoder for a MySQL charset; None if the charset is unknown.

    Args:
        charset: MySQL's name.
        errors: with "strict" the decoder raises UnicodeDecodeError for bytes that are not text in
            the charset; with "replace" each of them becomes U+FFFD.
    """
    if table := _TABLES.get(charset or ""):
        return lambda raw: codecs.charmap_decode(raw, errors, table)[0]
    if charset == "eucjpms":
        return lambda raw: _eucjpms(raw, errors)
    codec = _CODECS.get(charset or "")
    if charset is None or codec is None:
        return None
    if codec == "utf_8" and errors == "strict":
        return bytes.decode
    handler = _on_error(charset, errors)
    if instead := _INSTEAD.get(charset):
        return lambda raw: raw.decode(codec, handler).translate(instead)
    return lambda raw: raw.decode(codec, handler)
