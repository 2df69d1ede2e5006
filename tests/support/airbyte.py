"""Runs `source-vitess` in its own process and applies its messages as a destination does.

Every line is checked against the protocol's models.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from airbyte_protocol.models import AirbyteMessage, ConfiguredAirbyteCatalog

from tap_vitess.airbyte.catalog import stream_of
from tap_vitess.airbyte.spec import config_of
from tap_vitess.survey import discovery
from tap_vitess.vtgate.retry import RetryOptions

SECONDS = 60
Message = dict[str, Any]
# The connector, giving up at the first fault instead of after minutes.
IMPATIENT = """
import sys
from tap_vitess.airbyte.commands import run
from tap_vitess.vtgate.retry import RetryOptions
sys.exit(run(retry=RetryOptions(budget=0, longest_wait=0.01)))
"""


@dataclass
class Done:
    """The result of a command."""

    code: int
    messages: list[Message]
    errors: str

    def of(self, kind: str) -> list[Message]:
        """Return the bodies of the messages of a type."""
        name = {"CONNECTION_STATUS": "connectionStatus"}.get(kind, kind.lower())
        return [message[name] for message in self.messages if message["type"] == kind]

    def traces(self, kind: str) -> list[Message]:
        """Return the bodies of the traces of a type."""
        return [trace[kind.lower()] for trace in self.of("TRACE") if trace["type"] == kind]

    def statuses(self) -> dict[str, list[str]]:
        """Return each stream's statuses in order."""
        found = defaultdict(list)
        for told in self.traces("STREAM_STATUS"):
            found[told["stream_descriptor"]["name"]].append(told["status"])
        return dict(found)

    def ids(self, stream: str) -> list[int]:
        """List the ids of a stream's records."""
        return [r["data"]["id"] for r in self.of("RECORD") if r["stream"] == stream]

    @property
    def state(self) -> list[Message]:
        """The state file of the next sync."""
        return self.of("STATE")[-1:]


@dataclass
class Connector:
    """The connector, with its own folder."""

    folder: Path
    config: dict[str, Any]
    impatient: bool = False
    environment: dict[str, str] = field(default_factory=dict)

    def command(self, name: str, **files: object) -> list[str]:
        """Write the files and return the command line."""
        program = ["-c", IMPATIENT] if self.impatient else ["-m", "tap_vitess.airbyte"]
        arguments = [sys.executable, "-W", "error", *program, name]
        if name != "spec":
            files["config"] = self.config
        for option, value in files.items():
            path = self.folder / f"{option}.json"
            path.write_text(json.dumps(value))
            arguments += [f"--{option}", str(path)]
        return arguments

    def run(self, name: str, **files: object) -> Done:
        """Run a command."""
        done = subprocess.run(
            self.command(name, **files),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=False,
            env={**os.environ, **self.environment},
        )
        return Done(done.returncode, messages(done.stdout), done.stderr)

    def catalog(self, *tables: str, full_refresh: bool = False) -> dict[str, Any]:
        """Discover in this process, and configure some streams or all."""
        config = config_of(self.config)
        found = discovery.discover(config, RetryOptions(budget=0))
        streams = [stream_of(t, config.values) for t in found if not tables or t.name in tables]
        mode = "full_refresh" if full_refresh else "incremental"
        catalog = {
            "streams": [
                {
                    "stream": stream,
                    "sync_mode": mode if mode in stream["supported_sync_modes"] else "full_refresh",
                    "destination_sync_mode": "append_dedup" if mode == "incremental" else "append",
                    "cursor_field": stream["default_cursor_field"],
                    "primary_key": stream["source_defined_primary_key"],
                    "generation_id": 1,
                    "minimum_generation_id": 0,
                    "sync_id": 1,
                }
                for stream in streams
            ]
        }
        ConfiguredAirbyteCatalog.model_validate(catalog)
        return catalog


def messages(text: str) -> list[Message]:
    """Read the lines of stdout."""
    found = [json.loads(line) for line in text.splitlines()]
    for message in found:
        AirbyteMessage.model_validate(message)
        assert message["type"].lower() in message or message["type"] == "CONNECTION_STATUS"
    return found


class Destination:
    """Keeps the newest record of each key by its cursor, as append_dedup does."""

    def __init__(self, keys: Mapping[str, Sequence[str]] | None = None) -> None:
        """Set the key columns of streams whose key is not `id`."""
        self._keys = keys or {}
        self._rows: dict[tuple[str, Any], Message] = {}

    def take(self, done: Done) -> None:
        """Apply a sync's records."""
        for record in done.of("RECORD"):
            data, names = record["data"], self._keys.get(record["stream"], ("id",))
            key = (record["stream"], tuple(data[name] for name in names))
            had = self._rows.get(key)
            if had is None or had["_ab_cdc_cursor"] < record["data"]["_ab_cdc_cursor"]:
                self._rows[key] = record["data"]

    def contents(self, stream: str) -> list[Message]:
        """Return the rows that are not deleted, without the connector's own columns, sorted."""
        rows = [
            {name: value for name, value in data.items() if not name.startswith("_ab_")}
            for (found, _), data in self._rows.items()
            if found == stream and data["_ab_cdc_deleted_at"] is None
        ]
        return sorted(rows, key=json.dumps)
