"""Sessions recorded from a real Vitess, in tests/captures.

`NAME.binpb` has the VStreamResponse messages as they came, each after its length as a varint.
`NAME.json` has the request, how the call ended, and the SQL that ran meanwhile. Recordings under
`v24/` are from a snapshot of Vitess 24, the others from 22.0.3.
"""

import json
from collections.abc import Iterator, Sequence
from concurrent import futures
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import grpc
from google.protobuf import json_format

from tap_vitess._proto import vtgate_pb2 as vtgate
from tap_vitess._proto.vtgate_pb2 import VStreamRequest, VStreamResponse
from tap_vitess.config import Config
from tap_vitess.vtgate.grpc import METHOD

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


@contextmanager
def replay(
    *calls: Sequence[VStreamResponse], end: str = "UNAVAILABLE", details: str = ""
) -> Iterator[Config]:
    """Serve responses call by call, each followed by the end; later calls get only the end."""
    rest = list(calls)

    def stream(
        _: vtgate.VStreamRequest, context: grpc.ServicerContext
    ) -> Iterator[vtgate.VStreamResponse]:
        yield from rest.pop(0) if rest else ()
        code = getattr(grpc.StatusCode, end, None)
        if code is not None and code is not grpc.StatusCode.DEADLINE_EXCEEDED:
            context.abort(code, details)

    handler = grpc.unary_stream_rpc_method_handler(
        stream,
        request_deserializer=vtgate.VStreamRequest.FromString,
        response_serializer=vtgate.VStreamResponse.SerializeToString,
    )
    service, method = METHOD.removeprefix("/").split("/")
    server = grpc.server(futures.ThreadPoolExecutor(2))
    server.add_generic_rpc_handlers(
        [grpc.method_handlers_generic_handler(service, {method: handler})]
    )
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield Config.from_settings({"host": "127.0.0.1", "grpc_port": port})
    finally:
        server.stop(None).wait()
