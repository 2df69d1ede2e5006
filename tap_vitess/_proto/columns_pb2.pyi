from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Response(_message.Message):
    __slots__ = ("events",)
    EVENTS_FIELD_NUMBER: _ClassVar[int]
    events: _containers.RepeatedScalarFieldContainer[bytes]
    def __init__(self, events: _Optional[_Iterable[bytes]] = ...) -> None: ...

class Images(_message.Message):
    __slots__ = ("lengths", "values")
    LENGTHS_FIELD_NUMBER: _ClassVar[int]
    VALUES_FIELD_NUMBER: _ClassVar[int]
    lengths: _containers.RepeatedScalarFieldContainer[bytes]
    values: _containers.RepeatedScalarFieldContainer[bytes]
    def __init__(self, lengths: _Optional[_Iterable[bytes]] = ..., values: _Optional[_Iterable[bytes]] = ...) -> None: ...

class Changes(_message.Message):
    __slots__ = ("before", "after", "data_columns", "json_partial_values")
    BEFORE_FIELD_NUMBER: _ClassVar[int]
    AFTER_FIELD_NUMBER: _ClassVar[int]
    DATA_COLUMNS_FIELD_NUMBER: _ClassVar[int]
    JSON_PARTIAL_VALUES_FIELD_NUMBER: _ClassVar[int]
    before: Images
    after: Images
    data_columns: _containers.RepeatedScalarFieldContainer[bytes]
    json_partial_values: _containers.RepeatedScalarFieldContainer[bytes]
    def __init__(self, before: _Optional[_Union[Images, _Mapping]] = ..., after: _Optional[_Union[Images, _Mapping]] = ..., data_columns: _Optional[_Iterable[bytes]] = ..., json_partial_values: _Optional[_Iterable[bytes]] = ...) -> None: ...

class CopiedRowEvent(_message.Message):
    __slots__ = ("table_name", "row_changes", "keyspace", "shard")
    TABLE_NAME_FIELD_NUMBER: _ClassVar[int]
    ROW_CHANGES_FIELD_NUMBER: _ClassVar[int]
    KEYSPACE_FIELD_NUMBER: _ClassVar[int]
    SHARD_FIELD_NUMBER: _ClassVar[int]
    table_name: _containers.RepeatedScalarFieldContainer[bytes]
    row_changes: Changes
    keyspace: bytes
    shard: _containers.RepeatedScalarFieldContainer[bytes]
    def __init__(self, table_name: _Optional[_Iterable[bytes]] = ..., row_changes: _Optional[_Union[Changes, _Mapping]] = ..., keyspace: _Optional[bytes] = ..., shard: _Optional[_Iterable[bytes]] = ...) -> None: ...

class CopiedEvents(_message.Message):
    __slots__ = ("type", "timestamp", "row_event", "keyspace", "shard")
    TYPE_FIELD_NUMBER: _ClassVar[int]
    TIMESTAMP_FIELD_NUMBER: _ClassVar[int]
    ROW_EVENT_FIELD_NUMBER: _ClassVar[int]
    KEYSPACE_FIELD_NUMBER: _ClassVar[int]
    SHARD_FIELD_NUMBER: _ClassVar[int]
    type: _containers.RepeatedScalarFieldContainer[int]
    timestamp: _containers.RepeatedScalarFieldContainer[int]
    row_event: CopiedRowEvent
    keyspace: bytes
    shard: _containers.RepeatedScalarFieldContainer[bytes]
    def __init__(self, type: _Optional[_Iterable[int]] = ..., timestamp: _Optional[_Iterable[int]] = ..., row_event: _Optional[_Union[CopiedRowEvent, _Mapping]] = ..., keyspace: _Optional[bytes] = ..., shard: _Optional[_Iterable[bytes]] = ...) -> None: ...

class CopiedResponse(_message.Message):
    __slots__ = ("events",)
    EVENTS_FIELD_NUMBER: _ClassVar[int]
    events: CopiedEvents
    def __init__(self, events: _Optional[_Union[CopiedEvents, _Mapping]] = ...) -> None: ...

class Image(_message.Message):
    __slots__ = ("lengths", "values")
    LENGTHS_FIELD_NUMBER: _ClassVar[int]
    VALUES_FIELD_NUMBER: _ClassVar[int]
    lengths: bytes
    values: bytes
    def __init__(self, lengths: _Optional[bytes] = ..., values: _Optional[bytes] = ...) -> None: ...

class Change(_message.Message):
    __slots__ = ("before", "after")
    BEFORE_FIELD_NUMBER: _ClassVar[int]
    AFTER_FIELD_NUMBER: _ClassVar[int]
    before: Image
    after: Image
    def __init__(self, before: _Optional[_Union[Image, _Mapping]] = ..., after: _Optional[_Union[Image, _Mapping]] = ...) -> None: ...

class ChangedRowEvent(_message.Message):
    __slots__ = ("table_name", "row_changes", "shard", "is_internal_table")
    TABLE_NAME_FIELD_NUMBER: _ClassVar[int]
    ROW_CHANGES_FIELD_NUMBER: _ClassVar[int]
    SHARD_FIELD_NUMBER: _ClassVar[int]
    IS_INTERNAL_TABLE_FIELD_NUMBER: _ClassVar[int]
    table_name: _containers.RepeatedScalarFieldContainer[str]
    row_changes: _containers.RepeatedCompositeFieldContainer[Change]
    shard: str
    is_internal_table: bool
    def __init__(self, table_name: _Optional[_Iterable[str]] = ..., row_changes: _Optional[_Iterable[_Union[Change, _Mapping]]] = ..., shard: _Optional[str] = ..., is_internal_table: bool = ...) -> None: ...

class ChangedEvent(_message.Message):
    __slots__ = ("type", "timestamp", "row_event", "current_time", "shard")
    TYPE_FIELD_NUMBER: _ClassVar[int]
    TIMESTAMP_FIELD_NUMBER: _ClassVar[int]
    ROW_EVENT_FIELD_NUMBER: _ClassVar[int]
    CURRENT_TIME_FIELD_NUMBER: _ClassVar[int]
    SHARD_FIELD_NUMBER: _ClassVar[int]
    type: int
    timestamp: int
    row_event: _containers.RepeatedCompositeFieldContainer[ChangedRowEvent]
    current_time: int
    shard: str
    def __init__(self, type: _Optional[int] = ..., timestamp: _Optional[int] = ..., row_event: _Optional[_Iterable[_Union[ChangedRowEvent, _Mapping]]] = ..., current_time: _Optional[int] = ..., shard: _Optional[str] = ...) -> None: ...

class ChangedResponse(_message.Message):
    __slots__ = ("events",)
    EVENTS_FIELD_NUMBER: _ClassVar[int]
    events: _containers.RepeatedCompositeFieldContainer[ChangedEvent]
    def __init__(self, events: _Optional[_Iterable[_Union[ChangedEvent, _Mapping]]] = ...) -> None: ...
