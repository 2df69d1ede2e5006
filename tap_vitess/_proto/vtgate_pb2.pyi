from tap_vitess._proto import binlogdata_pb2 as _binlogdata_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class TabletType(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    UNKNOWN: _ClassVar[TabletType]
    PRIMARY: _ClassVar[TabletType]
    REPLICA: _ClassVar[TabletType]
    RDONLY: _ClassVar[TabletType]
UNKNOWN: TabletType
PRIMARY: TabletType
REPLICA: TabletType
RDONLY: TabletType

class VStreamFlags(_message.Message):
    __slots__ = ("minimize_skew", "heartbeat_interval", "stop_on_reshard", "cells", "cell_preference")
    MINIMIZE_SKEW_FIELD_NUMBER: _ClassVar[int]
    HEARTBEAT_INTERVAL_FIELD_NUMBER: _ClassVar[int]
    STOP_ON_RESHARD_FIELD_NUMBER: _ClassVar[int]
    CELLS_FIELD_NUMBER: _ClassVar[int]
    CELL_PREFERENCE_FIELD_NUMBER: _ClassVar[int]
    minimize_skew: bool
    heartbeat_interval: int
    stop_on_reshard: bool
    cells: str
    cell_preference: str
    def __init__(self, minimize_skew: bool = ..., heartbeat_interval: _Optional[int] = ..., stop_on_reshard: bool = ..., cells: _Optional[str] = ..., cell_preference: _Optional[str] = ...) -> None: ...

class VStreamRequest(_message.Message):
    __slots__ = ("tablet_type", "vgtid", "filter", "flags")
    TABLET_TYPE_FIELD_NUMBER: _ClassVar[int]
    VGTID_FIELD_NUMBER: _ClassVar[int]
    FILTER_FIELD_NUMBER: _ClassVar[int]
    FLAGS_FIELD_NUMBER: _ClassVar[int]
    tablet_type: TabletType
    vgtid: _binlogdata_pb2.VGtid
    filter: _binlogdata_pb2.Filter
    flags: VStreamFlags
    def __init__(self, tablet_type: _Optional[_Union[TabletType, str]] = ..., vgtid: _Optional[_Union[_binlogdata_pb2.VGtid, _Mapping]] = ..., filter: _Optional[_Union[_binlogdata_pb2.Filter, _Mapping]] = ..., flags: _Optional[_Union[VStreamFlags, _Mapping]] = ...) -> None: ...

class VStreamResponse(_message.Message):
    __slots__ = ("events",)
    EVENTS_FIELD_NUMBER: _ClassVar[int]
    events: _containers.RepeatedCompositeFieldContainer[_binlogdata_pb2.VEvent]
    def __init__(self, events: _Optional[_Iterable[_Union[_binlogdata_pb2.VEvent, _Mapping]]] = ...) -> None: ...
