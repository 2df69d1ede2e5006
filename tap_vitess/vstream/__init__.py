"""VStream for Python: write your own consumer of Vitess tables. See docs/library.md.

The public names are those imported here as themselves. Level 3 is built only on level 2. Level 2 is
a sink of `run/keyspaces.py`, like `singer/sink.py` and `airbyte/read.py`. Level 1 is a front end
over `vtgate/grpc.py` and `vtgate/reader.py`. Nothing here needs Singer.
"""

from __future__ import annotations

from tap_vitess.errors import AuthError as AuthError
from tap_vitess.errors import CatalogError as CatalogError
from tap_vitess.errors import ConfigError as ConfigError
from tap_vitess.errors import ConnectError as ConnectError
from tap_vitess.errors import CopyCutError as CopyCutError
from tap_vitess.errors import FencedError as FencedError
from tap_vitess.errors import HistoryLostError as HistoryLostError
from tap_vitess.errors import MappingError as MappingError
from tap_vitess.errors import PositionLostError as PositionLostError
from tap_vitess.errors import ProtocolError as ProtocolError
from tap_vitess.errors import RequestError as RequestError
from tap_vitess.errors import RetriableError as RetriableError
from tap_vitess.errors import ShardsGoneError as ShardsGoneError
from tap_vitess.errors import StateError as StateError
from tap_vitess.errors import TableGoneError as TableGoneError
from tap_vitess.errors import ValueDecodeError as ValueDecodeError
from tap_vitess.errors import VitessError as VitessError
from tap_vitess.protocol.gtid import GtidSet as GtidSet
from tap_vitess.protocol.vgtid import Vgtid as Vgtid
from tap_vitess.run.joined import join_states as join_states
from tap_vitess.vstream.aio import achanges as achanges
from tap_vitess.vstream.aio import aconsume as aconsume
from tap_vitess.vstream.arrow import arrow_changes as arrow_changes
from tap_vitess.vstream.arrow_batches import ArrowBatch as ArrowBatch
from tap_vitess.vstream.arrow_reader import TableRows as TableRows
from tap_vitess.vstream.arrow_reader import TableSchema as TableSchema
from tap_vitess.vstream.batches import Batch as Batch
from tap_vitess.vstream.changes import Boundary as Boundary
from tap_vitess.vstream.changes import TableCopied as TableCopied
from tap_vitess.vstream.changes import changes as changes
from tap_vitess.vstream.changes import state_at as state_at
from tap_vitess.vstream.connection import Vitess as Vitess
from tap_vitess.vstream.consume import Consumed as Consumed
from tap_vitess.vstream.consume import consume as consume
from tap_vitess.vstream.decoding import Change as Change
from tap_vitess.vstream.events import BeginEvent as BeginEvent
from tap_vitess.vstream.events import Column as Column
from tap_vitess.vstream.events import CommitEvent as CommitEvent
from tap_vitess.vstream.events import CopyCompletedEvent as CopyCompletedEvent
from tap_vitess.vstream.events import DdlEvent as DdlEvent
from tap_vitess.vstream.events import Event as Event
from tap_vitess.vstream.events import FieldEvent as FieldEvent
from tap_vitess.vstream.events import HeartbeatEvent as HeartbeatEvent
from tap_vitess.vstream.events import JournalEvent as JournalEvent
from tap_vitess.vstream.events import OtherEvent as OtherEvent
from tap_vitess.vstream.events import ReopenedEvent as ReopenedEvent
from tap_vitess.vstream.events import RowEvent as RowEvent
from tap_vitess.vstream.events import UnknownEvent as UnknownEvent
from tap_vitess.vstream.events import VgtidEvent as VgtidEvent
from tap_vitess.vstream.mapping import rows_as as rows_as
from tap_vitess.vstream.query import Query as Query
from tap_vitess.vstream.raw import events as events
from tap_vitess.vstream.stores import FileState as FileState
from tap_vitess.vstream.stores import MemoryState as MemoryState
from tap_vitess.vstream.stores import StateStore as StateStore
from tap_vitess.vstream.stores import VitessTableState as VitessTableState
from tap_vitess.vtgate.address import Tls as Tls
from tap_vitess.vtgate.retry import RetryOptions as RetryOptions
