"""A tap and a target in one process, for tests: the tap's real command path, a model target.

The pipe can break after any number of lines, as if the tap had been killed there: the target does
not see the rest.
"""

from __future__ import annotations

import contextlib
import json
import signal
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

from support.shops import TABLES
from tap_vitess.config import Config
from tap_vitess.errors import TargetClosedError
from tap_vitess.protocol.vgtid import Vgtid
from tap_vitess.sandbox.cluster import Cluster
from tap_vitess.sandbox.server import Sandbox
from tap_vitess.singer.tap import TapVitess
from tap_vitess.survey import blockers, keyspace, tables, vschema
from tap_vitess.survey.keyspace import Survey
from tap_vitess.vtgate.retry import RetryOptions

Key = tuple[Any, ...]
Message = dict[str, Any]


class ImpatientTap(TapVitess):
    """A tap that gives up at the first fault."""

    retry: ClassVar[RetryOptions] = RetryOptions(budget=0, longest_wait=0.01)


class QuickTap(TapVitess):
    """A tap that does not wait long between two attempts."""

    retry: ClassVar[RetryOptions] = RetryOptions(budget=20, longest_wait=0.01, settle=0.3)


# A survey's answers for what a test does not define.
NOTHING: dict[Callable[..., Any], Any] = {
    keyspace.version: (22, 0, 3),
    keyspace.facts: {},
    keyspace.tablets: [],
    blockers.throttled: {},
    blockers.lock_waits: [],
    blockers.readers: [],
    tables.routed: {},
    tables.not_resumable: {},
    vschema.primary_vindexes: {},
    tables.has_table: False,
    tables.column_charsets: {},
    tables.expression_indexes: [],
    tables.effects: [],
    tables.cascades: [],
}


class Asked(Survey):
    """A survey with a position and other given answers; it asks nobody."""

    def __init__(
        self,
        position: Callable[[], Vgtid],
        answers: Mapping[Callable[..., Any], Any] = NOTHING,
        tablet_type: str = "PRIMARY",
    ) -> None:
        super().__init__(Config.from_settings({"host": "nowhere"}), "shop", tablet_type)
        self._position = position
        self._answers = {**NOTHING, **answers}

    def ask(self, question: Callable[..., Any], *_: Any, **__: Any) -> Any:
        return self._position() if question is keyspace.position else self._answers[question]


@dataclass
class Target:
    """Applies messages like a target that upserts and deletes; keeps every STATE it saw."""

    tables: dict[str, dict[Key, tuple[int, dict[str, Any]]]] = field(default_factory=dict)
    states: list[dict[str, Any]] = field(default_factory=list)
    messages: list[Message] = field(default_factory=list)
    keys: dict[str, list[str]] = field(default_factory=dict)

    def take(self, line: bytes) -> None:
        """Apply one line."""
        self.apply(json.loads(line))

    def apply(self, message: Message) -> None:
        """Apply one message."""
        self.messages.append(message)
        getattr(self, "_" + message["type"].lower())(message)

    def _schema(self, message: Message) -> None:
        self.keys[message["stream"]] = message["key_properties"]
        self.tables.setdefault(message["stream"], {})

    def _record(self, message: Message) -> None:
        stream, record = message["stream"], message["record"]
        rows = self.tables[stream]
        key: Key = tuple(record[name] for name in self.keys[stream]) or (len(rows),)
        if record["_sdc_deleted_at"] is None:
            rows[key] = (message["version"], record)
        else:
            rows.pop(key, None)

    def _activate_version(self, message: Message) -> None:
        rows, active = self.tables[message["stream"]], message["version"]
        assert all(version <= active for version, _ in rows.values()), "a version went back"
        for key in [key for key, (version, _) in rows.items() if version < active]:
            del rows[key]

    def _state(self, message: Message) -> None:
        self.states.append(message["value"])

    @property
    def state(self) -> dict[str, Any]:
        """The last STATE seen."""
        return self.states[-1] if self.states else {}

    def contents(self, stream: str) -> list[dict[str, Any]]:
        """Return a table's rows without the tap's own columns, sorted."""
        rows = [
            {name: value for name, value in record.items() if not name.startswith("_sdc_")}
            for _, record in self.tables.get(stream, {}).values()
        ]
        return sorted(rows, key=json.dumps)

    def records(self, stream: str | None = None) -> list[dict[str, Any]]:
        """List all records seen, of one stream or of all."""
        return [
            message["record"]
            for message in self.messages
            if message["type"] == "RECORD" and stream in (None, message["stream"])
        ]


