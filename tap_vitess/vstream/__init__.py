"""VStream for Python: your own consumer of a Vitess' tables. See docs/library.md.

    connection.py  where a Vitess is: the settings of a consumer, made a Config
    raw.py         level 1: a VStream's events
    events.py      its events as frozen objects, made of VEvents                         pure
    changes.py     level 2: tables in, changes and boundaries out
    decoding.py    a table's rows as changes, with Python's own objects
    arrow.py       level 2 with Arrow's columns for rows, arrow_batches.py their batches
    consume.py     level 3: batches to a function of the caller's, the state stored after them
    mapping.py     rows as the caller's own classes                                      pure
    batches.py     when a batch is full                                                  pure
    stores.py      where a state is kept

The public names are those of `__all__`, and they are imported from here. Level 3 stands on level 2
alone. Level 2 is a sink of `run/keyspaces.py`, as `singer/sink.py` and `airbyte/read.py` are, and
level 1 a front end over `vtgate/grpc.py` and `vtgate/reader.py`. Nothing here needs Singer.
"""

from __future__ import annotations

from tap_vitess.errors import (
    AuthError,
    CatalogError,
    ConfigError,
    ConnectError,
    CopyCutError,
    FencedError,
    HistoryLostError,
    MappingError,
    PositionLostError,
    ProtocolError,
    RequestError,
    RetriableError,
    ShardsGoneError,
    StateError,
    TableGoneError,
    ValueDecodeError,
    VitessError,
)
from tap_vitess.protocol.gtid import GtidSet
from tap_vitess.protocol.vgtid import Vgtid
from tap_vitess.vstream.arrow import arrow_changes
from tap_vitess.vstream.arrow_batches import ArrowBatch
from tap_vitess.vstream.arrow_reader import TableRows, TableSchema
from tap_vitess.vstream.batches import Batch
from tap_vitess.vstream.changes import Boundary, TableCopied, changes, state_at
from tap_vitess.vstream.connection import Vitess
from tap_vitess.vstream.consume import Consumed, consume
from tap_vitess.vstream.decoding import Change
from tap_vitess.vstream.events import (
    BeginEvent,
    Column,
    CommitEvent,
    CopyCompletedEvent,
    DdlEvent,
    Event,
    FieldEvent,
    HeartbeatEvent,
    JournalEvent,
    OtherEvent,
    ReopenedEvent,
    RowEvent,
    UnknownEvent,
    VgtidEvent,
)
from tap_vitess.vstream.mapping import rows_as
from tap_vitess.vstream.raw import events
from tap_vitess.vstream.stores import FileState, MemoryState, StateStore, VitessTableState
from tap_vitess.vtgate.address import Tls
from tap_vitess.vtgate.retry import RetryOptions

__all__ = [
    "ArrowBatch",
    "AuthError",
    "Batch",
    "BeginEvent",
    "Boundary",
    "CatalogError",
    "Change",
    "Column",
    "CommitEvent",
    "ConfigError",
    "ConnectError",
    "Consumed",
    "CopyCompletedEvent",
    "CopyCutError",
    "DdlEvent",
    "Event",
    "FencedError",
    "FieldEvent",
    "FileState",
    "GtidSet",
    "HeartbeatEvent",
    "HistoryLostError",
    "JournalEvent",
    "MappingError",
    "MemoryState",
    "OtherEvent",
    "PositionLostError",
    "ProtocolError",
    "ReopenedEvent",
    "RequestError",
    "RetriableError",
    "RetryOptions",
    "RowEvent",
    "ShardsGoneError",
    "StateError",
    "StateStore",
    "TableCopied",
    "TableGoneError",
    "TableRows",
    "TableSchema",
    "Tls",
    "UnknownEvent",
    "ValueDecodeError",
    "Vgtid",
    "VgtidEvent",
    "Vitess",
    "VitessError",
    "VitessTableState",
    "arrow_changes",
    "changes",
    "consume",
    "events",
    "rows_as",
    "state_at",
]
