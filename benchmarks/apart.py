"""The tricks of which each turn is a process of its own.

`python -m benchmarks.apart NAME 0|1 MADE`, what was made as JSON; prints the CPU seconds and what
came of it. A call has threads and memory of its own, and what a process has done before would
change them: glibc keeps what was freed.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import asdict, replace
from functools import partial
from time import process_time
from typing import Any
from unittest.mock import patch

import grpc

from benchmarks.made import TABLE, Join, Made, consumed, to_arrow, to_lines
from benchmarks.process import run
from tap_vitess._proto import binlogdata_pb2 as binlogdata
from tap_vitess.config import Config
from tap_vitess.protocol.changes import by_table
from tap_vitess.protocol.copy import by_shard
from tap_vitess.protocol.decode import StreamEvent, decode
from tap_vitess.protocol.items import Rows
from tap_vitess.values.kernels import kernels, pyarrow
from tap_vitess.vstream.arrow_batches import _one
from tap_vitess.vstream.arrow_reader import TableRows
from tap_vitess.vtgate import grpc as calls
from tap_vitess.vtgate.responses import BY_COLUMN, BY_LINE, Units

Told = tuple[float, int]  # CPU seconds, and how much came of it


def settings(made: Made, keyspace: str = "k") -> dict[str, Any]:
    """Return the settings of a tap."""
    ports = {"grpc_port": made.port, "mysql_port": 1}
    return {"host": "127.0.0.1", **ports, "keyspaces": [keyspace]}


@contextmanager
def _threaded(config: Config, units: Units) -> Iterator[calls.Client]:
    """Connect without what makes gRPC receive in the thread that asks."""
    with grpc.insecure_channel(f"{config.host}:{config.grpc_port}") as channel:
        yield calls.Client(channel, config, units)


def _by_client(
    workload: str,
    made: Made,
    *,
    units: Units = BY_LINE,
    join: Join = by_table,
    make: Callable[[], Callable[[Rows], Any]] = to_lines,
    connect: Callable[..., AbstractContextManager[calls.Client]] = calls.connect,
) -> Told:
    """Receive a workload as the tap does."""
    feed, read = made.feed(getattr(made, workload)), make()  # imports what it needs
    config = Config.from_settings(settings(made))
    with connect(config, units) as client, client.stream(feed.request()) as responses:
        begin = process_time()
        came = sum(map(len, consumed(feed, _until_heartbeat(responses), read, join)))
        return process_time() - begin, came


def _until_heartbeat(responses: Iterable[Sequence[StreamEvent]]) -> Iterator[Sequence[StreamEvent]]:
    for events in responses:
        yield events
        if events and getattr(events[-1], "type", None) == binlogdata.HEARTBEAT:
            return


def _by_grpc(workload: str, made: Made) -> Told:
    """Receive a workload in the plain way, a response when it is asked for."""
    keyspace = getattr(made, workload)
    feed, begin = made.feed(keyspace), process_time()
    came = sum(map(len, consumed(feed, map(decode, made.responses(keyspace)), to_lines())))
    return process_time() - begin, came


def _of_default_pool(made: Made) -> Told:
    with patch.object(kernels(), "_pool", pyarrow().default_memory_pool()):
        return _ARROW(made)


def _joined(join: Callable[[list[TableRows]], Any], made: Made) -> Told:
    """Join batches of 50,000 rows, of parts as one response has."""
    pa, cost, came = pyarrow(), 0.0, 0
    bytes(BY_COLUMN.kept)  # as a connection does
    columns = [pa.array([b"%0*d" % (n * 4, n)] * 1700) for n in range(1, 11)]
    for _ in range(made.rows // 5_000):
        own = [[kernels().concat_arrays([c, c[:0]]) for c in columns] for _ in range(30)]
        batches = [pa.RecordBatch.from_arrays(part, [*map(str, range(10))]) for part in own]
        parts = [TableRows("k", TABLE, 1, batch) for batch in batches]
        del own, batches
        begin = process_time()
        came += len(join(parts))
        cost += process_time() - begin
    return cost, came


def _import(program: str, _: Made) -> Told:
    """Import the tap, in one more process."""
    return run([sys.executable, "-c", f"{program}import tap_vitess.singer.tap"]).cpu, 0


def _rows(made: Made) -> int:
    return made.rows


def _alone(made: Made) -> int:
    return made.rows // 8


_RESPONSES, _GRPC = "vtgate/responses.py", "vtgate/grpc.py"
_COPY, _SINGLE = (partial(_by_client, workload) for workload in ("copied", "single"))
_ARROW = partial(_COPY, units=BY_COLUMN, join=by_shard, make=to_arrow)
_OFF = "from tap_vitess.signals import importing\nwith importing(): "
# Each by name: its file, of how many the CPU time is told, and the work with and without.
TRICKS: dict[str, tuple[Any, ...]] = {
    "a copy is received ahead": (_RESPONSES, _rows, _COPY, partial(_by_grpc, "copied")),
    "transactions of a row are received ahead, and together": (
        *(_RESPONSES, _alone),
        *(_SINGLE, partial(_by_grpc, "single")),
    ),
    "small responses are joined": (
        *(_RESPONSES, _alone),
        *(_SINGLE, partial(_SINGLE, units=replace(BY_LINE, joined=0))),
    ),
    "more small responses are waited for, for 4 ms": (
        *(_RESPONSES, _alone),
        *(_SINGLE, partial(_SINGLE, units=replace(BY_LINE, moment=0))),
    ),
    "more copied rows are waited for, for Arrow": (
        *(_RESPONSES, _rows),
        *(_ARROW, partial(_ARROW, units=replace(BY_LINE, kept=BY_COLUMN.kept))),
    ),
    "freed memory is kept": (_GRPC, _rows, _COPY, partial(_COPY, units=replace(BY_LINE, kept=0))),
    "and more of it, for Arrow": (
        _GRPC,
        _rows,
        _ARROW,
        partial(_ARROW, units=replace(BY_COLUMN, kept=0)),
    ),
    "Arrow has memory of the system's allocator": (
        "values/kernels.py",
        _rows,
        _ARROW,
        _of_default_pool,
    ),
    "gRPC gives a call no thread of its own": (
        _GRPC,
        _rows,
        _COPY,
        partial(_COPY, connect=_threaded),
    ),
    "Arrow batches are joined a column at a time": (
        *("vstream/arrow_batches.py", _rows),
        partial(_joined, lambda parts: _one(parts).rows),
        partial(_joined, lambda parts: kernels().concat_batches([part.rows for part in parts])),
    ),
    "importing collects no garbage (a start)": (
        *("signals.py", lambda _: 1),
        *(partial(_import, program) for program in (_OFF, "")),
    ),
}


def turn(name: str, side: int, made: Made) -> Told:
    """Do it in a process of its own, with or without."""
    command = [sys.executable, "-m", "benchmarks.apart", name, str(side), json.dumps(asdict(made))]
    cpu, came = json.loads(run(command, keep=True).out)
    return cpu, came


def main() -> None:
    """Do it in this process."""
    name, side, made = sys.argv[1:]
    act = TRICKS[name][2 + int(side)]
    print(json.dumps(act(Made(**json.loads(made)))))


if __name__ == "__main__":
    main()
