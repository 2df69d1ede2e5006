"""Sessions recorded from a real Vitess, in tests/captures.

`NAME.binpb` holds the VStreamResponse messages as they came, each behind its length as a varint;
`NAME.json` the request, how the call ended and the SQL that ran meanwhile. Names under `v24/` are
those of a snapshot of Vitess 24, the others of 22.0.3.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from google.protobuf import json_format

from tap_vitess._proto.vtgate_pb2 import VStreamRequest, VStreamResponse

DIRECTORY = Path(__file__).parents[1] / "captures"


@dataclass(frozen=True)
class Recording:
    name: str
    request: VStreamRequest
    responses: list[VStreamResponse]
    end: str
    details: str
    sql: list[str]


def names() -> list[str]:
    """All recordings."""
    found = (path.relative_to(DIRECTORY).with_suffix("") for path in DIRECTORY.rglob("*.binpb"))
    return sorted(map(str, found))


def load(name: str) -> Recording:
    path = DIRECTORY / name
    told = json.loads(path.with_suffix(".json").read_text())
    request = VStreamRequest()
    json_format.ParseDict(told["request"], request)
    messages = _messages(path.with_suffix(".binpb").read_bytes())
    return Recording(
        name=name,
        request=request,
        responses=[VStreamResponse.FromString(message) for message in messages],
        end=told["end"],
        details=told["details"],
        sql=told["sql_during_stream"],
    )


def _messages(data: bytes) -> Iterator[bytes]:
    start = 0
    while start < len(data):
        length = shift = 0
        while True:
            byte = data[start]
            start += 1
            length |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                break
        yield data[start : start + length]
        start += length
