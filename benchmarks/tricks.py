"""Each trick of the hot path with and without: what it is worth, alone and in its own case.

Without it the work is done in the plain way that one would write first, or by the same code with a
constant or function of ours replaced, so that the trick is off. Both must come to the same. They
take turns in this process, over bytes that the sandbox has made before; what needs a process of
its own is in `apart.py`.
"""

from __future__ import annotations

import gc
import math
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass, replace
from functools import partial
from io import TextIOWrapper
from itertools import accumulate, pairwise
from statistics import median
from time import process_time
from typing import Any
from unittest.mock import patch

import orjson
from singer_sdk.singerlib import Catalog, StateMessage
from singer_sdk.singerlib.json import serialize_json

from benchmarks import apart
from benchmarks.made import (
    ALL,
    WIDTH,
    Data,
    Made,
    after,
    cut,
    each,
    events,
    images_of,
    parts,
    rows_of,
    to_arrow,
    to_lines,
    written,
)
from benchmarks.measure import Json
from benchmarks.places import Place
from benchmarks.process import BenchmarkError
from tap_vitess._proto import binlogdata_pb2 as binlogdata
from tap_vitess.protocol import columns, lengths
from tap_vitess.protocol import decode as responses
from tap_vitess.protocol.columns import Images
from tap_vitess.protocol.decode import ChangedRows, decode, decode_all
from tap_vitess.protocol.gtid import Goal, GtidSet
from tap_vitess.protocol.lengths import listed
from tap_vitess.records import lines
from tap_vitess.records.lines import _numbers
from tap_vitess.singer import output, plain, tap
from tap_vitess.stdout import LineBuffer
from tap_vitess.values import documents, encode, numbers
from tap_vitess.values.arrow import ArrowDecoder
from tap_vitess.values.arrow_bytes import Cutter
from tap_vitess.values.decode import ObjectDecoder, RowDecoder
from tap_vitess.values.encode import _Member
from tap_vitess.values.kernels import kernels, pyarrow
from tap_vitess.values.mysql_types import value_type
from tap_vitess.values.numbers import _JSON_DECIMALS
from tap_vitess.vstream import arrow_reader

Act = Callable[[], Any]
# What it is, of how many the CPU time is told, the work with and without; and what of the two
# results is compared, where that is not all of them.
Trick = tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class Scale:
    """How much is done.

    rows: made. most: worked on in this process. seconds: of each turn. apart: how many of the
    tricks that need a process of their own. tables: of the catalog.
    """

    rows: int = 100_000
    most: int = 20_000
    turns: int = 15
    seconds: float = 0.03
    apart: int = 100
    apart_turns: int = 5
    tables: int = 500


SMALL = Scale(rows=600, most=600, turns=1, seconds=0, apart=1, apart_turns=1, tables=2)


def off(where: Any, name: str, value: Any, act: Act) -> tuple[Act, Act]:
    """Return work, and the same with a constant or a function of ours replaced."""

    def without() -> Any:
        with patch.object(where, name, value):
            return act()

    return act, without


# The tricks, by file


def _responses(data: Data) -> Iterator[Trick]:
    count, changes = data.count, len(each(data.changed))
    copied, changed = data.copied, data.changed

    def by_column() -> Any:
        return cut(after(decode_all(changed)))

    def unjoined() -> Any:
        return cut(after([ChangedRows.of(e) for e in events(changed) if e.type == binlogdata.ROW]))

    def by_copied() -> Any:
        return cut(after(decode_all(copied)))

    def alike(read: Any) -> bool:
        told = {*read.type}, {*read.shard}, {*read.row_event.table_name}
        return told[0] == {binlogdata.ROW} and len(told[1]) == len(told[2]) == 1

    yield "copied rows are read by column", count, by_copied, lambda: each(copied), rows_of
    yield "changes are read by column", changes, by_column, lambda: each(changed), rows_of
    yield "ROW events that follow each other are read as one", changes, by_column, unjoined, rows_of
    yield (
        "events of copied rows are compared as bytes",
        count,
        *off(responses, "_are_alike", alike, by_copied),
        rows_of,
    )
    grouped = off(responses, "_read_at_once", lambda _: (), lambda: [*map(decode, changed)])
    yield "ROW events of a response are read at once", changes, *grouped, len


