"""VStream for Python: your own consumer of a Vitess' tables. See docs/library.md.

The public names are those of `__all__`, and they are imported from here. They are looked up when
they are first asked for, so that whoever needs one module of this package (the tap) does not
import the others, and so that there are no cycles: the levels stand in `tap_vitess.consumer`,
above this package. Nothing here needs Singer, and none of it imports the Singer SDK.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tap_vitess.config import Tls
    from tap_vitess.consumer.batches import Batch
    from tap_vitess.consumer.changes import Boundary, TableCopied, changes
    from tap_vitess.consumer.connection import Vitess
    from tap_vitess.consumer.consume import Consumed, consume
    from tap_vitess.consumer.decoding import Change
    from tap_vitess.consumer.events import (
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
    from tap_vitess.consumer.mapping import rows_as
    from tap_vitess.consumer.raw import events
    from tap_vitess.consumer.start import state_at
    from tap_vitess.consumer.stores import FileState, MemoryState, StateStore, VitessTableState
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
    from tap_vitess.vstream.gtid import GtidSet
    from tap_vitess.vstream.reader import RetryOptions
    from tap_vitess.vstream.vgtid import Vgtid

__all__ = [
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
    "Tls",
    "UnknownEvent",
    "ValueDecodeError",
    "Vgtid",
    "VgtidEvent",
    "Vitess",
    "VitessError",
    "VitessTableState",
    "changes",
    "consume",
    "events",
    "rows_as",
    "state_at",
]

_HOMES = {
    "config": ["Tls"],
    "consumer.batches": ["Batch"],
    "consumer.changes": ["Boundary", "TableCopied", "changes"],
    "consumer.connection": ["Vitess"],
    "consumer.consume": ["Consumed", "consume"],
    "consumer.decoding": ["Change"],
    "consumer.events": [
        "BeginEvent",
        "Column",
        "CommitEvent",
        "CopyCompletedEvent",
        "DdlEvent",
        "Event",
        "FieldEvent",
        "HeartbeatEvent",
        "JournalEvent",
        "OtherEvent",
        "ReopenedEvent",
        "RowEvent",
        "UnknownEvent",
        "VgtidEvent",
    ],
    "consumer.mapping": ["rows_as"],
    "consumer.raw": ["events"],
    "consumer.start": ["state_at"],
    "consumer.stores": ["FileState", "MemoryState", "StateStore", "VitessTableState"],
    "errors": [
        "AuthError",
        "CatalogError",
        "ConfigError",
        "ConnectError",
        "CopyCutError",
        "FencedError",
        "HistoryLostError",
        "MappingError",
        "PositionLostError",
        "ProtocolError",
        "RequestError",
        "RetriableError",
        "ShardsGoneError",
        "StateError",
        "TableGoneError",
        "ValueDecodeError",
        "VitessError",
    ],
    "vstream.gtid": ["GtidSet"],
    "vstream.reader": ["RetryOptions"],
    "vstream.vgtid": ["Vgtid"],
}
MODULE_OF = {name: f"tap_vitess.{home}" for home, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> Any:
    module = MODULE_OF.get(name)
    if module is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found = getattr(importlib.import_module(module), name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
