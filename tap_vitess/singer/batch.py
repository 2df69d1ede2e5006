"""Rows as BATCH messages: files of JSON lines that targets built on the SDK load as they are.

A row's file is announced before the STATE, SCHEMA or ACTIVATE_VERSION that follows the row. From
then on it belongs to the target. A later run removes it when it is old enough: by the time when it
was written, or if that is unknown (object stores), when its run began.

What surprised us about targets built on the SDK (tests/test_sdk.py): they store a BATCH as it
comes, but a RECORD later, so a stream has only one of the two in a run. They do not give a BATCH's
rows its version, so the rows carry it themselves, in the column that ACTIVATE_VERSION uses.
"""

from __future__ import annotations

import gzip
import re
import secrets
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Self

import orjson
from upath import UPath

from tap_vitess.errors import ConfigError, TargetClosedError
from tap_vitess.log import logger_of
from tap_vitess.singer.output import BufferedWriter

logger = logger_of(__name__)

VERSION_COLUMN = "_sdc_table_version"
ROWS = 10_000  # of a file, as the SDK's
BYTES = 1 << 26  # of a file's lines, before they are packed
_FORM = "%Y%m%dT%H%M%SZ"
_NAME = r"tap-vitess-(\d{8}T\d{6}Z)-[0-9a-f]{8}-\d{6}-[\w.-]*\.jsonl(\.gz)?"


@dataclass(frozen=True, slots=True)
class BatchOptions:
    """The SDK's setting batch_config.

    root: a folder or a URL that fsspec knows. prefix: of file names. packed: whether files are
    gzipped. rows: how many rows end a file, roughly: rows that are written together stay together.
    params: for fsspec.
    """

    root: str
    prefix: str = ""
    packed: bool = True
    rows: int = ROWS
    params: Mapping[str, Any] | None = None

    @classmethod
    def of(cls, setting: Mapping[str, Any] | None) -> Self | None:
        """Read the setting; None if it is not set.

        Raises:
            ConfigError: it asks for something impossible.
        """
        if not setting:
            return None
        encoding, storage = (setting.get(name) or {} for name in ("encoding", "storage"))
        kind, packing = encoding.get("format"), encoding.get("compression")
        if kind != "jsonl":
            raise ConfigError(
                f"setting batch_config: {kind or 'no format'} cannot be written, because a column "
                "of documents has no one type in it; set encoding.format to `jsonl`"
            )
        if not storage.get("root"):
            raise ConfigError(
                "setting batch_config: set storage.root to the folder or URL for the files, which "
                "the target must be able to read"
            )
        rows = setting.get("batch_size", ROWS)
        if not isinstance(rows, int) or rows < 1:
            raise ConfigError("setting batch_config: set batch_size to a number of rows")
        prefix, params = storage.get("prefix") or "", storage.get("params")
        return cls(storage["root"], prefix, packing == "gzip", rows, params)


class BatchFolder:
    """Where a run puts its files."""

    def __init__(self, options: BatchOptions, writer: BufferedWriter) -> None:
        """Create the folder if it does not exist.

        Raises:
            ConfigError: that is not possible.
        """
        self.options = options
        self._writer = writer
        self._run = f"{datetime.now(UTC):{_FORM}}-{secrets.token_hex(4)}"
        self._files = 0
        try:
            self._root: UPath = UPath(options.root, **(options.params or {})).absolute()
            self._root.mkdir(parents=True, exist_ok=True)
        except (OSError, ImportError, ValueError) as error:
            raise ConfigError(
                f"setting batch_config: {options.root} cannot be used: {_said(error)}"
            ) from error

    def tidy(self, hours: float) -> None:
        """Remove the files that earlier runs wrote more than so many hours ago."""
        form = re.compile(re.escape(self.options.prefix) + _NAME)
        oldest = datetime.now(UTC) - timedelta(hours=hours)
        removed = 0
        try:
            for path in self._root.iterdir():
                match = form.fullmatch(path.name)
                if match and match[1] <= f"{oldest:{_FORM}}" and _written(path) <= oldest:
                    path.unlink(missing_ok=True)
                    removed += 1
        except OSError as error:
            logger.warning("%s: old files are left there: %s", self.options.root, _said(error))
        if removed:
            logger.info("%s: %d files of earlier runs removed", self.options.root, removed)

    def put(self, stream: str, lines: bytes) -> None:
        """Write a file of a stream's rows, and announce it to the target.

        Raises:
            TargetClosedError: the file cannot be written, or nobody reads stdout any more.
        """
        packed = self.options.packed
        self._files += 1
        name = re.sub(r"[^\w.-]", "_", stream, flags=re.ASCII)[:100]
        ending = ".jsonl.gz" if packed else ".jsonl"
        path = self._root / (
            f"{self.options.prefix}tap-vitess-{self._run}-{self._files:06}-{name}{ending}"
        )
        try:
            path.write_bytes(gzip.compress(lines, 1) if packed else lines)
        except OSError as error:
            raise TargetClosedError(
                f"stream {stream}: a BATCH file cannot be written to {self.options.root}: "
                f"{_said(error)}"
            ) from error
        encoding = {"format": "jsonl", "compression": "gzip" if packed else "none"}
        message = {"stream": stream, "encoding": encoding, "manifest": [path.as_uri()]}
        self._writer.write_line(orjson.dumps({"type": "BATCH", **message}) + b"\n")
        self._writer.flush()


class Batch:
    """The rows of a stream that are in no file yet."""

    def __init__(self, folder: BatchFolder, stream: str) -> None:
        self._folder = folder
        self._stream = stream
        self._lines: list[bytes] = []
        self._rows = self._size = 0

    def add(self, lines: Iterable[bytes]) -> None:
        """Add lines; one text may hold many, or a part of one."""
        for some in lines:
            self._lines.append(some)
            self._rows += some.count(b"\n")
            self._size += len(some)
            full = self._rows >= self._folder.options.rows or self._size >= BYTES
            if full and some.endswith(b"\n"):
                self.flush()

    def flush(self) -> None:
        """Hand all rows to the target."""
        if self._lines:
            lines = b"".join(self._lines)
            self._lines.clear()
            self._rows = self._size = 0
            self._folder.put(self._stream, lines)


def _written(path: UPath) -> datetime:
    """Return when a file was written; the oldest time if that is unknown, or the file is gone."""
    if path.protocol in {"", "file", "local"}:
        with suppress(FileNotFoundError):  # another job may tidy the same folder
            return datetime.fromtimestamp(path.stat().st_mtime, UTC)
    return datetime.min.replace(tzinfo=UTC)


def _said(error: Exception) -> str:
    return (isinstance(error, OSError) and error.strerror) or str(error)