def _columns(data: Data) -> Iterator[Trick]:
    count = data.count
    write = written(data.images, data.types)
    yield (
        "lines are made of some thousand values at a time",
        count,
        *off(columns, "CHUNK_VALUES", 1 << 40, write),
    )
    types = {f"{name}{n}": type_ for n in range(16) for name, type_ in data.types.items()}
    wide = images_of([row * 16 for row in data.rows[: count // 16]])
    write = written(wide, types)
    yield (
        "and of 100 rows at least, here of 160 columns",
        wide.count,
        *off(columns, "CHUNK_ROWS", 1, write),
    )


def _lengths(data: Data) -> Iterator[Trick]:
    long = images_of([[value and value * 8 for value in row] for row in data.rows])
    few, most = (partial(cut, [images]) for images in (data.images, long))

    def sliced(images: Images) -> Any:
        sizes, raw = listed(images.lengths, ""), images.values
        ends = pairwise(accumulate((max(size, 0) for size in sizes), initial=0))
        every = [None if n < 0 else raw[a:b] for n, (a, b) in zip(sizes, ends, strict=True)]
        return parts(every, WIDTH + 1)

    count = data.count
    yield "`struct` cuts values", count, few, lambda: sliced(data.images), rows_of
    yield (
        "lengths stay bytes, where few are of 64 or more",
        count,
        *off(lengths, "_WORTH", math.inf, few),
        rows_of,
    )
    two_bytes = off(lengths, "_of_two_bytes", lambda _: None, few)
    yield "these few are of two bytes each", count, *two_bytes, rows_of
    yield (
        "lengths become a list, where most are of 64 or more",
        count,
        *off(lengths, "_WORTH", 0, most),
        rows_of,
    )
    yield "such values are read, not sliced", count, most, lambda: sliced(long), rows_of


def _encode(data: Data) -> Iterator[Trick]:
    count, number, text = data.count, data.column("amount"), data.column("email")
    moments, noted = data.column("created_at"), data.column("note")

    def single(kind: str, values: Sequence[bytes | None], *, whole: bool = True) -> Act:
        type_ = value_type(kind, "utf8mb4")
        type_ = type_ if whole else replace(type_, whole=None)
        images = images_of([(b"1", value) for value in values])
        return written(images, {"id": type_, "c": type_}, "c")

    def joined(rows: int, pieces: Sequence[Any]) -> bytes:
        every = ([p if isinstance(p, bytes) else p[n] for p in pieces] for n in range(rows))
        return b"".join(map(b"".join, every))

    def converted(member: Any, values: Sequence[bytes]) -> list[bytes]:
        return [orjson.dumps(member._convert(value)) for value in values]  # noqa: SLF001

    for kind, values in (
        *(("BIGINT", data.column("customer_id")), ("DECIMAL(10,2)", number), ("DOUBLE", number)),
        *(("DATETIME", moments), ("VARCHAR(120)", text), ("BLOB", text), ("TEXT", noted)),
        ("JSON", data.column("payload")),
    ):
        acts = (single(kind.lower(), values, whole=whole) for whole in (True, False))
        yield f"{kind} written as a column", count, *acts
    for kind, values in (
        ("date", [moment[:10] for moment in moments]),
        ("text", [b'"%b"' % value for value in text]),
    ):
        once = off(_Member, "_converted", converted, single(kind, values))
        yield f"equal {kind}s are converted once", count, *once
    write = written(data.images, data.types)
    yield "the rows of a chunk are joined at once", count, *off(encode, "_joined", joined, write)


def _values(data: Data) -> Iterator[Trick]:
    def grammar(values: Sequence[bytes], _: bytes) -> bool:
        return _JSON_DECIMALS.fullmatch(b",".join(values)) is not None

    amount = images_of([[value] for value in data.column("amount")])
    write = written(amount, {"c": data.types["amount"]})
    yield "a JSON parser checks numbers", data.count, *off(numbers, "_are_numbers", grammar, write)


def _documents(data: Data) -> Iterator[Trick]:
    values, pa = data.column("payload"), pyarrow()
    column, arrow = pa.array(values * 3, pa.binary()), data.types["payload"].arrow

    def by_line() -> None:
        for some in parts(values):
            documents.check(some)

    def singly(check: Callable[[Any], object]) -> None:
        for value in values:
            check(value)

    def for_arrow() -> Any:
        return arrow.parse and arrow.parse(kernels(), column).storage

    yield "documents are checked by lines", data.count, by_line, lambda: singly(documents.from_copy)
    yield "documents are checked, not parsed", data.count, by_line, lambda: singly(orjson.loads)
    some = off(documents, "_AT_ONCE", 1 << 40, for_arrow)
    yield "500 documents at a time, of a large batch for Arrow", len(column), *some


def _decode(data: Data) -> Iterator[Trick]:
    decoder = ObjectDecoder(data.fields, "k", data.types)
    rows = [*data.images.rows(WIDTH, "")]
    yield (
        "objects are made by column",
        data.count,
        lambda: [*decoder.decode_all(data.images)],
        partial(_mapped, decoder.decode, rows),
    )


def _lines(data: Data) -> Iterator[Trick]:
    count, begin = data.count, 1764000000000000

    def read(found: Iterable[bytes]) -> list[Any]:
        return [orjson.loads(line) for line in b"".join(found).splitlines()]

    for size in (lines.FEW_ROWS, 100):
        rows, some = data.some(size)
        one_by_one = off(lines, "FEW_ROWS", 1 << 40, partial(_mapped, to_lines(), some))
        yield f"{size} rows become lines by column", rows, *one_by_one, read
    yield (
        "sequence numbers are written many at a time",
        count,
        lambda: [*_numbers(begin, count)],
        partial(_mapped, b"%d".__mod__, range(begin, begin + count)),
    )
    seconds = [begin // 1_000_000] * count
    moments = (partial(_mapped, of, seconds) for of in (lines.moment, lines.moment.__wrapped__))
    yield "a commit's second is written once", count, *moments


def _mapped(act: Callable[[Any], Any], values: Iterable[Any]) -> list[Any]:
    return [*map(act, values)]


def _changes(data: Data) -> Iterator[Trick]:
    alone = len(each(data.single))
    yield (
        "transactions of a row are joined by table",
        alone,
        data.lines,
        lambda: data.lines(lambda items: items),
        lambda found: sorted(b"".join(found).splitlines()),
    )


def _gtid(data: Data) -> Iterator[Trick]:
    told = (event.vgtid for event in events(data.single) if event.type == binlogdata.VGTID)
    texts = [vgtid.shard_gtids[0].gtid for vgtid in told]
    last = GtidSet.parse(texts[-1])
    yield (
        "GTID sets are compared by their last number",
        len(texts),
        lambda: _mapped(Goal(last).reached, texts),
        lambda: [GtidSet.parse(text).contains(last) for text in texts],
    )


def _stdout(_: Data) -> Iterator[Trick]:
    def put(buffer: LineBuffer | None) -> None:
        """Write into nothing, as stdout is with PYTHONUNBUFFERED."""
        with (
            open(os.devnull, "wb", 0) as raw,  # noqa: PTH123
            redirect_stdout(TextIOWrapper(raw, write_through=True)),
        ):
            for _ in range(1000):
                (buffer.write_line if buffer else sys.stdout.buffer.write)(b"x" * 300 + b"\n")
            if buffer:
                buffer.flush()

    yield (
        "lines go out together, with PYTHONUNBUFFERED (a line)",
        1000,
        lambda: put(LineBuffer()),
        lambda: put(None),
    )


def _arrow_bytes(data: Data) -> Iterator[Trick]:
    pa, images, count = pyarrow(), data.images, data.count
    act = partial(Cutter(kernels(), WIDTH, "").cut, images, ALL)
    short = images_of([row[:2] for row in data.rows])

    def objects() -> Any:
        return [pa.array([v for c in cut([images]) for v in c.column(i)], pa.binary()) for i in ALL]

    def as_list(_: Any, raw: bytes, kind: Any) -> Any:
        return pa.array([0, *(1 if n < 0 else 2 * n for n in listed(raw, ""))], kind)

    yield "Arrow's kernels cut values", count, act, objects
    yield "Arrow's kernels read lengths", count, *off(Cutter, "_lengths", as_list, act)
    varints = Cutter._varints  # noqa: SLF001
    act = partial(Cutter(kernels(), 2, "").cut, short, range(2))
    yield "lengths of one byte are taken as they are", count, *off(Cutter, "_lengths", varints, act)


def _arrow(data: Data) -> Iterator[Trick]:
    decoder, slow = (ArrowDecoder(data.fields, "k", data.types) for _ in range(2))
    slow.types = {n: replace(t, arrow=replace(t.arrow, parse=None)) for n, t in slow.types.items()}
    read = [partial(each.decode_all, data.images) for each in (decoder, slow)]
    yield "Arrow's kernels parse columns", data.count, *read
    some = images_of(data.rows[:1500])
    same = [
        partial(of.are_same, decoder, some, replace(some), [0]) for of in (ArrowDecoder, RowDecoder)
    ]
    yield "Arrow's kernels compare keys, of 1,500 rows", some.count, *same


def _arrow_reader(data: Data) -> Iterator[Trick]:
    for size in (5, arrow_reader.FEW_ROWS):
        rows, some = data.some(size)
        by_column = off(arrow_reader, "FEW_ROWS", 0, partial(_mapped, to_arrow(), some))
        yield f"{size} rows become Arrow one by one", rows, *by_column


def _tables(catalog: Json, data: Data) -> Iterator[tuple[str, Trick]]:
    streams = catalog["streams"]
    count, root = len(streams), next(m for m in streams[0]["metadata"] if not m["breadcrumb"])
    config = apart.settings(data.made, root["metadata"]["schema-name"])

    def start() -> Any:
        made = tap.TapVitess(config=config, catalog=catalog).streams.values()
        return [m.transformed_schema for stream in made for m in stream.stream_maps]

    names = [stream["stream"] for stream in streams]
    message = StateMessage({"bookmarks": {"k": {"groups": [{"tables": names}]}}})
    write = output.BufferedWriter().serialize_message
    skipped = off(tap, "is_plain", lambda _: False, start)
    yield (
        "singer/streams.py",
        ("streams without maps skip the SDK's mapper (a table)", count, *skipped),
    )
    read = [partial(of, catalog) for of in (plain.read, Catalog.from_dict)]
    yield (
        "singer/plain.py",
        ("equal columns of a catalog are one object (a table)", count, *read, Catalog.to_dict),
    )
    plainly = lambda: serialize_json(message.to_dict()).encode() + b"\n"  # noqa: E731
    yield (
        "singer/output.py",
        (
            "a STATE is not copied before it is written (a table)",
            count,
            partial(write, message),
            plainly,
        ),
    )


_FILES: dict[str, Callable[[Data], Iterator[Trick]]] = {
    "protocol/decode.py": _responses,
    "protocol/columns.py": _columns,
    "protocol/lengths.py": _lengths,
    "protocol/changes.py": _changes,
    "protocol/gtid.py": _gtid,
    "values/encode.py": _encode,
    "values/numbers.py": _values,
    "values/documents.py": _documents,
    "values/decode.py": _decode,
    "records/lines.py": _lines,
    "stdout.py": _stdout,
    "values/arrow_bytes.py": _arrow_bytes,
    "values/arrow.py": _arrow,
    "vstream/arrow_reader.py": _arrow_reader,
}

# Measuring


def measure(place: Place, catalog: Json, scale: Scale) -> Json:
    """Return the figures of each trick by its name; `catalog` is one of many tables."""
    made = Made.at(place, scale.rows)
    data = Data(made, scale.most)
    tricks = [(file, trick) for file, of in _FILES.items() for trick in of(data)]
    tricks += _tables(catalog, data)
    gc.collect()
    gc.freeze()
    found = {trick[0]: _in_turns(file, *trick, scale=scale) for file, trick in tricks}
    gc.unfreeze()
    return found | {what: _apart(what, made, scale) for what in [*apart.TRICKS][: scale.apart]}


def _in_turns(
    file: str,
    what: str,
    count: int,
    *acts: Any,
    scale: Scale,
) -> Json:
    both, seen = acts[:2], acts[2] if acts[2:] else lambda found: found
    if seen(acts[0]()) != seen(acts[1]()):
        raise BenchmarkError(f"{what}: with and without come to different results")
    loops = [math.ceil(scale.seconds / _cost(act, 1)) or 1 for act in both]
    turns = [[*map(_cost, both, loops)] for _ in range(scale.turns)]
    return _figures(file, count, turns)


def _cost(act: Act, loops: int) -> float:
    gc.collect()
    start = process_time()
    for _ in range(loops):
        act()
    return (process_time() - start) / loops


def _apart(what: str, made: Made, scale: Scale) -> Json:
    turns = [[apart.turn(what, side, made) for side in (0, 1)] for _ in range(scale.apart_turns)]
    if len({came for both in turns for _, came in both}) > 1:
        raise BenchmarkError(f"{what}: with and without come to different results")
    file, count, *_ = apart.TRICKS[what]
    return _figures(file, count(made), [[cpu for cpu, _ in both] for both in turns])


def _figures(file: str, count: int, turns: Sequence[Sequence[float]]) -> Json:
    fast, plain = (median(side) / count * 1e6 for side in zip(*turns, strict=True))
    times = median(without / with_ for with_, without in turns)
    return {"file": file, "with_us": fast, "without_us": plain, "times": times}
