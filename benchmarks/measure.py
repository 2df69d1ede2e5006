"""One tap run, one raw receive, and what of both is told."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.places import Place
from benchmarks.process import Run, run
from tap_vitess.config import Config
from tap_vitess.protocol.request import RequestOptions, copy_request, stream_request
from tap_vitess.protocol.vgtid import Vgtid
from tap_vitess.survey.keyspace import Survey, shards

Json = dict[str, Any]


class Tap:
    """The tap's command line for one keyspace of a place; files go to a directory of its own."""

    def __init__(self, place: Place, keyspace: str, directory: Path) -> None:
        """Write the config and discover."""
        self._place = place
        self._keyspace = keyspace
        self._directory = directory
        config = {
            "host": place.host,
            "grpc_port": place.grpc_port,
            "mysql_port": place.mysql_port,
            "keyspaces": [keyspace],
        }
        settings = Config.from_settings(config)
        self.shards = Survey(settings, keyspace, "PRIMARY").ask(shards)
        self._command = [sys.executable, "-m", "tap_vitess"]
        self._command += ["--config", self._file("config.json", config)]
        found = subprocess.run([*self._command, "--discover"], stdout=subprocess.PIPE, check=True)
        self.catalog: Json = json.loads(found.stdout)

    def _file(self, name: str, value: Json) -> str:
        path = self._directory / f"{self._keyspace}-{name}"
        path.write_text(json.dumps(value))
        return str(path)

    def run(
        self, *, state: Json | None = None, tables: Sequence[str] | None = None, keep: bool = False
    ) -> Run:
        """Run it over some tables, by default all."""
        command = [*self._command, "--catalog", self._file("catalog.json", self._selected(tables))]
        if state is not None:
            command += ["--state", self._file("state.json", state)]
        return run(command, keep=keep)

    def run_arrow(self, table: str, state: Json | None = None) -> Run:
        """Bring a table by the library, as Arrow."""
        place = self._place
        command = [sys.executable, "-m", "benchmarks.arrow", place.host, str(place.grpc_port)]
        command += [str(place.mysql_port), f"{self._keyspace}.{table}"]
        return run(command, stdin=b"" if state is None else json.dumps(state).encode())

    def run_async(self, table: str, kind: str) -> Json:
        """Copy a table by the library for asyncio; return its figures."""
        place = self._place
        command = [sys.executable, "-m", "benchmarks.aio", place.host, str(place.grpc_port)]
        command += [str(place.mysql_port), f"{self._keyspace}.{table}", kind]
        found: Json = json.loads(run(command, keep=True).out)
        return found

    def state(self, tables: Sequence[str] | None = None) -> Json:
        """Run it from the start and return its last STATE."""
        value: Json = json.loads(self.run(tables=tables, keep=True).out)["value"]
        return value

    def _selected(self, tables: Sequence[str] | None) -> Json:
        if tables is None:
            return self.catalog
        names = {f"{self._keyspace}-{table}" for table in tables}
        return {"streams": [s for s in self.catalog["streams"] if s["tap_stream_id"] in names]}

    def receive_copy(self, table: str, *, parse: bool = False) -> Json:
        """Receive the bytes of a table's copy."""
        request = copy_request(self._keyspace, table, dict.fromkeys(self.shards), RequestOptions())
        return self._receive(request.SerializeToString(), parse=parse)

    def receive_changes(self, tables: Sequence[str], state: Json, *, parse: bool = False) -> Json:
        """Receive the bytes of the changes after a state."""
        position = self.position(state)
        request = stream_request(tables, position, RequestOptions())
        return self._receive(request.SerializeToString(), parse=parse)

    def position(self, state: Json) -> Vgtid:
        """Return the position in a state of one group."""
        groups = state["bookmarks"][f"vitess:{self._keyspace}"]["groups"]
        return Vgtid.from_json(self._keyspace, groups[0]["vgtid"])

    def _receive(self, request: bytes, *, parse: bool) -> Json:
        address = f"{self._place.host}:{self._place.grpc_port}"
        command = [sys.executable, "-m", "benchmarks.receive", address]
        done = run([*command, "--parse"] if parse else command, stdin=request, keep=True)
        return {**json.loads(done.out), "cpu": done.cpu}


@dataclass(frozen=True, slots=True)
class Sample:
    """A tap run and the raw receive beside it.

    seconds, raw_seconds: of both, to the last row; of a copy from the first row on, of a stream
    from the request on.
    """

    rows: int
    seconds: float
    tap: Run
    raw: Json
    raw_seconds: float

    def told(self) -> Json:
        """Return the figures."""
        return {
            "rows": self.rows,
            "rows_per_second": self.rows / self.seconds,
            "raw_rows_per_second": self.rows / self.raw_seconds,
            "ratio": self.raw_seconds / self.seconds,
            "cpu_per_million": self.tap.cpu / self.rows * 1e6,
            "raw_cpu_per_million": self.raw["cpu"] / self.rows * 1e6,
            "wall": self.tap.wall,
            "cpu": self.tap.cpu,
            "rss_mb": self.tap.rss / 1e6,
            "bytes_per_row": self.raw["bytes"] / self.rows,
            "responses": self.raw["responses"],
        }


def medians(samples: Sequence[Json]) -> Json:
    """Return the median of each figure."""
    return {name: median(sample[name] for sample in samples) for name in samples[0]}