class _Pipe:
    """Stands in for sys.stdout."""

    def __init__(self, target: Target, lines: int | None) -> None:
        self._target = target
        self._left = lines
        self._unfinished = b""
        self.buffer = self

    def write(self, data: memoryview) -> int:
        *lines, self._unfinished = (self._unfinished + bytes(data)).split(b"\n")
        for line in lines:
            if self._left is not None:
                if not self._left:
                    raise BrokenPipeError
                self._left -= 1
            self._target.take(line)
        return len(data)

    def flush(self) -> None:
        pass


@contextlib.contextmanager
def _signals_kept() -> Iterator[None]:
    kept = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in kept.items():
            signal.signal(number, handler)


def settings(sandbox: Sandbox, **more: Any) -> dict[str, Any]:
    """Return the settings to reach a sandbox; a STATE at every boundary."""
    return {
        "host": sandbox.host,
        "grpc_port": sandbox.grpc_port,
        "mysql_port": sandbox.mysql_port,
        "checkpoint_seconds": 0,
        **more,
    }


def run(
    config: dict[str, Any],
    target: Target,
    *,
    state: dict[str, Any] | None = None,
    catalog: dict[str, Any] | None = None,
    lines: int | None = None,
    tap_class: type[TapVitess] = QuickTap,
) -> bool:
    """Run the tap into the target; return whether it ended before the pipe broke."""
    stdout = sys.stdout
    with _signals_kept():
        tap = tap_class(
            config=config, state=target.state if state is None else state, catalog=catalog
        )
        sys.stdout = _Pipe(target, lines)
        try:
            tap.sync_all()
        except TargetClosedError:
            return False
        finally:
            sys.stdout = stdout
    return True


def discover(config: dict[str, Any], tap_class: type[TapVitess] = TapVitess) -> dict[str, Any]:
    """Return the catalog as in a file."""
    with _signals_kept():
        found: dict[str, Any] = json.loads(tap_class(config=config).catalog_json_text)
        return found


def only(catalog: dict[str, Any], *names: str) -> dict[str, Any]:
    """Return the catalog with only these streams selected."""
    for stream in catalog["streams"]:
        [root] = [m for m in stream["metadata"] if not m["breadcrumb"]]
        root["metadata"]["selected"] = stream["tap_stream_id"] in names
    return catalog


def with_method(catalog: dict[str, Any], stream: str, method: str) -> dict[str, Any]:
    """Return the catalog with one stream's replication method."""
    for entry in catalog["streams"]:
        for metadata in entry["metadata"]:
            if entry["tap_stream_id"] == stream and not metadata["breadcrumb"]:
                metadata["metadata"]["replication-method"] = method
                entry["replication_method"] = method
    return catalog


def without_shard(state: dict[str, Any], shard: str) -> dict[str, Any]:
    """Return a state that lacks a shard in each position."""
    for group in state["bookmarks"]["vitess:shop"]["groups"]:
        entries = json.loads(group["vgtid"])["shard_gtids"]
        left = [entry for entry in entries if entry["shard"] != shard]
        assert len(left) == len(entries) - 1
        group["vgtid"] = json.dumps({"shard_gtids": left})
    return state


def check(sandbox: Sandbox, target: Target) -> None:
    """Fail unless the target has the rows of the three tables."""
    for name in TABLES:
        assert target.contents(f"shop-{name}") == expected(sandbox.cluster, "shop", name), name


def expected(cluster: Cluster, keyspace: str, table: str) -> list[dict[str, Any]]:
    """Return what a target should have of a table with integers and text."""
    columns = {c.name: c.column_type for c in cluster.tables(keyspace)[table].columns}
    rows = [
        {name: _value(columns[name], raw) for name, raw in row.items()}
        for row in cluster.rows(keyspace, table)
    ]
    return sorted(rows, key=json.dumps)


def _value(column_type: str, raw: bytes | None) -> Any:
    if raw is None:
        return None
    return int(raw) if "int" in column_type else raw.decode()
