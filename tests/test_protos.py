"""The generated code is current, and unknown fields survive it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from support import recordings

from tap_vitess._proto import query_pb2 as query

ROOT = Path(__file__).parents[1]


def test_generated_code_is_current() -> None:
    """The generator, run anew, writes what is checked in."""
    done = subprocess.run(
        [ROOT / "scripts" / "generate-protos", "--check"],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"},
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("name", recordings.names())
def test_recorded_messages_round_trip(name: str) -> None:
    """Nothing a real VTGate sent is lost: the same bytes, unknown fields moved to the end."""
    data = (recordings.DIRECTORY / f"{name}.binpb").read_bytes()
    written = b""
    for response in recordings.load(name).responses:
        message = response.SerializeToString()
        written += _varint(len(message)) + message
    assert sorted(written) == sorted(data)


def _varint(number: int) -> bytes:
    encoded = b""
    while number > 0x7F:
        encoded += bytes([number & 0x7F | 0x80])
        number >>= 7
    return encoded + bytes([number])


def test_unknown_fields_survive() -> None:
    """A lastpk goes back as it came, also with fields of later versions."""
    raw = b"\x0a\x04\x0a\x02id" + b"\xfa\x3e\x03new"  # field 1003
    assert query.QueryResult.FromString(raw).SerializeToString() == raw
